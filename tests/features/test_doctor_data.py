"""`holdfast doctor --data`: what cannot be is found by its name, and nothing else is; what can be is left alone."""

import asyncio
import io
from collections.abc import AsyncIterator, Iterable

import asyncpg
import pytest
from rich.console import Console

from holdfast.bookings.service import settle_all
from holdfast.db.database import fetch_in
from holdfast.inspection import INVARIANTS, Severity, check, look, report
from support.api import Api, Person
from support.everything import Everything, everything, made, move_end

#: In a transaction that is never committed: the constraints that would refuse what is forged, and the foreign keys, are off.
UNGUARDED = """
SET LOCAL session_replication_role = replica;
DO $$
DECLARE found record;
BEGIN
  FOR found IN SELECT conrelid::regclass AS of, conname AS name FROM pg_constraint
               WHERE contype IN ('c', 'x') AND connamespace = 'public'::regnamespace LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', found.of, found.name);
  END LOOP;
END $$;
DROP INDEX claims_one_per_seat, waitlist_entries_once_per_user, outbox_one_per_number"""


def booking_in(place: str, status: str = "active") -> str:
    """SQL: the latest booking of a room or an event, by its name."""
    return f"""(SELECT b.id FROM bookings b JOIN booking_units u ON u.booking_id = b.id JOIN resources r ON r.no = u.resource_no
      WHERE r.name = '{place}' AND b.status = '{status}' ORDER BY b.start_at DESC, b.id DESC LIMIT 1)"""


def hold_in(place: str) -> str:
    """SQL: a hold that has something of a room or an event."""
    return f"""(SELECT c.hold_id FROM claims c JOIN resources r ON r.no = c.resource_no
      WHERE r.name = '{place}' AND c.hold_id IS NOT NULL AND c.expires_at > clock_timestamp() ORDER BY c.no LIMIT 1)"""


def told(message: str, subject: str) -> str:
    """SQL: a message about something."""
    return f"INSERT INTO outbox (id, type, subject_id, actor_role) SELECT gen_random_uuid(), '{message}', {subject}, 'system'"


def another(like: str, *, place: str | None = None, later: str = "0 minutes", made_at: str = "clock_timestamp()") -> str:
    """SQL: one more booking like another, complete with its claims and message: at another time, or of another room."""
    number = f"(SELECT no FROM resources WHERE name = '{place}')" if place else "u.resource_no"
    during = f"tstzrange(lower(u.during) + interval '{later}', upper(u.during) + interval '{later}')"
    return f"""
WITH b AS (
  INSERT INTO bookings (id, user_id, kind, start_at, end_at, created_at)
  SELECT gen_random_uuid(), user_id, kind, start_at + interval '{later}', end_at + interval '{later}', {made_at}
  FROM bookings WHERE id = {like} RETURNING id),
u AS (
  INSERT INTO booking_units (booking_id, position, resource_no, during, slot_id)
  SELECT b.id, u.position, {number}, {during}, u.slot_id FROM booking_units u, b WHERE u.booking_id = {like} RETURNING *),
c AS (
  INSERT INTO claims (resource_no, during, slot_id, booking_id) SELECT resource_no, during, slot_id, booking_id FROM u)
{told("booking.created", "b.id")} FROM b"""


CANCEL = """
WITH gone AS (DELETE FROM claims WHERE booking_id = {0}),
cancelled AS (UPDATE bookings SET status = 'cancelled', cancelled_at = clock_timestamp() WHERE id = {0})
{1}"""


def cancelled(booking: str) -> str:
    """SQL: a booking is cancelled, and nobody is offered what it had."""
    return CANCEL.format(booking, told("booking.cancelled", booking))


def without(message: str, subjects: str) -> str:
    """SQL: a message is missing."""
    return f"DELETE FROM outbox WHERE type = '{message}' AND subject_id = (SELECT id FROM {subjects} ORDER BY id LIMIT 1)"


PLAIN, OTHER, TALK, FULL = booking_in("Plain"), booking_in("Other"), booking_in("Talk"), booking_in("Full")
HELD, HELD_SEATS = hold_in("Held"), hold_in("Talk")
FAR = "tstzrange(clock_timestamp() + interval '900 days', clock_timestamp() + interval '901 days')"

