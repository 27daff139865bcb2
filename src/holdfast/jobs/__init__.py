"""Work for later: enqueued in a transaction, done at least once, by whichever worker has time (docs/decisions/0009)."""

from holdfast.jobs.queue import JobIsThere, count_jobs, dead_jobs, enqueue, enqueue_all, forget, requeue
from holdfast.jobs.runner import Runner
from holdfast.jobs.shapes import DEFAULT_PAUSES, Dead, Job, Kind, Later, Periodic

__all__ = [
    "DEFAULT_PAUSES",
    "Dead",
    "Job",
    "JobIsThere",
    "Kind",
    "Later",
    "Periodic",
    "Runner",
    "count_jobs",
    "dead_jobs",
    "enqueue",
    "enqueue_all",
    "forget",
    "requeue",
]
