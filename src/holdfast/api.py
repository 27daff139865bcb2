"""The list of mounted routers."""

from fastapi import APIRouter

from holdfast.accounts.router import router as accounts
from holdfast.availability.router import router as availability
from holdfast.bookings import router as taking
from holdfast.calendars.router import router as calendars
from holdfast.events.router import router as events
from holdfast.hosts.router import router as hosts
from holdfast.notifications.router import router as mailbox
from holdfast.reports import router as reports
from holdfast.rooms.router import router as rooms
from holdfast.rooms.router import slots
from holdfast.streams.router import routers as streams
from holdfast.web.health import router as health
from holdfast.web.jobs import router as jobs
from holdfast.web.metrics import router as metrics
from holdfast.webhooks.router import router as webhooks

#: Hottest first: the framework tries one route after the other, at 3 us each.
ROUTERS: tuple[APIRouter, ...] = (
    slots,
    taking.bookings,
    taking.holds,
    taking.waitlist,
    taking.requests,
    taking.series,
    events,
    taking.seats,
    availability,
    rooms,
    hosts,
    taking.slots,
    accounts,
    taking.account,
    taking.room_closures,
    taking.host_closures,
    *streams,
    webhooks,
    calendars,
    reports.analytics,
    reports.exports,
    reports.changes,
    jobs,
    mailbox,
    health,
    metrics,
)
