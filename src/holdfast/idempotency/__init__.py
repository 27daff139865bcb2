"""`Idempotency-Key`: the same caller, key and request get the first answer again, byte for byte."""

from holdfast.idempotency.errors import InProgress
from holdfast.idempotency.service import Key, Once, Replay, tidy

__all__ = ["InProgress", "Key", "Once", "Replay", "tidy"]