#: Each invariant's forgeries: statements after which it is found broken, and no other one is.
FORGERIES: dict[str, list[list[str]]] = {
    "units-taken-once": [
        [another(PLAIN)],
        [another(PLAIN, later="10 minutes")],
        [
            (
                f"UPDATE claims SET seat_no = (SELECT min(seat_no) FROM claims WHERE booking_id = {TALK}) "
                f"WHERE no = (SELECT min(no) FROM claims WHERE hold_id = {HELD_SEATS})"
            )
        ],
    ],
    "claims-have-a-period": [
        [f"UPDATE claims SET during = tstzrange(lower(during), NULL) WHERE hold_id = {HELD}"],
        [f"UPDATE claims SET during = 'empty' WHERE hold_id = {HELD}"],
        [f"UPDATE claims SET during = tstzrange(now(), NULL) WHERE hold_id = {HELD_SEATS}"],
    ],
    "claims-are-of-what-is-there": [
        [
            (
                "UPDATE claims SET seat_no = (SELECT max(s.no) FROM seats s JOIN resources r ON r.no = s.resource_no "
                f"WHERE r.name = 'Moved') WHERE no = (SELECT min(no) FROM claims WHERE hold_id = {HELD_SEATS})"
            )
        ],
        [f"UPDATE claims SET seat_no = 0, during = {FAR} WHERE no = (SELECT min(no) FROM claims WHERE hold_id = {HELD_SEATS})"],
        [f"UPDATE claims SET resource_no = -1 WHERE hold_id = {HELD}"],
    ],
    "published-slots-never-overlap": [
        [
            (
                "INSERT INTO host_slots (id, resource_no, during) SELECT gen_random_uuid(), resource_no, "
                "tstzrange(lower(during) + interval '59 minutes', upper(during)) FROM host_slots WHERE deleted_at IS NULL LIMIT 1"
            )
        ]
    ],
    "deleted-slots-are-nobodys": [
        [
            (
                "UPDATE host_slots SET deleted_at = clock_timestamp() WHERE id IN "
                "(SELECT slot_id FROM claims WHERE booking_id IS NOT NULL)"
            )
        ]
    ],
    "archived-resources-are-nobodys": [["UPDATE resources SET archived_at = clock_timestamp() WHERE name IN ('Other', 'Talk')"]],
    "claims-have-a-holder": [
        [
            (
                f"INSERT INTO claims (resource_no, during, hold_id, expires_at) SELECT no, {FAR}, gen_random_uuid(), "
                "clock_timestamp() + interval '1 hour' FROM resources WHERE name = 'Plain'"
            )
        ],
        [f"INSERT INTO claims (resource_no, during) SELECT no, {FAR} FROM resources WHERE name = 'Plain'"],
        [f"UPDATE claims SET closure_id = gen_random_uuid() WHERE booking_id = {PLAIN}"],
    ],
    "cancelled-bookings-have-nothing": [
        [
            told("booking.cancelled", OTHER),
            f"UPDATE bookings SET status = 'cancelled', cancelled_at = clock_timestamp() WHERE id = {OTHER}",
        ]
    ],
    "ended-holds-have-nothing": [
        [
            told("hold.released", HELD),
            f"UPDATE holds SET ended_at = clock_timestamp(), outcome = 'released' WHERE id = {HELD}",
        ]
    ],
    "holds-end-with-their-claims": [
        [f"UPDATE holds SET expires_at = expires_at + interval '1 microsecond' WHERE id = {HELD}"],
        [f"UPDATE claims SET expires_at = NULL WHERE hold_id = {HELD}"],
    ],
    "holds-have-claims": [[f"DELETE FROM claims WHERE hold_id = {HELD}"]],
    "holds-say-how-they-ended": [
        ["UPDATE holds SET outcome = 'eaten' WHERE outcome = 'booked' AND origin = 'request'"],
        ["UPDATE holds SET ended_at = expires_at - interval '1 second' WHERE outcome = 'lapsed' AND origin = 'request'"],
    ],
    "booked-holds-have-their-booking": [
        ["UPDATE holds SET booking_id = gen_random_uuid() WHERE outcome = 'booked' AND origin = 'request'"],
        [
            (
                "INSERT INTO holds (id, user_id, booking_id, lasts_for, expires_at, ended_at, outcome) "
                "SELECT gen_random_uuid(), user_id, booking_id, lasts_for, expires_at, ended_at, outcome FROM holds "
                "WHERE outcome = 'booked' AND origin = 'request'"
            ),
            (
                "INSERT INTO outbox (id, type, subject_id, actor_role) "
                "SELECT gen_random_uuid(), 'hold.created', h.id, 'system' "
                "FROM holds h WHERE NOT EXISTS (SELECT FROM outbox o WHERE o.subject_id = h.id)"
            ),
        ],
    ],
    "closures-have-their-claim": [
        ["DELETE FROM claims WHERE closure_id IN (SELECT id FROM closures WHERE start_at IS NOT NULL)"],
        ["UPDATE closures SET end_at = end_at + interval '1 minute' WHERE start_at IS NOT NULL"],
    ],
    "blocks-have-their-seats": [
        ["DELETE FROM claims WHERE closure_id IN (SELECT id FROM closures WHERE start_at IS NULL)"],
        ["UPDATE closures SET resource_no = 1 WHERE start_at IS NULL"],
    ],
    "lapsed-holds-are-tidied-up": [
        [
            (
                "WITH moved AS (UPDATE holds SET expires_at = clock_timestamp() - interval '2 minutes' "
                f"WHERE id = {HELD} RETURNING *) "
                "UPDATE claims SET expires_at = moved.expires_at FROM moved WHERE hold_id = moved.id"
            )
        ]
    ],
    "bookings-have-their-claims": [[f"DELETE FROM claims WHERE booking_id = {OTHER}"]],
    "bookings-have-no-other-claims": [
        [f"INSERT INTO claims (resource_no, during, booking_id) SELECT resource_no, {FAR}, {PLAIN} FROM claims LIMIT 1"]
    ],
    "bookings-have-units": [
        [
            (
                "INSERT INTO bookings (id, user_id, kind, start_at, end_at) "
                "SELECT gen_random_uuid(), user_id, 'room', start_at, end_at FROM bookings LIMIT 1"
            ),
            (
                "INSERT INTO outbox (id, type, subject_id, actor_role) "
                "SELECT gen_random_uuid(), 'booking.created', b.id, 'system' "
                "FROM bookings b WHERE NOT EXISTS (SELECT FROM outbox o WHERE o.subject_id = b.id)"
            ),
        ]
    ],
    "bookings-span-their-units": [
        [f"UPDATE bookings SET start_at = start_at - interval '1 minute' WHERE id = {PLAIN}"],
        [f"UPDATE bookings SET end_at = NULL WHERE id = {PLAIN}"],
    ],
    "bookings-are-of-their-kind": [[f"UPDATE bookings SET kind = 'host' WHERE id = {PLAIN}"]],
    "bookings-are-at-their-event": [
        ["UPDATE events SET end_at = end_at + interval '1 hour' FROM resources r WHERE r.no = resource_no AND r.name = 'Talk'"]
    ],
    "bookings-name-what-they-have": [
        [f"UPDATE claims SET slot_id = gen_random_uuid() WHERE booking_id = {PLAIN}"],
        [
            f"UPDATE claims SET slot_id = gen_random_uuid() WHERE booking_id = {TALK}",
            (
                "UPDATE booking_units u SET slot_id = c.slot_id FROM claims c "
                f"WHERE c.booking_id = {TALK} AND u.booking_id = c.booking_id AND u.seat_no = c.seat_no"
            ),
        ],
    ],
    "bookings-say-when-cancelled": [
        ["UPDATE bookings SET cancelled_at = created_at - interval '1 second' WHERE status = 'cancelled'"],
        [f"UPDATE bookings SET cancelled_at = clock_timestamp() WHERE id = {PLAIN}"],
    ],
    "series-have-their-bookings": [
        ["UPDATE series SET user_id = (SELECT id FROM users WHERE role = 'admin' LIMIT 1)"],
        ["DELETE FROM series"],
        [
            (
                "INSERT INTO series (id, user_id, resource_no, recurrence, start_at, end_at) "
                "SELECT gen_random_uuid(), user_id, resource_no, recurrence, start_at, end_at FROM series"
            )
        ],
    ],
    "deleted-users-have-nothing": [["UPDATE users SET status = 'deleted' WHERE role = 'admin'"]],
    "limits-everywhere-hold": [
        [another(booking_in("Two"), later="120 minutes")],
        # The limit of another room, by what was there long before.
        [
            f"UPDATE bookings SET created_at = clock_timestamp() + interval '1 hour' WHERE id = {booking_in('Two')}",
            another(booking_in("Two"), place="Unlimited", later="120 minutes"),
        ],
    ],
    "limits-here-hold": [[another(booking_in("Here"), later="30 minutes")]],
    "overlaps-are-refused": [
        [another(booking_in("Alone"), place="Beside")],
        [another(booking_in("Alone"), place="Other", made_at="clock_timestamp() - interval '1 hour'")],
    ],
    "holds-are-few": [
        [
            (
                "INSERT INTO claims (resource_no, during, hold_id, expires_at) "
                "SELECT r.no, tstzrange(t, t + interval '1 hour'), h.id, h.expires_at FROM holds h, resources r, "
                "generate_series(clock_timestamp() + interval '900 days', clock_timestamp() + interval '909 days', '1 day') t "
                f"WHERE h.id = {HELD} AND r.name = 'Held'"
            )
        ]
    ],
    "limits-were-lowered": [
        [
            """UPDATE resources SET policy = '{"maxActivePerUserHere": 1}' WHERE name = 'Plain'""",
            """INSERT INTO outbox (id, type, subject_id, actor_role, before, after) SELECT gen_random_uuid(), 'room.updated', id,
               'admin', '{"policy": {}}', jsonb_build_object('policy', policy) FROM resources WHERE name = 'Plain'""",
        ],
        [
            """UPDATE resources SET policy = '{"maxActivePerUser": 1}' WHERE name = 'Two'""",
            """INSERT INTO outbox (id, type, subject_id, actor_role, before, after) SELECT gen_random_uuid(), 'room.updated', id,
               'admin', '{"policy": {}}', jsonb_build_object('policy', policy) FROM resources WHERE name = 'Two'""",
        ],
    ],
    "offers-are-holds": [
        ["UPDATE waitlist_entries SET quantity = quantity + 1 WHERE status = 'offered'"],
        ["UPDATE waitlist_entries SET user_id = (SELECT id FROM users WHERE role = 'admin' LIMIT 1) WHERE status = 'offered'"],
    ],
    "offers-are-somebodys": [[f"UPDATE holds SET origin = 'waitlist' WHERE id = {HELD}"]],
    "waits-end-in-own-bookings": [
        ["UPDATE waitlist_entries SET quantity = 5 WHERE status = 'booked' AND slot_id IS NULL"],
        ["UPDATE waitlist_entries SET booking_id = gen_random_uuid() WHERE status = 'booked'"],
    ],
    "waits-make-sense": [
        ["UPDATE waitlist_entries SET start_at = start_at + interval '1 hour' WHERE status = 'waiting' AND slot_id IS NULL"],
        ["UPDATE waitlist_entries SET ended_at = NULL WHERE status = 'left' AND slot_id IS NULL"],
    ],
    "waits-are-one-each": [
        [
            (
                "INSERT INTO waitlist_entries (id, resource_no, user_id, slot_id, start_at, end_at, quantity, auto_book) "
                "SELECT gen_random_uuid(), resource_no, user_id, slot_id, start_at, end_at, quantity, auto_book "
                "FROM waitlist_entries WHERE status = 'waiting' AND slot_id IS NULL"
            ),
            (
                "INSERT INTO outbox (id, type, subject_id, actor_role) "
                "SELECT gen_random_uuid(), 'waitlist.joined', e.id, 'system' "
                "FROM waitlist_entries e WHERE NOT EXISTS (SELECT FROM outbox o WHERE o.subject_id = e.id)"
            ),
        ]
    ],
    "nobody-waits-in-vain": [
        [cancelled(f"(SELECT booking_id FROM claims WHERE slot_id = ({awaited}))")]
        for awaited in (
            (
                "SELECT slot_id FROM waitlist_entries e JOIN resources r ON r.no = e.resource_no "
                "WHERE status = 'waiting' AND r.name = 'Awaited' ORDER BY e.number LIMIT 1"
            ),
            (
                "SELECT slot_id FROM waitlist_entries e JOIN resources r ON r.no = e.resource_no "
                "WHERE status = 'waiting' AND r.kind = 'host' LIMIT 1"
            ),
        )
    ]
    + [
        [
            (
                f"WITH moved AS (UPDATE holds SET expires_at = clock_timestamp() WHERE id = {hold_in('Awaited')} RETURNING *) "
                "UPDATE claims SET expires_at = moved.expires_at FROM moved WHERE hold_id = moved.id"
            )
        ],
        [
            (
                "INSERT INTO seats (id, resource_no, label) SELECT gen_random_uuid(), no, 'new-' || n "
                "FROM resources, generate_series(1, 2) AS n WHERE name = 'Full'"
            )
        ],
    ],
    "waits-end-with-what-they-are-for": [
        [
            (
                "UPDATE waitlist_entries SET start_at = clock_timestamp() - interval '1 minute' "
                "WHERE status = 'waiting' AND slot_id IS NOT NULL"
            )
        ]
    ],
    "requests-end-in-own-bookings": [
        ["UPDATE booking_requests SET user_id = (SELECT id FROM users WHERE role = 'admin' LIMIT 1) WHERE status = 'booked'"],
        ["UPDATE booking_requests SET status = 'refused', booking_id = NULL WHERE status = 'booked'"],
    ],
    "requests-are-served": [
        [
            (
                "INSERT INTO booking_requests (id, resource_no, user_id, request, created_at) "
                "SELECT gen_random_uuid(), 1, user_id, '{}', clock_timestamp() - interval '5 minutes' FROM bookings LIMIT 1"
            )
        ]
    ],
    "bookings-are-told-of": [
        [without("booking.created", "bookings")],
        [told("booking.created", PLAIN)],
    ],
    "cancellations-are-told-of": [
        [without("booking.cancelled", "bookings WHERE status = 'cancelled'")],
        [told("booking.cancelled", PLAIN)],
    ],
    "holds-are-told-of": [[without("hold.created", "holds")]],
    "lapses-are-told-of": [
        [without("hold.lapsed", "holds WHERE outcome = 'lapsed'")],
        [told("hold.lapsed", HELD)],
    ],
    "releases-are-told-of": [
        [without("hold.released", "holds WHERE outcome = 'released'")],
        [told("hold.released", HELD)],
    ],
    "joins-are-told-of": [[without("waitlist.joined", "waitlist_entries")]],
    "booked-waits-are-told-of": [[without("waitlist.booked", "waitlist_entries WHERE status = 'booked'")]],
    "messages-are-numbered-once": [["UPDATE outbox SET number = 7"]],
    "kept-answers-are-true": [
        [
            (
                "UPDATE idempotency_keys SET headers = replace(headers::text, b.id::text, gen_random_uuid()::text)::jsonb "
                "FROM bookings b WHERE position(b.id::text IN headers::text) > 0"
            )
        ]
    ],
}


