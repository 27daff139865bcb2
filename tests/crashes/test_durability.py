"""A write is acknowledged after its commit, and not before: with a standby that is missing, no write may answer 2xx."""

import asyncio
import time

import asyncpg
import httpx

from support.crashes import LONGEST_ANSWER, Postgres, make_ground, until
from support.servers import ServerProcess


async def test_with_a_missing_standby_no_write_answers_2xx_and_reads_do(durable: Postgres, service: ServerProcess) -> None:
    service.start()
    ground = await make_ground(durable.url, service.url, people=3, days=2)
    user, other, leaving = ground.people
    async with httpx.AsyncClient(base_url=service.url, timeout=20) as client:
        stands = await client.post("/bookings", json={"slotId": ground.slots[0]}, headers=user.headers)
        moves = await client.post("/bookings", json={"slotId": ground.slots[1]}, headers=other.headers)
        assert (stands.status_code, moves.status_code) == (201, 201)
        connection = await asyncpg.connect(durable.url)
        try:
            await connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'missing'")
            await connection.execute("SELECT pg_reload_conf()")
            await _shown(connection, "missing")
            key = {**user.headers, "Idempotency-Key": "once"}
            begun = time.monotonic()
            writes = {
                "book": client.post("/bookings", json={"slotId": ground.slots[5]}, headers=user.headers),
                "book with a key": client.post("/bookings", json={"slotId": ground.slots[6]}, headers=key),
                "cancel": client.post(f"/bookings/{stands.json()['booking']['id']}/cancel", headers=user.headers),
                "move": client.post(
                    f"/bookings/{moves.json()['booking']['id']}/reschedule",
                    json={"slotId": ground.slots[7]},
                    headers=other.headers,
                ),
                "make a room": client.post("/rooms", json={"name": "Late"}, headers=ground.boss.headers),
                "register": client.post("/register", json={"email": "late@example.com", "password": "p", "role": "user"}),
                "leave": client.delete("/users/me", headers=leaving.headers),
            }
            # Reads meanwhile, as ever: the read pool is its own, and a read waits for no standby.
            tasks = {what: asyncio.ensure_future(write) for what, write in writes.items()}
            read = await client.get(f"/rooms/{ground.room}/slots", params={"date": "2031-01-01"}, headers=ground.boss.headers)
            assert read.status_code == 200
            answers = {what: (await task).status_code for what, task in tasks.items()}
            assert {what: status for what, status in answers.items() if status != 503} == {}
            assert time.monotonic() - begun < 2 * LONGEST_ANSWER  # the room's lock was waited for, then the commit
            again = await client.post("/bookings", json={"slotId": ground.slots[6]}, headers=key)
            assert not again.is_success, "a repeat acknowledges what no standby has"
            again = await client.post(f"/bookings/{stands.json()['booking']['id']}/cancel", headers=user.headers)
            assert not again.is_success, "a second cancel acknowledges what no standby has"
            await connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
            await connection.execute("SELECT pg_reload_conf()")
            await _shown(connection, "")
        finally:
            await connection.close()
        works = await client.post("/bookings", json={"slotId": ground.slots[9]}, headers=other.headers)
        assert works.status_code == 201, works.text
        settled = await client.post("/bookings", json={"slotId": ground.slots[6]}, headers=key)
        assert settled.status_code == 201, settled.text


async def _shown(connection: asyncpg.Connection, value: str) -> None:
    """Return when the server has read its settings again."""

    async def shown() -> bool:
        return bool(await connection.fetchval("SHOW synchronous_standby_names") == value)

    await until(shown)
