"""Counting in windows of time, in the memory of this process: what the limits at the edge are made of.

Not the storage of `limits`, whose notation we read: that one keeps a list for each key that it has ever seen (20,000 keys,
20,000 lists after their end), and starts a thread every ten milliseconds that walks through all of them: 27 us a request at
50,000 keys, against 1 here.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass

#: Keys that are remembered. Beyond it those whose windows began first are forgotten: they start anew.
MAX_KEYS = 50_000


@dataclass(slots=True)
class _Window:
    ends: float
    count: int = 0


class Windows:
    """At most `amount` hits per key in `seconds`; a key's window begins with its first hit."""

    def __init__(self, amount: int, seconds: float, *, max_keys: int = MAX_KEYS) -> None:
        self.amount = amount
        self.seconds = seconds
        self._max_keys = max_keys
        # In the order of their beginnings; as all are of one length, also of their ends.
        self._windows: OrderedDict[object, _Window] = OrderedDict()

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._windows)

    def hit(self, key: object) -> bool:
        """Count one; False, uncounted, where the window is full."""
        now = time.monotonic()
        window = self._windows.get(key)
        if window is None or window.ends <= now:
            window = self._begin(key, now)
        if window.count >= self.amount:
            return False
        window.count += 1
        return True

    def is_full(self, key: object) -> bool:
        """True where the next hit would be refused."""
        return self.left(key)[0] == 0

    def left(self, key: object) -> tuple[int, float]:
        """Hits that are left, and seconds until all of them are again."""
        now = time.monotonic()
        window = self._windows.get(key)
        if window is None or window.ends <= now:
            return self.amount, self.seconds
        return self.amount - window.count, window.ends - now

    def clear(self, key: object) -> None:
        """Forget the key's hits."""
        self._windows.pop(key, None)

    def _begin(self, key: object, now: float) -> _Window:
        self._windows.pop(key, None)
        while self._windows:
            oldest = next(iter(self._windows.values()))
            if oldest.ends > now and len(self._windows) < self._max_keys:
                break
            self._windows.popitem(last=False)
        window = self._windows[key] = _Window(now + self.seconds)
        return window