async def broken(connection: asyncpg.Connection) -> dict[str, tuple[str, ...]]:
    """What this connection's transaction finds broken: names, each with examples."""
    found = [await look(connection, invariant) for invariant in INVARIANTS]
    return {finding.invariant.name: finding.examples for finding in found if finding.level != "ok"}


@pytest.fixture
async def connection(api: Api) -> AsyncIterator[asyncpg.Connection]:
    made_here = await asyncpg.connect(api.db.url)
    yield made_here
    await made_here.close()


async def test_what_each_invariant_forbids_is_found_by_its_name_and_by_no_other(
    api: Api, admin: Person, connection: asyncpg.Connection
) -> None:
    await everything(api, admin)
    await _every_kind_of_state_is_there(connection)
    assert await broken(connection) == {}
    missed = {}
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(UNGUARDED)
    assert await broken(connection) == {}
    for name, forgeries in FORGERIES.items():
        for number, statements in enumerate(forgeries):
            forgery = connection.transaction()
            await forgery.start()
            changed = [await connection.execute(statement) for statement in statements]
            assert not any(tag.endswith(" 0") for tag in changed), f"{name}, forgery {number} forges nothing: {changed}"
            found = await broken(connection)
            if set(found) != {name} or not all(found.values()):
                missed[f"{name}, forgery {number}"] = found
            await forgery.rollback()
    await transaction.rollback()
    assert missed == {}


