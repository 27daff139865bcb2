"""The routes of hosts and of the slots that they publish (api.md section 5)."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response

from holdfast.core import clock
from holdfast.core.answers import Answer, answer
from holdfast.hosts import schemas, service
from holdfast.hosts.errors import HostNotFound
from holdfast.hosts.rules import Host, PublishedSlot
from holdfast.resources import service as resources
from holdfast.resources.router import SlotDate, SlotsFrom, SlotsStatus, SlotsTo, slot_range, slots_answer
from holdfast.resources.rules import ResourceSchedule, make_schedule
from holdfast.resources.schemas import ScheduleAnswer, ScheduleReplacement, SlotsAnswer
from holdfast.web.access import AnyCaller, UserCaller
from holdfast.web.errors import send
from holdfast.web.fields import Id, Instant, PathId, Text
from holdfast.web.once import OnceDep
from holdfast.web.openapi import changes, reads, reads_one
from holdfast.web.paging import PageDep, page_answer
from holdfast.web.preconditions import IfMatch, conditional
from holdfast.web.routing import Route
from holdfast.web.state import DatabaseDep

router = APIRouter(route_class=Route, tags=["hosts"])

From = Annotated[Instant | None, Query(alias="from", description="Slots that begin then or later.")]
To = Annotated[Instant | None, Query(alias="to", description="Slots that begin before that.")]
Search = Annotated[Annotated[str, Text(200)] | None, Query(description="Part of the name or the bio.")]


def _shown(host: Host) -> Answer:
    return answer({"host": host.as_json()}, etag=host.etag)


def _created(host: Host) -> Answer:
    return answer({"host": host.as_json()}, status=201, location=f"/hosts/{host.id}", etag=host.etag)


def _schedule_shown(schedule: ResourceSchedule) -> Answer:
    return answer({"schedule": schedule.as_json()}, etag=schedule.etag)


@router.post(
    "/hosts",
    operation_id="becomeHost",
    summary="Become a host",
    responses=changes(schemas.HostAnswer, status=201),
    status_code=201,
)
async def become_host(body: schemas.NewHost, caller: UserCaller, db: DatabaseDep, once: OnceDep) -> Response:
    """Then publish slots with POST /slots, or open by a schedule with PUT /hosts/{id}/schedule."""
    host = await service.become_host(db, values=schemas.host_values(body), by=caller, once=once.answering(_created))
    return send(_created(host))


@router.get(
    "/hosts",
    operation_id="listHosts",
    summary="All hosts",
    responses=reads(schemas.HostsAnswer, 400),
)
async def list_hosts(request: Request, _caller: AnyCaller, db: DatabaseDep, page: PageDep, q: Search = None) -> Response:
    """In the order in which they became hosts."""
    hosts, total = await service.list_hosts(db, q=q, offset=page.offset, limit=page.size)
    return send(page_answer(request, "hosts", [host.as_json() for host in hosts], page, total))


@router.get(
    "/hosts/{host_id}",
    operation_id="getHost",
    summary="One host",
    responses=reads_one(schemas.HostAnswer, 400, 404),
)
async def get_host(host_id: PathId, request: Request, _caller: AnyCaller, db: DatabaseDep) -> Response:
    """Its ETag serves `If-Match` and `If-None-Match`."""
    return conditional(request, _shown(await service.get_host(db, host_id)))


@router.patch(
    "/hosts/{host_id}",
    operation_id="changeHost",
    summary="Change your profile as a host",
    responses=changes(schemas.HostAnswer, 404, 412),
)
async def change_host(
    host_id: PathId,
    body: schemas.HostChange,
    caller: UserCaller,
    db: DatabaseDep,
    once: OnceDep,
    if_match: IfMatch = None,
) -> Response:
    """Your own alone. `ownerMayBook` and `overlapsAllowed: false` in the policy make it your diary."""
    host = await service.change_host(
        db,
        host_id=host_id,
        changes=schemas.host_values(body),
        if_match=if_match,
        by=caller,
        once=once.answering(_shown),
    )
    return send(_shown(host))


@router.get(
    "/hosts/{host_id}/schedule",
    operation_id="getHostSchedule",
    summary="A host's schedule",
    responses=reads_one(ScheduleAnswer, 400, 404),
)
async def get_schedule(host_id: PathId, request: Request, _caller: AnyCaller, db: DatabaseDep) -> Response:
    """404 `SCHEDULE_NOT_FOUND` while there is none."""
    return conditional(request, _schedule_shown(await service.get_schedule(db, host_id)))


@router.put(
    "/hosts/{host_id}/schedule",
    operation_id="putHostSchedule",
    summary="Make or replace a host's schedule",
    responses=changes(ScheduleAnswer, 404, 412),
)
async def put_schedule(
    host_id: PathId,
    body: ScheduleReplacement,
    caller: AnyCaller,
    db: DatabaseDep,
    once: OnceDep,
    if_match: IfMatch = None,
) -> Response:
    """For the host and for admins; as for rooms."""
    made = await service.put_schedule(
        db,
        host_id=host_id,
        schedule=make_schedule(body.slotMinutes, body.as_windows()),
        if_match=if_match,
        by=caller,
        once=once.answering(_schedule_shown),
    )
    return send(_schedule_shown(made))


@router.get(
    "/hosts/{host_id}/slots",
    operation_id="listHostSlots",
    summary="A host's slots of a date",
    responses=reads_one(SlotsAnswer, 400, 404),
)
async def list_slots(
    host_id: PathId,
    request: Request,
    caller: AnyCaller,
    db: DatabaseDep,
    day: SlotDate = None,
    from_: SlotsFrom = None,
    to: SlotsTo = None,
    status: SlotsStatus = "free",
) -> Response:
    """Published ones and those of the schedule, soonest first; as for rooms."""
    found = await resources.list_slots(
        db,
        kind="host",
        resource_id=host_id,
        wanted=slot_range(day, from_, to),
        user_id=caller.user_id,
        now=clock.now(),
        refusal=HostNotFound,
    )
    return conditional(request, slots_answer(found, "host", host_id, status))


@router.post(
    "/slots",
    operation_id="publishSlots",
    summary="Publish slots of your time",
    responses=changes(schemas.NewSlotsAnswer, status=201),
    status_code=201,
)
async def publish_slots(body: schemas.NewSlots, caller: UserCaller, db: DatabaseDep, once: OnceDep) -> Response:
    """For hosts (others: 403). 409 `SLOT_OVERLAP` with another published slot; touching is fine."""
    alone = body.slots is None

    def created(slots: list[PublishedSlot]) -> Answer:
        if alone:
            (slot,) = slots
            return answer({"slot": slot.as_json()}, status=201, location=f"/slots/{slot.id}")
        return answer({"slots": [slot.as_json() for slot in slots]}, status=201)

    slots = await service.publish_slots(db, slots=body.periods(), now=clock.now(), by=caller, once=once.answering(created))
    return send(created(slots))


@router.get(
    "/slots",
    operation_id="listPublishedSlots",
    summary="Slots that hosts published",
    responses=reads(schemas.PublishedSlotsAnswer, 400),
)
async def list_published(
    request: Request,
    _caller: AnyCaller,
    db: DatabaseDep,
    page: PageDep,
    host_id: Annotated[Id | None, Query(alias="hostId")] = None,
    start: From = None,
    end: To = None,
    status: Annotated[Literal["free", "all"], Query(description="`free`: those that can be booked; `all`.")] = "free",
) -> Response:
    """Soonest first."""
    slots, total = await service.list_published(
        db,
        host_id=host_id,
        start=start,
        end=end,
        status="free" if status == "free" else None,
        offset=page.offset,
        limit=page.size,
    )
    return send(page_answer(request, "slots", [slot.as_json() for slot in slots], page, total))


@router.get(
    "/slots/host",
    operation_id="listOwnSlots",
    summary="The slots that you published, and who has them",
    responses=reads(schemas.OwnSlotsAnswer, 400, 403),
)
async def list_own_slots(
    request: Request,
    caller: UserCaller,
    db: DatabaseDep,
    page: PageDep,
    start: From = None,
    end: To = None,
    status: Annotated[Literal["free", "held", "booked", "closed", "past"] | None, Query()] = None,
) -> Response:
    """For hosts (others: 403), soonest first, past ones too."""
    slots, total = await service.list_own_slots(
        db, by=caller, start=start, end=end, status=status, offset=page.offset, limit=page.size
    )
    return send(page_answer(request, "slots", [slot.as_json(for_host=True) for slot in slots], page, total))
