"""Any service that makes links: one JSON POST, with the booking's id as Idempotency-Key.

Request: `{"bookingId", "title", "start", "end"}`, `Authorization: Bearer <secret>`. Answer: 2xx with `{"url": "https://..."}`.
"""

import asyncio
import random

import httpx
from pydantic import SecretStr

from holdfast.adapters.conferencing.protocol import (
    DEADLINE_SECONDS,
    ConferenceRefused,
    ConferenceUnavailable,
    Meeting,
    checked_link,
)
from holdfast.core.clock import instant_text

_ATTEMPTS = 3
_PAUSE_SECONDS = 0.2
_MAX_ANSWER = 64 * 1024
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class HttpProvider:
    """Asks `url`; bounded retries within one deadline, no redirects, the answer bounded and checked."""

    def __init__(self, url: str, secret: SecretStr | None, *, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        if not url.startswith(("https://", "http://")):
            msg = "HOLDFAST_CONFERENCE_URL must be an http or https URL"
            raise ValueError(msg)
        self._url = url
        self._headers = {"Authorization": f"Bearer {secret.get_secret_value()}"} if secret else {}
        self._deadline = deadline_seconds
        self._client = httpx.AsyncClient(timeout=httpx.Timeout(deadline_seconds), follow_redirects=False)

    async def create_link(self, meeting: Meeting) -> str:
        """The link that the service answers with."""
        try:
            async with asyncio.timeout(self._deadline):
                for attempt in range(1, _ATTEMPTS):
                    try:
                        return await self._ask(meeting)
                    except ConferenceUnavailable:
                        await asyncio.sleep(_PAUSE_SECONDS * attempt * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
                return await self._ask(meeting)
        except TimeoutError as error:
            msg = f"no answer within {self._deadline} seconds"
            raise ConferenceUnavailable(msg) from error

    async def _ask(self, meeting: Meeting) -> str:
        body = {
            "bookingId": str(meeting.booking_id),
            "title": meeting.title,
            "start": instant_text(meeting.start),
            "end": instant_text(meeting.end),
        }
        headers = {**self._headers, "Idempotency-Key": str(meeting.booking_id)}
        try:
            async with self._client.stream("POST", self._url, json=body, headers=headers) as response:
                if response.status_code in _TRY_AGAIN:
                    msg = f"the provider answered {response.status_code}"
                    raise ConferenceUnavailable(msg)
                if not response.is_success:
                    msg = f"the provider answered {response.status_code}"
                    raise ConferenceRefused(msg)
                content = bytearray()
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > _MAX_ANSWER:
                        msg = "the provider's answer is too long"
                        raise ConferenceRefused(msg)
        except httpx.InvalidURL as error:
            msg = "HOLDFAST_CONFERENCE_URL is no URL"
            raise ConferenceRefused(msg) from error
        except httpx.HTTPError as error:
            msg = f"the provider is out of reach ({type(error).__name__})"
            raise ConferenceUnavailable(msg) from error
        try:
            answer = httpx.Response(200, content=bytes(content)).json()
        except (ValueError, RecursionError) as error:
            msg = "the provider's answer is not JSON"
            raise ConferenceRefused(msg) from error
        return checked_link(answer.get("url") if isinstance(answer, dict) else None)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
