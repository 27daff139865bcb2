"""The routes of streams (api.md section 8)."""

from holdfast.streams.router.events import router as events
from holdfast.streams.router.sockets import router as sockets
from holdfast.streams.router.tickets import router as tickets

routers = (events, sockets, tickets)

__all__ = ["routers"]
