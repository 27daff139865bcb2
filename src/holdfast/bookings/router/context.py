"""What the use cases of taking get out of a process's state."""

from holdfast.bookings.service import Context
from holdfast.web.state import State


def context_of(state: State) -> Context:
    """Database, provider of links, and who travels together."""
    queue_for_all = state.settings.fair_queue == "all"
    return Context(state.db, state.conferencing, state.together, queue_for_all)
