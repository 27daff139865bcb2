"""The `Idempotency-Key` header as a `Once` (draft-ietf-httpapi-idempotency-key-header)."""

import hashlib
import re
from typing import Annotated

import orjson
from fastapi import Depends, Header, Request

from holdfast.core.callers import Caller
from holdfast.core.errors import Invalid
from holdfast.idempotency import Key, Once
from holdfast.web.errors import instance_of, refusal_answer

_KEY = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?", re.ASCII)


def _key_text(header: str) -> str:
    text = header.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if not _KEY.fullmatch(text):
        message = "An Idempotency-Key has 1 to 255 printable ASCII characters."
        raise Invalid(message)
    return text


def _canonical(body: bytes) -> bytes:
    try:
        return orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, TypeError):
        return body


async def _once(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Makes a repeat safe: the same key and request get the first answer again, for 24 hours.",
            min_length=1,
            max_length=257,
            json_schema_extra={"pattern": r'^("[!-~]([ -~]{0,253}[!-~])?"|[!-~]([ -~]{0,253}[!-~])?)$'},
        ),
    ] = None,
) -> Once:
    instance = instance_of(request.scope)
    key: Key | None = None
    caller: Caller | None = request.scope.get("holdfast.caller")
    if idempotency_key is not None and caller is not None and caller.user_id is not None:
        # The operation, not the spelling of its path: both paths of an operation are the same request.
        parts = [
            request.scope["route"].name.encode(),
            orjson.dumps(sorted(request.path_params.items())),
            request.scope["query_string"],
            _canonical(await request.body()),
        ]
        digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()
        key = Key(caller.user_id, _key_text(idempotency_key), digest)
    return Once(key, shape_refusal=lambda refusal: refusal_answer(refusal, instance=instance))


OnceDep = Annotated[Once, Depends(_once)]
