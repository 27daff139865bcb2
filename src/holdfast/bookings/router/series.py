"""The routes of series (api.md section 3)."""

from fastapi import APIRouter, Response

from holdfast.bookings import schemas, service
from holdfast.bookings.router.context import context_of
from holdfast.core import clock
from holdfast.core.answers import Answer, answer
from holdfast.web.access import UserCaller
from holdfast.web.errors import send
from holdfast.web.fields import PathId
from holdfast.web.once import OnceDep
from holdfast.web.openapi import changes, reads
from holdfast.web.routing import Route
from holdfast.web.state import DatabaseDep, StateDep

router = APIRouter(route_class=Route, tags=["series"])


def _shown(booked: service.BookedSeries) -> Answer:
    return answer(booked.as_json())


def _created(booked: service.BookedSeries) -> Answer:
    return answer(booked.as_json(), status=201, location=f"/series/{booked.series.id}")


def _wanted(body: schemas.SeriesTimes) -> service.NewSeries:
    return service.NewSeries(body.roomId, body.start, body.end, body.recurrence, body.title, body.notes)


@router.post(
    "/bookings/series",
    operation_id="createSeries",
    summary="Book a room again and again",
    responses=changes(schemas.SeriesAnswer, 404, status=201),
    status_code=201,
)
async def create_series(body: schemas.NewSeries, caller: UserCaller, state: StateDep, once: OnceDep) -> Response:
    """By an RFC 5545 rule, on the room's clock: 09:00 stays 09:00. 409 `SERIES_CONFLICT` lists every conflict."""
    booked = await service.book_series(
        state.db,
        wanted=_wanted(body),
        skip=body.onConflict == "skip",
        now=clock.now(),
        queue=context_of(state).queue,
        by=caller,
        once=once.answering(_created),
    )
    return send(_created(booked))


@router.post(
    "/bookings/series/preview",
    operation_id="previewSeries",
    summary="What a series would come to",
    responses=reads(schemas.PreviewAnswer, 400, 403, 404, 413),
)
async def preview_series(body: schemas.SeriesTimes, caller: UserCaller, db: DatabaseDep) -> Response:
    """Every occurrence, `free` or `conflict` with the reason; nothing is booked, and nobody else kept from it."""
    found = await service.preview_series(db, wanted=_wanted(body), now=clock.now(), by=caller)
    return send(answer({"occurrences": [one.as_json() for one in found]}))


@router.get(
    "/series/{series_id}",
    operation_id="getSeries",
    summary="Your series and its bookings",
    responses=reads(schemas.SeriesAnswer, 400, 403, 404),
)
async def get_series(series_id: PathId, caller: UserCaller, db: DatabaseDep) -> Response:
    """The bookings that stand, soonest first."""
    return send(_shown(await service.get_series(db, series_id=series_id, by=caller)))


@router.post(
    "/series/{series_id}/cancel",
    operation_id="cancelSeries",
    summary="Cancel a series, or what follows of it",
    responses=changes(schemas.SeriesAnswer, 404),
)
async def cancel_series(
    series_id: PathId,
    caller: UserCaller,
    db: DatabaseDep,
    once: OnceDep,
    body: schemas.SeriesCancel | None = None,
) -> Response:
    """All that are ahead, or with `from` those that begin then or later; one alone by POST /bookings/{id}/cancel."""
    cancelled = await service.cancel_series(
        db,
        series_id=series_id,
        since=None if body is None else body.from_,
        now=clock.now(),
        by=caller,
        once=once.answering(_shown),
    )
    return send(_shown(cancelled))


@router.post(
    "/series/{series_id}/reschedule",
    operation_id="rescheduleSeries",
    summary="Move a series, or what follows of it",
    responses=changes(schemas.SeriesAnswer, 404),
)
async def reschedule_series(
    series_id: PathId, body: schemas.SeriesMove, caller: UserCaller, state: StateDep, once: OnceDep
) -> Response:
    """`start` and `end` are the new time of the first that moves; the others move as far on the room's clock. All or nothing."""
    moved = await service.reschedule_series(
        state.db,
        series_id=series_id,
        shift=service.Shift(body.from_, body.start, body.end),
        now=clock.now(),
        queue=context_of(state).queue,
        by=caller,
        once=once.answering(_shown),
    )
    return send(_shown(moved))
