"""Providers that need no call: the deterministic mock, and Jitsi, whose rooms exist as soon as somebody enters."""

from urllib.parse import urlsplit

from holdfast.adapters.conferencing.protocol import Meeting, checked_link

_JITSI = "https://meet.jit.si"


class MockProvider:
    """`https://meet.example.com/{bookingId}`: a link that leads nowhere, for demos and tests."""

    async def create_link(self, meeting: Meeting) -> str:
        """The booking's link."""
        return f"https://meet.example.com/{meeting.booking_id}"

    async def close(self) -> None:
        """Nothing to give back."""


class JitsiProvider:
    """A working Jitsi Meet link. The room's name carries the booking's id, which nobody can guess."""

    def __init__(self, base_url: str | None = None) -> None:
        self._base = (base_url or _JITSI).rstrip("/")
        if urlsplit(self._base).scheme != "https":
            msg = "HOLDFAST_CONFERENCE_URL must be an https URL for jitsi"
            raise ValueError(msg)

    async def create_link(self, meeting: Meeting) -> str:
        """The booking's room."""
        return checked_link(f"{self._base}/holdfast-{meeting.booking_id}")

    async def close(self) -> None:
        """Nothing to give back."""
