"""Live: what happens, told to whoever is connected, by server-sent events and WebSocket (api.md section 8)."""

from holdfast.streams.service import Hub, tidy

__all__ = ["Hub", "tidy"]
