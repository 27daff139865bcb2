"""The hub of one process: reads what the relay has numbered, once, and gives it to every subscriber that it concerns.

Memory is bounded: a message is kept once however many read it, and who is too far behind is dropped, and resumes by
`Last-Event-ID` from the outbox. Without subscribers nothing is read.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

import orjson
import structlog

from holdfast import messages, outbox
from holdfast.core import metrics
from holdfast.core.errors import Busy, Refusal
from holdfast.db.database import Database
from holdfast.db.listening import listen
from holdfast.messages import EVERYONE, Message
from holdfast.streams import rules
from holdfast.streams.errors import EventsGone, TooManyStreams
from holdfast.streams.rules import Channel, Point
from holdfast.streams.service.opening import Visitor
from holdfast.web import api_keys

#: Streams of one process, of one user there (who must not take everybody's places), and messages that wait for one of them.
MOST_SUBSCRIBERS = 5_000
MOST_OF_ONE_USER = 100
MOST_WAITING = 1_000
#: Seconds without a message after which a sign of life is sent: proxies and phones forget silent connections.
HEARTBEAT_SECONDS = 15.0
#: Messages that are read at a time, and how many a client may have missed that are still told one by one.
_PAGE = 200
_PAGE_OF_MISSED = 50
_MOST_MISSED = 100_000
#: Of many whom a message concerns, so many are sent it at once, and the next so many seconds later: requests have their turn in
#: between, and what happens meanwhile goes out with it. The last of 500 waits 0.1 s.
_AT_A_TIME = 20
_BETWEEN_SECONDS = 0.004
#: Seconds from a reading to the next: what happens in between is read at once, and goes out together.
_READ_SECONDS = 0.04
#: Seconds between looks without being woken, and between looks at who must go or has long heard nothing.
_LOOK_SECONDS = 1.0
_WATCH_SECONDS = 1.0
#: The id of what there was before the first message: who connects then resumes from there.
_BEGINNING = UUID(int=0)

log = structlog.get_logger(__name__)


class Told:
    """A message as it goes over the wire, made once for all who hear of it."""

    def __init__(self, message: Message) -> None:
        self.message = message

    @cached_property
    def text(self) -> str:
        """JSON, for a WebSocket."""
        return orjson.dumps(self.message.as_json()).decode()

    @cached_property
    def event(self) -> bytes:
        """A server-sent event (WHATWG HTML, section 9.2). JSON has no line breaks, so its data is one line."""
        return f"id: {self.message.id}\nevent: {self.message.type}\ndata: {self.text}\n\n".encode()


class Subscriber:
    """One client: the channels with the number after which it hears of them, and what waits to be sent to it."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor = visitor
        self.channels: dict[str, int] = {}
        #: Why it must go; None while it may stay.
        self.ended: str | None = None
        self._waiting: deque[Told] = deque()
        self._taken_at = time.monotonic()
        self._woken = asyncio.Event()
        self._over = asyncio.Event()

    def give(self, told: Told) -> None:
        """Keep a message for it; who has too many of them is dropped, not buffered."""
        if self.ended is None:
            if len(self._waiting) >= MOST_WAITING:
                self.end("slow")
                metrics.stream_dropped()
            else:
                self._waiting.append(told)

    def wake(self) -> None:
        """There is something to send."""
        self._woken.set()

    def end(self, reason: str) -> None:
        """It must go; what waited for it is dropped, and can be had again by `Last-Event-ID`."""
        if self.ended is None:
            self.ended = reason
            self._waiting.clear()
            self._woken.set()
            self._over.set()

    @property
    def is_served(self) -> bool:
        """True where nothing waits for it."""
        return not self._waiting

    async def wait(self) -> None:
        """Return when something waits, at its end, or when a sign of life is due."""
        if not self._waiting and self.ended is None:
            await self._woken.wait()
        self._woken.clear()

    def take(self) -> list[Told]:
        """All that waits."""
        taken = list(self._waiting)
        self._waiting.clear()
        self._taken_at = time.monotonic()
        return taken

    def wake_after_silence(self) -> None:
        """A sign of life is due. Looked at for all in one turn: a timer each would cost more than what they are sent."""
        if time.monotonic() - self._taken_at >= HEARTBEAT_SECONDS:
            self.wake()

    async def until_ended(self) -> None:
        """Return when it must go. For whoever is stuck in sending, and does not look."""
        await self._over.wait()