async def _every_kind_of_state_is_there(connection: asyncpg.Connection) -> None:
    """The mix is worth looking at: every status and outcome occurs."""
    for table, column, values in (
        ("bookings", "kind || ' ' || status", {"room active", "room cancelled", "host active", "host cancelled", "event active"}),
        ("holds", "coalesce(outcome, 'none')", {"none", "booked", "released", "lapsed"}),
        ("holds", "origin", {"request", "waitlist", "conference"}),
        ("waitlist_entries", "status", {"waiting", "offered", "booked", "lapsed", "left"}),
        ("booking_requests", "status", {"booked", "refused"}),
        ("users", "status", {"active", "suspended", "deleted"}),
    ):
        found = {row[0] for row in await connection.fetch(f"SELECT DISTINCT {column} FROM {table}")}
        assert values <= found, (table, column)


def test_every_invariant_has_a_forgery_a_name_and_a_sentence() -> None:
    names = [invariant.name for invariant in INVARIANTS]
    assert len(set(names)) == len(names)
    assert set(FORGERIES) == set(names)
    for invariant in INVARIANTS:
        assert invariant.name == invariant.name.lower().strip("-")
        assert invariant.broken.endswith((".", "tidied up: they are free for the next taker all the same."))
        assert invariant.severity is Severity.BROKEN or invariant.advice


