"""What does the fair queue cost, and what does it give? The same crowds with and without it, in turns of random order.

500 people want one slot in the same instant, 500 want a seat out of 100, 20 want each of 25 slots; and one person books
free slots one after the other, with nobody in the way. Who comes first is judged by when the client sent the request.
After each turn: everybody has an answer, and there are as many winners as places. python loadtest/fair_queue.py --help
"""

import argparse
import asyncio
import random
import statistics
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg

import processes
import raw_http
import reference_load
from holdfast.core.schedules import slots_on
from organizer import Organizer, organizer
from printing import console, figures_table, in_rounds, write_report
from raw_http import percentile
from reference_load import SCHEDULE, Load

WITHOUT, WITH = "without", "with"
_PATIENCE = 120.0
#: Places that are booked, of slots and of events.
_BOOKED = """
SELECT count(*) FROM claims c
WHERE c.booking_id IS NOT NULL
  AND (c.slot_id = ANY($1::uuid[]) OR c.resource_no IN (SELECT no FROM resources WHERE id = ANY($1::uuid[])))"""


@dataclass(frozen=True)
class Asked:
    """One request's answer: what it wanted, when it was sent (seconds since the first), how long it took in ms."""

    wanted: str
    sent: float
    milliseconds: float
    status: int


@dataclass(frozen=True)
class Turn:
    """One crowd answered. Times in ms; `fair`: winners among the first to ask; `others`: neither 201 nor 409, by status.

    `unheard`: places that are booked, and whose winners were answered something else than 201.
    """

    per_second: float
    last_loser: float | None
    p50: float
    p99: float
    winners: int
    fair: float
    others: dict[int, int]
    unheard: int


@dataclass(frozen=True)
class Crowd:
    """Who wants what: `wishes` makes the bodies and what each is about; of each there are `places`.

    One connection for each wish, all at once, unless `clients` are fewer.
    """

    name: str
    wishes: Callable[[str], list[tuple[str, dict[str, Any]]]]
    places: int
    clients: int | None = None


class House:
    """A service, rooms with and without a queue, and 500 people."""

    def __init__(self, load: Load, service: processes.Process, admin: Organizer, options: argparse.Namespace) -> None:
        self._service = service
        self._admin = admin
        self._load = load
        self._tokens = load.tokens(max(options.clients, options.slots * options.each))
        half = len(load.rooms) // 2
        self._rooms = {WITHOUT: load.rooms[:half], WITH: load.rooms[half:]}
        for room in self._rooms[WITH]:
            admin.ask("PATCH", f"/rooms/{room.id}", {"policy": {"fairQueue": True}})
        self._days = count(10)
        self._options = options

    def crowds(self) -> list[Crowd]:
        """All that is measured."""
        clients, slots, each = self._options.clients, self._options.slots, self._options.each
        return [
            Crowd(f"{clients} on one slot", lambda side: self._slots(side, 1) * clients, 1),
            Crowd(f"{clients} on {self._options.seats} seats", lambda side: self._event(side) * clients, self._options.seats),
            # Side by side, not one slot after the other, as nobody waits for the others.
            Crowd(f"{each} on each of {slots} slots", lambda side: self._slots(side, slots) * each, 1),
            Crowd("one, nobody else", lambda side: self._slots(side, 1, a_room=self._options.alone), 1, clients=1),
        ]

    def _slots(self, side: str, rooms: int, *, a_room: int = 1) -> list[tuple[str, dict[str, Any]]]:
        """Free slots that nobody has asked for yet: some of each of so many rooms."""
        found: list[str] = []
        while len(found) < rooms * a_room:
            day = self._load.last_day + timedelta(days=next(self._days))
            for room in self._rooms[side][:rooms]:
                found += [str(slot.id) for slot in slots_on(SCHEDULE, day, room.zone, room.no)][:a_room]
        return [(slot_id, {"slotId": slot_id}) for slot_id in found[: rooms * a_room]]

    def _event(self, side: str) -> list[tuple[str, dict[str, Any]]]:
        seats = {"count": self._options.seats}
        event_id = self._admin.new_event("Concert", seats=seats, policy={"fairQueue": side == WITH})
        return [(event_id, {"eventId": event_id, "quantity": 1})]

    def answer(self, crowd: Crowd, side: str) -> Turn:
        """The whole crowd asks; SystemExit where there are too many winners."""
        port, tokens = self._service.port, random.sample(self._tokens, len(self._tokens))
        wishes = crowd.wishes(side)
        messages = [
            raw_http.request("POST", "/bookings", port=port, token=tokens[n % len(tokens)], body=body)
            for n, (_, body) in enumerate(wishes)
        ]
        turn, asking = iter(range(len(wishes))), [0] * len(wishes)
        asked: list[Asked] = []

        def following(connection: int) -> bytes | None:
            number = next(turn, None)
            if number is None:
                return None
            asking[connection] = number
            return messages[number]

        def heard(connection: int, sent: float, had: float, data: bytes) -> None:
            asked.append(Asked(wishes[asking[connection]][0], sent, (had - sent) * 1000, int(data[9:12])))

        raw_http.closed_loop(port, following, connections=crowd.clients or len(wishes), seconds=_PATIENCE, heard=heard)
        if len(asked) != len(wishes):
            raise SystemExit(f"bench-queue: {len(asked)} answers to {len(wishes)} requests")
        return _judged(asked, crowd.places, asyncio.run(self._booked({wanted for wanted, _ in wishes})))

    async def _booked(self, wanted: set[str]) -> int:
        connection = await asyncpg.connect(self._load.url)
        try:
            found: int = await connection.fetchval(_BOOKED, list(wanted))
        finally:
            await connection.close()
        return found