@dataclass(frozen=True, slots=True)
class _Pause:
    """The number up to which a subscriber had been told of its channels, and those: each followed after a number."""

    at: int
    channels: dict[str, int]

    def was_told(self, message: Message) -> bool:
        """True for what it heard before the pause."""
        return message.number <= self.at and self._follows(message)

    def covers(self, message: Message) -> bool:
        """True for what it would have heard without the pause."""
        return message.number > self.at and self._follows(message)

    def _follows(self, message: Message) -> bool:
        return any(self.channels.get(name, message.number) < message.number for name in message.channels)


class Hub:
    """`is_out` says whether a user or a session has ended. `listen_url` is where NOTIFY can be heard."""

    def __init__(self, db: Database, *, listen_url: str, is_out: Callable[[UUID, UUID | None], bool]) -> None:
        self._db = db
        self._listen_url = listen_url
        self._resuming = asyncio.Lock()
        self._is_out = is_out
        self._subscribers: set[Subscriber] = set()
        self._by_channel: dict[str, set[Subscriber]] = {}
        #: All messages up to this number have been given out, and the id of the last of them.
        self._position = 0
        self.last_id = _all_of(_BEGINNING)
        self._woken = asyncio.Event()
        #: Set when the process stops.
        self.closing = asyncio.Event()

    def __len__(self) -> int:
        """How many are connected."""
        return len(self._subscribers)

    # --- coming and going ---

    async def join(self, visitor: Visitor) -> Subscriber:
        """A new subscriber, of no channel yet. Raises TooManyStreams."""
        own = sum(one.visitor.user_id == visitor.user_id for one in self._subscribers)
        if self.closing.is_set() or len(self._subscribers) >= MOST_SUBSCRIBERS or own >= MOST_OF_ONE_USER:
            raise TooManyStreams
        if not self._subscribers:
            # Nobody has been listening, so nothing was read.
            number, message_id = await outbox.newest(self._db)
            if not self._subscribers and message_id is not None and number > self._position:
                self._position, self.last_id = number, _all_of(message_id)
        subscriber = Subscriber(visitor)
        self._subscribers.add(subscriber)
        self._attach(subscriber, EVERYONE, self._position)
        return subscriber

    def leave(self, subscriber: Subscriber) -> None:
        """It is gone."""
        subscriber.end("left")
        self._subscribers.discard(subscriber)
        self.unsubscribe(subscriber, list(subscriber.channels))

    def _attach(self, subscriber: Subscriber, name: str, after: int) -> None:
        subscriber.channels[name] = after
        self._by_channel.setdefault(name, set()).add(subscriber)

    def resume_id(self, subscriber: Subscriber) -> str | None:
        """Where one resumes who has been sent all that was taken for it; None while there is more."""
        return self.last_id if subscriber.is_served else None

    def unsubscribe(self, subscriber: Subscriber, names: Iterable[str]) -> None:
        """No more of these channels."""
        for name in names:
            subscriber.channels.pop(name, None)
            members = self._by_channel.get(name, set())
            members.discard(subscriber)
            if not members:
                self._by_channel.pop(name, None)

    async def start_of(self, point: Point | None) -> int | None:
        """The number of the message that a client had last; None: from now on. Raises EventsGone."""
        if point is None:
            return None
        number = 0 if point.stored_id == _BEGINNING else await outbox.number_of(self._db, point.stored_id)
        if number is None or self._position - number > _MOST_MISSED:
            raise EventsGone
        return number

    async def subscribe(
        self, subscriber: Subscriber, channels: Sequence[Channel], *, start: int | None = None, place: int = 0
    ) -> AsyncIterator[list[Told]]:
        """Add channels; yields page by page what a client missed since message `place` of number `start`, then it is live.

        The caller sends each page before it asks for the next, so a slow client is waited for. Meanwhile nothing is given to
        it: what happens on the channels that it had before stands in the same pages, so all comes in the order of numbers,
        and what came last is where to resume from. Between the last page and live there is no gap: nothing is awaited from
        the comparison to the attachment.
        """
        names = {channel.name for channel in channels}
        if start is None:
            for name in names - subscriber.channels.keys():
                self._attach(subscriber, name, self._position)
            return
        names.add(EVERYONE)
        pause = self._pause(subscriber)
        # Another process may have told the client more than this one has read: then we read on, or it would hear it twice.
        position = min(start - 1, pause.at)
        try:
            while position < max(start, self._position):
                # One page at a time for all who resume: many at once must not slow everybody else.
                async with self._resuming:
                    stored = await outbox.read_after(self._db, position, limit=_PAGE_OF_MISSED)
                    found = await messages.derive(self._db, stored)
                if not stored:
                    break
                position = stored[-1].number
                missed = [
                    Told(message)
                    for message in found
                    if pause.covers(message)
                    or (
                        (message.number, rules.place_of(message.id)) > (start, place)
                        and not names.isdisjoint(message.channels)
                        and not pause.was_told(message)
                    )
                ]
                if missed:
                    yield missed
        except BaseException:
            # It has no channels now: it must come again.
            subscriber.end("broken")
            raise
        if subscriber in self._subscribers:
            for name in names | pause.channels.keys():
                self._attach(subscriber, name, position)

    def _pause(self, subscriber: Subscriber) -> "_Pause":
        """Give it nothing more. What waits is taken back, and will be read again."""
        waiting = subscriber.take()
        at = waiting[0].message.number - 1 if waiting else self._position
        pause = _Pause(at, dict(subscriber.channels))
        self.unsubscribe(subscriber, pause.channels)
        return pause

    # --- what happens ---

    async def run(self) -> None:
        """Give out what happens until cancelled."""
        beside = [
            asyncio.create_task(listen(self._listen_url, outbox.CHANNEL, self._woken.set)),
            asyncio.create_task(self._watch()),
        ]
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await self._woken.wait()
                self._woken.clear()
                try:
                    while self._subscribers and await self._give_out():  # noqa: ASYNC110 - it is no wait, but reading on
                        # Others of this process have their turn between two pages.
                        await asyncio.sleep(0)
                    await asyncio.sleep(_READ_SECONDS)
                except Busy as refusal:
                    log.warning("streams.not_read", reason=refusal.code)
                except Exception:
                    log.exception("streams.broken")
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _give_out(self) -> bool:
        """Read one page and give it to whom it concerns; True where there may be more."""
        stored = await outbox.read_after(self._db, self._position, limit=_PAGE)
        if not stored:
            return False
        found = await messages.derive(self._db, stored)
        touched: set[Subscriber] = set()
        for message in found:
            told = Told(message)
            concerned = {one for name in message.channels for one in self._by_channel.get(name, ()) if _is_new(one, message)}
            for subscriber in concerned:
                subscriber.give(told)
            touched |= concerned
        self._position = stored[-1].number
        self.last_id = _all_of(stored[-1].id)
        for place, subscriber in enumerate(touched, start=1):
            subscriber.wake()
            if place % _AT_A_TIME == 0:
                await asyncio.sleep(_BETWEEN_SECONDS)
        return len(stored) == _PAGE

    async def _watch(self) -> None:
        """Every second, part with those whose log-in has ended, and wake those who have long heard nothing."""
        while True:
            for one in self._subscribers:
                one.wake_after_silence()
            try:
                await self._part()
            except Refusal as refusal:
                log.warning("streams.keys_not_checked", reason=refusal.code)
            except Exception:
                log.exception("streams.watch_broken")
            await asyncio.sleep(_WATCH_SECONDS)

    async def _part(self) -> None:
        now = time.time()
        for one in list(self._subscribers):
            visitor = one.visitor
            if self._is_out(visitor.user_id, visitor.session_id):
                one.end("out")
            elif visitor.expires_at is not None and visitor.expires_at.timestamp() <= now:
                one.end("expired")
        keys = {one.visitor.key_id for one in self._subscribers if one.visitor.key_id is not None}
        if keys:
            good = await api_keys.good_keys(self._db, keys)
            for one in list(self._subscribers):
                if one.visitor.key_id is not None and one.visitor.key_id not in good:
                    one.end("out")

    def close(self) -> None:
        """Part with everybody: the process stops. Clients come again, elsewhere, and miss nothing."""
        self.closing.set()
        for subscriber in list(self._subscribers):
            subscriber.end("closing")


def _all_of(stored_id: UUID) -> str:
    """An id beyond every message of a stored message: whoever resumes there has had them all."""
    return f"{stored_id}.9999"


def _is_new(subscriber: Subscriber, message: Message) -> bool:
    """True where some channel of both has been followed from before the message on."""
    return any(subscriber.channels.get(name, message.number) < message.number for name in message.channels)
