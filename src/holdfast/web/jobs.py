"""What an admin sees and does of the jobs (api.md section 8). What a job is, and who runs it, is in `jobs`."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from holdfast import jobs, outbox
from holdfast.core.answers import Answer, answer
from holdfast.core.callers import Caller
from holdfast.core.errors import NotFound
from holdfast.db.database import Database, retry_aborted
from holdfast.idempotency import Once
from holdfast.web.access import AdminCaller
from holdfast.web.errors import send
from holdfast.web.fields import PathId, Text
from holdfast.web.once import OnceDep
from holdfast.web.openapi import PaginationAnswer, changes, reads, refusals
from holdfast.web.paging import PageDep, page_answer
from holdfast.web.routing import Route
from holdfast.web.state import DatabaseDep

router = APIRouter(route_class=Route, tags=["operations"])

Wanted = Annotated[Annotated[str, Text(100)] | None, Query(description="Only jobs of this kind.")]


class JobNotFound(NotFound):
    """There is no such job, or it was not given up."""

    code = "JOB_NOT_FOUND"
    message = "There is no job with this id that was given up."


class JobShape(BaseModel):
    """A job. Its payload is not shown: it may tell of people."""

    id: UUID
    kind: str
    state: Literal["waiting", "active", "dead"]
    failures: int = Field(description="Runs that failed since it was enqueued or re-queued.")
    error: str | None = Field(description="What the last run that failed said.")
    failedAt: datetime | None  # noqa: N815 - the wire's name
    createdAt: datetime  # noqa: N815 - the wire's name
    runAt: datetime = Field(description="When it runs next, or was to run.")  # noqa: N815 - the wire's name


class KindShape(BaseModel):
    """The jobs of a kind."""

    kind: str
    waiting: int = Field(description="Due, and not begun.")
    active: int
    completed: int = Field(description="Since the beginning.")
    failed: int = Field(description="Runs that failed, since the beginning.")
    delayed: int = Field(description="To be run later: after a pause, or at a time.")
    dead: int = Field(description="Given up: `GET /jobs` shows them.")
    oldestSeconds: float = Field(description="How long the oldest has waited that is due.")  # noqa: N815 - the wire's name


class MetricsShape(BaseModel):
    """All jobs, and by kind."""

    waiting: int
    active: int
    completed: int
    failed: int
    delayed: int
    dead: int
    oldestSeconds: float  # noqa: N815 - the wire's name
    kinds: list[KindShape]
    recentFailures: list[JobShape]  # noqa: N815 - the wire's name


class JobsMetricsAnswer(BaseModel):
    """How the jobs stand."""

    jobs: MetricsShape


class JobAnswer(BaseModel):
    """One job."""

    job: JobShape


class JobsAnswer(BaseModel):
    """A page of jobs."""

    jobs: list[JobShape]
    pagination: PaginationAnswer


def _shown(job: dict[str, Any]) -> Answer:
    return answer({"job": job})


def _deleted(_nothing: object) -> Answer:
    return Answer(204)


@router.get("/jobs/metrics", operation_id="jobMetrics", summary="How the jobs stand", responses=reads(JobsMetricsAnswer, 403))
async def job_metrics(_admin: AdminCaller, db: DatabaseDep) -> Response:
    """Of all jobs and by kind; and the twenty latest failures of jobs that are not done."""
    return send(answer({"jobs": await jobs.count_jobs(db)}))


@router.get("/jobs", operation_id="listDeadJobs", summary="Jobs that were given up", responses=reads(JobsAnswer, 400, 403))
async def list_dead_jobs(request: Request, _admin: AdminCaller, db: DatabaseDep, page: PageDep, kind: Wanted = None) -> Response:
    """The latest first. They stay until an admin has them run again, or deletes them."""
    found, total = await jobs.dead_jobs(db, kind=kind, offset=page.offset, limit=page.size)
    return send(page_answer(request, "jobs", found, page, total))


@router.post(
    "/jobs/{job_id}/requeue",
    operation_id="requeueJob",
    summary="Let a job that was given up run again",
    responses=changes(JobAnswer, 404),
)
async def requeue_job(job_id: PathId, caller: AdminCaller, db: DatabaseDep, once: OnceDep) -> Response:
    """As if it had never failed. 409 `JOB_IS_THERE` where a fresh job does the same work already."""
    return send(_shown(await _requeue(db, job_id, by=caller, once=once.answering(_shown))))


@router.delete(
    "/jobs/{job_id}",
    operation_id="deleteJob",
    summary="Delete a job that was given up",
    responses={204: {"description": "Deleted."}, **refusals(400, 401, 403, 404, 409, 422)},
    status_code=204,
)
async def delete_job(job_id: PathId, caller: AdminCaller, db: DatabaseDep, once: OnceDep) -> Response:
    """What it was for is never done."""
    await _forget(db, job_id, by=caller, once=once.answering(_deleted))
    return send(_deleted(None))


@retry_aborted
async def _requeue(db: Database, job_id: UUID, *, by: Caller, once: Once) -> dict[str, Any]:
    async with once.transaction(db) as session:
        job = await jobs.requeue(session, job_id)
        if job is None:
            raise JobNotFound
        await outbox.enqueue(session, "job.requeued", job_id, by=by, after=job)
        await once.keep(session, job)
    return job


@retry_aborted
async def _forget(db: Database, job_id: UUID, *, by: Caller, once: Once) -> None:
    async with once.transaction(db) as session:
        job = await jobs.forget(session, job_id)
        if job is None:
            raise JobNotFound
        await outbox.enqueue(session, "job.deleted", job_id, by=by, before=job)
        await once.keep(session, None)