def _judged(asked: list[Asked], places: int, booked: int) -> Turn:
    begun = min(one.sent for one in asked)
    ended = max(one.sent + one.milliseconds / 1000 for one in asked)
    of_thing: dict[str, list[Asked]] = defaultdict(list)
    for one in sorted(asked, key=lambda one: one.sent):
        of_thing[one.wanted].append(one)
    winners = [one for one in asked if one.status == 201]
    for found in of_thing.values():
        won = sum(one.status == 201 for one in found)
        answered = all(one.status in {201, 409} for one in found)
        if won > places or (answered and won < min(places, len(found))):
            raise SystemExit(f"bench-queue: {won} of {len(found)} won, of {places} places. This is a defect of the service.")
    if booked < len(winners):
        raise SystemExit(f"bench-queue: {len(winners)} answers of 201, {booked} bookings. This is a defect of the service.")
    first = sum(one.status == 201 for found in of_thing.values() for one in found[:places])
    losers = [one.sent + one.milliseconds / 1000 - begun for one in asked if one.status == 409]
    latencies = [one.milliseconds for one in asked]
    return Turn(
        per_second=len(asked) / (ended - begun),
        last_loser=max(losers) * 1000 if losers else None,
        p50=percentile(latencies, 50),
        p99=percentile(latencies, 99),
        winners=len(winners),
        fair=first / len(winners) if winners else 0.0,
        unheard=booked - len(winners),
        others=dict(Counter(one.status for one in asked if one.status not in {201, 409})),
    )


def _counted(turns: Iterable[Turn]) -> str:
    """How many were answered neither 201 nor 409, by status; 0 for nobody."""
    others = sum((Counter(turn.others) for turn in turns), Counter[int]())
    return ", ".join(f"{number} x {status}" for status, number in sorted(others.items())) or "0"


def _report(found: dict[str, list[Turn]], crowds: list[Crowd]) -> dict[str, Any]:
    columns = ("queue", "req/s", "last loser ms", "P50 ms", "P99 ms", "in order", "wrong", "unheard")
    table = figures_table("", *columns, title="Medians; wrong and unheard in all")
    report = {}
    for crowd in crowds:
        for side in (WITHOUT, WITH):
            turns = found[f"{crowd.name}, {side}"]
            losers = [turn.last_loser for turn in turns if turn.last_loser is not None]
            table.add_row(
                crowd.name if side == WITHOUT else "",
                side,
                f"{statistics.median(turn.per_second for turn in turns):,.0f}",
                f"{statistics.median(losers):,.0f}" if losers else "",
                f"{statistics.median(turn.p50 for turn in turns):,.1f}",
                f"{statistics.median(turn.p99 for turn in turns):,.1f}",
                f"{statistics.mean(turn.fair for turn in turns):.0%}" if losers else "",
                _counted(turns),
                str(sum(turn.unheard for turn in turns)),
            )
            report[f"{crowd.name}, {side}"] = [asdict(turn) for turn in turns]
        pairs = zip(found[f"{crowd.name}, {WITH}"], found[f"{crowd.name}, {WITHOUT}"], strict=True)
        ratio = statistics.median(a.per_second / b.per_second for a, b in pairs)
        table.add_row("", "ratio", f"{ratio:.2f}")
    console.print(table)
    console.print(
        "  in order: winners who were among the first to ask, by when their clients sent the request (mean of all rounds)"
    )
    console.print("  wrong: answers other than 201 and 409; unheard: booked, but not answered 201")
    return report


def main() -> int:
    """Ask, compare; exit code 1 where somebody was answered neither 201 nor 409, or where there are too many winners."""
    parser = argparse.ArgumentParser(description="Crowds with and without the fair queue.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clients", type=int, default=500, help="people on one slot, and on the seats")
    parser.add_argument("--seats", type=int, default=100, help="of the event")
    parser.add_argument("--slots", type=int, default=25, help="in as many rooms; at most 25")
    parser.add_argument("--each", type=int, default=20, help="people on each of the slots")
    parser.add_argument("--alone", type=int, default=20, help="bookings of the one who is alone; at most 20")
    parser.add_argument("--workers", type=int, default=1, help="server processes")
    parser.add_argument("--data-dir", type=Path, default=reference_load.DEFAULT_FOLDER, help="folder of the embedded PostgreSQL")
    parser.add_argument("--output", type=Path, default=Path("reports/fair_queue.json"))
    options = parser.parse_args()
    with ExitStack() as stack:
        on = stack.enter_context(reference_load.server(options.data_dir))
        load = stack.enter_context(reference_load.cloned(on, reference_load.ensure(on), "holdfast_load_queue"))
        service = stack.enter_context(processes.holdfast(load.url, workers=options.workers, apart=True))
        house = House(load, service, stack.enter_context(organizer(service.url)), options)
        crowds = house.crowds()
        turns = [
            (f"{crowd.name}, {side}", lambda crowd=crowd, side=side: house.answer(crowd, side))
            for crowd in crowds
            for side in (WITHOUT, WITH)
        ]
        in_rounds(turns, 1)
        found = in_rounds(turns, options.rounds)
    report = _report(found, crowds)
    write_report(options.output, {"workers": options.workers, "turns": report})
    console.print(f"All rounds: {options.output}. Next: README.md says when a queue is worth it")
    wrong = _counted(turn for turns in found.values() for turn in turns)
    if wrong != "0":
        console.print(f"Answered neither 201 nor 409: {wrong}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
