"""A bounded HTTP/1.1 client that takes less of a core than what it measures: keep-alive connections and one poll loop.

It knows no more of HTTP than our own servers need: answers with a Content-Length. Everything it sends is made beforehand.
"""

import json
import math
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

_LENGTH = b"content-length: "
_STALLED = 15.0

#: Makes the next request of a connection, by the connection's number; None where there is nothing more to ask.
NextRequest = Callable[[int], bytes | None]
#: Hears each answer whole, with its connection's number and when (`time.perf_counter`) it was asked for and had.
Heard = Callable[[int, float, float, bytes], None]


@dataclass
class Measured:
    """What a run saw. Latencies in milliseconds, in the order of the answers; `seconds` the wall clock, `busy` our own CPU."""

    seconds: float = 0.0
    busy: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Answers."""
        return len(self.latencies)

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return self.count / self.seconds

    def percentile(self, percent: float) -> float:
        """The latency that `percent` of the answers did not exceed."""
        return percentile(self.latencies, percent)


def percentile(values: list[float], percent: float) -> float:
    """By nearest rank; 0 for no values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def request(method: str, target: str, *, port: int, token: str | None = None, body: Any = None) -> bytes:
    """One request, ready to send."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    content = b""
    if body is not None:
        content = json.dumps(body, separators=(",", ":")).encode()
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + content


def _connect(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=5)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _connect_many(port: int, count: int) -> list[socket.socket]:
    connections = [_connect(port) for _ in range(count)]
    for connection in connections:
        # We read only what is there, and a time-out of the socket's own would cost a system call each time.
        connection.settimeout(None)
    return connections


def _end_of(data: bytes) -> int:
    """Where the first answer in `data` ends, 0 where it is not all there."""
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return 0
    at = data.find(_LENGTH, 0, head)
    if at < 0:
        at = data[:head].lower().find(_LENGTH)
    if at < 0:
        raise RuntimeError(f"an answer without Content-Length: {data[:200]!r}")
    end = head + 4 + int(data[at + len(_LENGTH) : data.find(b"\r\n", at)])
    return end if len(data) >= end else 0


def body_of(data: bytes) -> Any:
    """The JSON of a whole answer."""
    return json.loads(data[data.find(b"\r\n\r\n") + 4 :])


def ask(port: int, message: bytes) -> tuple[int, bytes]:
    """One request over a connection of its own: status and body."""
    with _connect(port) as connection:
        connection.sendall(message)
        data = b""
        while not (end := _end_of(data)):
            more = connection.recv(65_536)
            if not more:
                raise RuntimeError("the service closed the connection")
            data += more
    return int(data[9:12]), data[data.find(b"\r\n\r\n") + 4 : end]


def closed_loop(
    port: int, next_request: NextRequest, *, connections: int, seconds: float, heard: Heard | None = None
) -> Measured:
    """Each connection asks again as soon as it is answered, for that long; what is under way then is waited for.

    Ends early where there is nothing more to ask. `heard` is called within the loop, so it had better only take notes.
    """
    sockets = _connect_many(port, connections)
    try:
        return _closed_loop(sockets, next_request, seconds, heard)
    finally:
        for connection in sockets:
            connection.close()


def _closed_loop(  # noqa: C901 - one loop on purpose: calls would cost as much as its work
    sockets: list[socket.socket], next_request: NextRequest, seconds: float, heard: Heard | None
) -> Measured:
    measured = Measured()
    # poll, not selectors: half the cost per answer. It is there on Linux and macOS.
    poll = select.poll()
    of_fd = {connection.fileno(): number for number, connection in enumerate(sockets)}
    for fd in of_fd:
        poll.register(fd, select.POLLIN)
    sent_at = [0.0] * len(sockets)
    partial: list[bytes] = [b""] * len(sockets)
    clock, latencies, statuses = time.perf_counter, measured.latencies, measured.statuses
    cpu, begun = time.process_time(), clock()
    end = begun + seconds
    waiting = 0
    for number, connection in enumerate(sockets):
        message = next_request(number)
        if message is not None:
            sent_at[number] = clock()
            connection.sendall(message)
            waiting += 1
    last = begun
    while waiting:
        ready = poll.poll(500)
        if not ready and clock() - last > _STALLED:
            raise RuntimeError(f"no answer for {_STALLED:.0f} s")
        for fd, _event in ready:
            number = of_fd[fd]
            data = sockets[number].recv(65_536)
            if not data:
                raise RuntimeError("the service closed a connection")
            if partial[number]:
                data = partial[number] + data
            if not _end_of(data):
                partial[number] = data
                continue
            partial[number] = b""
            last = clock()
            latencies.append((last - sent_at[number]) * 1000)
            statuses[int(data[9:12])] += 1
            if heard is not None:
                heard(number, sent_at[number], last, data)
            message = next_request(number) if last < end else None
            if message is None:
                waiting -= 1
                continue
            sent_at[number] = clock()
            sockets[number].send(message)
    measured.seconds = last - begun
    measured.busy = time.process_time() - cpu
    return measured


def _due(rate: float, seconds: float) -> Iterator[float]:
    for n in range(int(rate * seconds)):
        yield n / rate


def constant_rate(  # noqa: C901 - sending and receiving share all of their state
    port: int,
    next_request: NextRequest,
    *,
    rate: float,
    seconds: float,
    connections: int = 20,
    told: Callable[[int], None] | None = None,
) -> Measured:
    """Requests at even distances, whatever the answers do; `told` hears how many were sent.

    Counted from the moment of sending, or, where no connection was free in time, from the moment it was due.
    """
    sockets = _connect_many(port, connections)
    measured = Measured()
    free = list(range(connections))
    sent_at: dict[int, tuple[int, float]] = {}
    partial: dict[int, bytes] = {}
    clock = time.perf_counter
    cpu, begun = time.process_time(), clock()

    def receive(patience: float) -> None:
        # select, not poll: its patience is finer than a millisecond.
        for fd in select.select(list(sent_at), [], [], max(0.0, patience))[0]:
            number, since = sent_at[fd]
            data = partial.pop(fd, b"") + sockets[number].recv(65_536)
            if not data:
                raise RuntimeError("the service closed a connection")
            if not _end_of(data):
                partial[fd] = data
                continue
            del sent_at[fd]
            free.append(number)
            measured.latencies.append((clock() - since) * 1000)
            measured.statuses[int(data[9:12])] += 1

    try:
        for sent, offset in enumerate(_due(rate, seconds), start=1):
            due = begun + offset
            crowded = False
            while (left := due - clock()) > 0 or not free:
                crowded = crowded or (left <= 0 and not free)
                if left < -_STALLED:
                    raise RuntimeError(f"no answer for {_STALLED:.0f} s")
                receive(left if left > 0 else 0.5)
            number = free.pop(0)
            message = next_request(number)
            if message is None:
                break
            sent_at[sockets[number].fileno()] = (number, due if crowded else clock())
            sockets[number].sendall(message)
            if told:
                told(sent)
        end = clock() + _STALLED
        while sent_at and clock() < end:
            receive(0.5)
        if sent_at:
            raise RuntimeError(f"no answer for {_STALLED:.0f} s")
    finally:
        for connection in sockets:
            with suppress(OSError):
                connection.close()
    measured.seconds = clock() - begun
    measured.busy = time.process_time() - cpu
    return measured