async def found_by_check(api: Api, patience: float = 0, names: Iterable[str] = ()) -> dict[str, tuple[str, int]]:
    """What `check` finds: names, each with its level and how many things there are."""
    chosen = [one for one in INVARIANTS if not names or one.name in names]
    return {
        finding.invariant.name: (finding.level, finding.total)
        async for finding in check(api.db, invariants=chosen, patience=patience)
        if finding.level != "ok"
    }


async def awaited_slot_that_is_free(api: Api, admin: Person) -> None:
    """Somebody waits for a slot that was cancelled behind the service's back."""
    room = await api.room(admin)
    taker, waits = await api.people(2)
    booking = await api.booked(taker, (await api.slots(admin, room))[0])
    made(await api.post("/waitlist", waits, json={"slotId": booking["slotId"]}), "entry")
    await api.db.fetch(cancelled(f"'{booking['id']}'"))


async def test_what_the_worker_mends_in_its_next_round_is_not_reported(api: Api, admin: Person) -> None:
    await awaited_slot_that_is_free(api, admin)
    assert await found_by_check(api) == {"nobody-waits-in-vain": ("fail", 1)}
    assert await found_by_check(api, patience=0.2) == {"nobody-waits-in-vain": ("fail", 1)}

    async def worker() -> None:
        await asyncio.sleep(0.05)
        await settle_all(api.db)

    found, _ = await asyncio.gather(found_by_check(api, 1, ["nobody-waits-in-vain"]), worker())
    assert found == {}


