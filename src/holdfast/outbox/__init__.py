"""What happened, written in the transaction in which it happened. The relay that carries it on comes later."""

from holdfast.outbox.service import enqueue

__all__ = ["enqueue"]
