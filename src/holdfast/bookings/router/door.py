"""What the use cases of taking get out of a process's state."""

from holdfast.bookings.service import Door
from holdfast.web.state import State


def door_of(state: State) -> Door:
    """Database, provider of links, and who travels together."""
    queue_for_all = state.settings.fair_queue == "all"
    return Door(state.db, state.conferencing, state.together, queue_for_all)
