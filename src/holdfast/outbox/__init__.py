"""What must follow a change, written with the change (design section 3). The relay that reads it is the worker's."""

from holdfast.outbox.service import Message, enqueue, enqueue_all

__all__ = ["Message", "enqueue", "enqueue_all"]
