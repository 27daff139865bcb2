"""The list of mounted routers."""

from fastapi import APIRouter

from holdfast.accounts.router import router as accounts
from holdfast.bookings.router import account, closures
from holdfast.bookings.router import router as bookings
from holdfast.rooms.router import router as rooms
from holdfast.web.health import router as health

ROUTERS: tuple[APIRouter, ...] = (accounts, account, rooms, closures, bookings, health)