async def test_who_waits_anew_at_the_second_look_does_not_count(api: Api, admin: Person) -> None:
    """Somebody waits in vain at each look, and never the same one for longer than a round."""
    await awaited_slot_that_is_free(api, admin)

    async def others_turn() -> None:
        await asyncio.sleep(0.1)
        await settle_all(api.db)
        await awaited_slot_that_is_free(api, admin)

    found, _ = await asyncio.gather(found_by_check(api, 1, ["nobody-waits-in-vain"]), others_turn())
    assert found == {}
    assert await found_by_check(api) == {"nobody-waits-in-vain": ("fail", 1)}


async def test_all_findings_speak_of_one_moment(api: Api, admin: Person) -> None:
    await everything(api, admin)
    findings = check(api.db, patience=0)
    first = await anext(findings)
    await api.db.fetch("DELETE FROM claims")
    rest = [finding async for finding in findings]
    assert {finding.level for finding in [first, *rest]} == {"ok"}
    assert "bookings-have-their-claims" in await found_by_check(api)


async def test_a_look_writes_nothing_and_waits_for_nobody_who_writes(api: Api, admin: Person) -> None:
    await everything(api, admin)
    before = await api.db.fetch("SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) AS writes FROM pg_stat_xact_user_tables")
    parked = await asyncpg.connect(api.db.url)
    try:
        async with parked.transaction():
            await parked.execute("SELECT FROM resources FOR UPDATE")
            await parked.execute("SELECT FROM users FOR UPDATE")
            assert await asyncio.wait_for(found_by_check(api), 30) == {}
    finally:
        await parked.close()
    after = await api.db.fetch("SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) AS writes FROM pg_stat_xact_user_tables")
    assert before == after


