"""Webhooks going out: one signed POST to an address that is checked when it is connected to."""

from holdfast.adapters.webhooks.addresses import Addresses, AddressForbidden
from holdfast.adapters.webhooks.fake import FakeSender
from holdfast.adapters.webhooks.http import HttpSender
from holdfast.adapters.webhooks.protocol import (
    DEADLINE_SECONDS,
    Parcel,
    Reply,
    WebhookFailure,
    WebhookRefused,
    WebhookSender,
    WebhookUnavailable,
)
from holdfast.adapters.webhooks.signing import new_secret, signed_headers

__all__ = [
    "DEADLINE_SECONDS",
    "AddressForbidden",
    "Addresses",
    "FakeSender",
    "HttpSender",
    "Parcel",
    "Reply",
    "WebhookFailure",
    "WebhookRefused",
    "WebhookSender",
    "WebhookUnavailable",
    "new_secret",
    "signed_headers",
]
