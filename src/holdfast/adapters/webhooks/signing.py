"""Signatures by the Standard Webhooks specification (standardwebhooks.com, version 1): HMAC-SHA256 over id, time and body."""

import base64
import hashlib
import hmac
import secrets as randomness
from collections.abc import Iterable
from datetime import datetime

_PREFIX = "whsec_"
_SECRET_BYTES = 32  # the specification asks for 24 to 64


def new_secret() -> str:
    """A fresh signing secret, as its owner sees it: `whsec_` and base64."""
    return _PREFIX + base64.b64encode(randomness.token_bytes(_SECRET_BYTES)).decode()


def _signature(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def signed_headers(message_id: str, body: str, at: datetime, secrets: Iterable[str]) -> dict[str, str]:
    """The three headers of the specification; one signature for each secret."""
    seconds = str(int(at.timestamp()))
    signed = f"{message_id}.{seconds}.{body}".encode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": seconds,
        "webhook-signature": " ".join(_signature(secret, signed) for secret in secrets),
    }