async def test_a_limit_that_was_lowered_is_a_note_and_one_that_was_exceeded_a_failure(api: Api, admin: Person) -> None:
    mix = Everything(api, admin)
    room = await api.room(admin, policy={"maxActivePerUserHere": 2})
    user = await api.person()
    slots = await api.slots(admin, room)
    for slot in slots[:2]:
        await mix.book(user, slotId=slot["id"])
    made(await api.send("PATCH", f"/rooms/{room['id']}", admin, json={"policy": {"maxActivePerUserHere": 1}}), "room", 200)
    assert await found_by_check(api) == {"limits-were-lowered": ("note", 1)}
    await api.db.fetch("UPDATE bookings SET created_at = clock_timestamp() + interval '1 second'")
    assert await found_by_check(api) == {"limits-here-hold": ("fail", 1)}


async def test_a_lapsed_hold_that_nobody_tidied_up_is_a_note_and_free_for_who_waits(api: Api, admin: Person) -> None:
    mix = Everything(api, admin)
    room = await api.room(admin)
    user, waits = await api.people(2)
    hold = await mix.hold(user, slotId=(await api.slots(admin, room))[0]["id"])
    await move_end(api, hold["token"], -1)
    assert await found_by_check(api) == {}
    await move_end(api, hold["token"], -90)
    assert await found_by_check(api) == {"lapsed-holds-are-tidied-up": ("note", 1)}
    await move_end(api, hold["token"], 90)
    await mix.join(waits, slotId=hold["slotIds"][0])
    await move_end(api, hold["token"], -1)
    assert await found_by_check(api) == {"nobody-waits-in-vain": ("fail", 1)}
    await settle_all(api.db)
    assert await found_by_check(api) == {}


async def printed(api: Api) -> tuple[int, list[str]]:
    """How many are broken, and the lines that are printed."""
    out = io.StringIO()
    count = await report(api.db, Console(file=out, width=200, soft_wrap=True), patience=0)
    return count, out.getvalue().splitlines()


async def test_the_report_has_a_line_for_each_invariant_and_says_what_is_wrong_with_examples(api: Api, admin: Person) -> None:
    await everything(api, admin)
    count, lines = await printed(api)
    assert count == 0
    assert [line[:6] + line.split()[1] for line in lines] == [f"ok    {invariant.name}" for invariant in INVARIANTS]
    async with api.db.transaction() as session:
        # The outbox is append-only; only who disables its triggers can forge it.
        await fetch_in(session, "SET LOCAL session_replication_role = replica")
        await fetch_in(session, "DELETE FROM outbox WHERE type = 'booking.created'")
    (row,) = await api.db.fetch("SELECT count(*) AS n FROM bookings")
    count, lines = await printed(api)
    assert count == 1
    at = next(n for n, line in enumerate(lines) if line.startswith("FAIL"))
    assert "bookings-are-told-of: A booking was made, and the outbox does not say so exactly once." in lines[at]
    assert lines[at + 1].startswith("      booking: ")
    assert lines[at + 1].endswith(f" and {row['n'] - 5} more")
    assert "->" in lines[at + 2]
