"""What must be so for the promises to hold on this machine and this database, and what to do where it is not."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from holdfast import outbox
from holdfast.adapters.conferencing import ProviderUnknown, make_provider
from holdfast.core.settings import DEVELOPMENT_SECRET, Settings
from holdfast.db import migrations
from holdfast.db.database import SERVER_SETTINGS, Database
from holdfast.worker import POOL_SIZE as WORKER_POOL_SIZE

_OLDEST = 15
#: Beyond which no worker seems to run.
_MAX_LAG_SECONDS = 60.0
_MAX_SKEW_SECONDS = 2.0
_LOOK = """
SELECT current_setting('server_version_num')::int / 10000 AS major, current_setting('fsync') AS fsync,
       current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('max_connections')::int AS max_connections,
       pg_is_in_recovery() AS standby, clock_timestamp() AS now,
       (SELECT array_agg(w.name) FROM unnest($1::text[], $2::text[]) AS w(name, wanted)
        WHERE current_setting(w.name) IS DISTINCT FROM w.wanted) AS not_in_force"""
#: What `Database` asks for when it connects; a pooler in between may have dropped it.
_LIMITS = {name: SERVER_SETTINGS[name] for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")}


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: how it went, in words, and what to do about it."""

    level: Literal["ok", "warn", "fail"]
    what: str
    advice: str = ""


async def examine(db: Database, settings: Settings, *, now: Callable[[], datetime]) -> list[Finding]:
    """All checks. Raises Busy where the database is out of reach."""
    found = [*_settings(settings), *await _database(db, settings, now), await _migrations(db)]
    # Tables of another migration would fail for another reason.
    return [*found, await _relay(db)] if found[-1].level == "ok" else found


def _settings(settings: Settings) -> list[Finding]:
    found = [Finding("ok", f"settings are valid; environment {settings.env.value}")]
    if settings.jwt_secret.get_secret_value() == DEVELOPMENT_SECRET:
        found.append(
            Finding(
                "warn",
                "tokens are signed with the well-known development secret",
                "fine for a demo on loopback; else set HOLDFAST_JWT_SECRET and HOLDFAST_ENV=production",
            )
        )
    if settings.workers > 1 and settings.rate_limit != "off":
        found.append(
            Finding(
                "warn",
                f"each of the {settings.workers} processes counts HOLDFAST_RATE_LIMIT for itself",
                f"up to {settings.workers} times as many requests pass: divide the limit, or limit in the reverse proxy",
            )
        )
    if any(network.prefixlen == 0 for network in settings.trusted_networks):
        found.append(
            Finding(
                "fail",
                "HOLDFAST_TRUSTED_PROXIES trusts everybody, so that anybody may claim any address",
                "name the proxies, like 10.0.0.5 or 10.0.0.0/24",
            )
        )
    try:
        make_provider(settings)
        found.append(Finding("ok", f"conference provider {settings.conference_provider} is there"))
    except ProviderUnknown as error:
        found.append(Finding("fail", "the conference provider cannot work", str(error)))
    return found


async def _database(db: Database, settings: Settings, now: Callable[[], datetime]) -> list[Finding]:
    before = now()
    (row,) = await db.fetch(_LOOK, list(_LIMITS), list(_LIMITS.values()))
    after = now()
    found = [
        Finding("ok", f"PostgreSQL {row['major']}")
        if row["major"] >= _OLDEST
        else Finding("fail", f"PostgreSQL {row['major']} is too old", f"use PostgreSQL {_OLDEST} or newer")
    ]
    found += [
        Finding("ok", f"{name} is on")
        if row[name] == "on"
        else Finding("fail", f"{name} is {row[name]}: a crash loses acknowledged bookings", f"set {name} = on")
        for name in ("fsync", "full_page_writes")
    ]
    found.append(
        Finding(
            "fail",
            f"limits on waits are not in force: {', '.join(row['not_in_force'])}",
            "behind PgBouncer, set them in connect_query (ops/pgbouncer/pgbouncer.ini)",
        )
        if row["not_in_force"]
        else Finding("ok", "limits on waits are in force")
    )
    commit = row["synchronous_commit"]
    found.append(
        Finding("fail", "synchronous_commit is off: a crash loses acknowledged bookings", "set synchronous_commit = on")
        if commit == "off"
        else Finding("ok", f"synchronous_commit is {commit}")
    )
    if row["standby"]:
        found.append(Finding("fail", "this is a standby: nothing can be booked", "point HOLDFAST_DATABASE_URL at the primary"))
    # One more each for LISTEN.
    needed = (settings.pool_size + 1) * settings.workers + (WORKER_POOL_SIZE if settings.worker == "inside" else 0)
    if needed > row["max_connections"] - 10:
        found.append(
            Finding(
                "fail",
                f"up to {needed} connections are needed, {row['max_connections']} are allowed",
                "lower HOLDFAST_POOL_SIZE or HOLDFAST_WORKERS, or raise max_connections",
            )
        )
    skew = max((before - row["now"]).total_seconds(), (row["now"] - after).total_seconds(), 0.0)
    found.append(
        Finding("ok", f"clocks agree (within {skew:.3f} s)")
        if skew <= _MAX_SKEW_SECONDS
        else Finding("fail", f"this machine's clock and the database's are {skew:.0f} s apart", "synchronize both (NTP)")
    )
    return found


async def _migrations(db: Database) -> Finding:
    current, head = await migrations.current(db), migrations.head()
    standing = migrations.standing(current)
    if standing == "at head":
        return Finding("ok", f"migrations are at head ({head})")
    if standing == "ahead":
        return Finding(
            "warn",
            f"migrations are at {current}, ahead of this version, which knows up to {head}",
            "fine in the middle of an upgrade, or after going back by one version; else run the version that they are of",
        )
    return Finding("fail", f"migrations are at {current or 'nothing'}, not at {head}", "run `holdfast migrate`")


async def _relay(db: Database) -> Finding:
    lag = await outbox.lag_seconds(db)
    if lag <= _MAX_LAG_SECONDS:
        return Finding("ok", f"what happens is told (the relay is {lag:.1f} s behind)")
    return Finding(
        "warn",
        f"the oldest change has waited {lag:.0f} s to be told: no mails, webhooks and streams of it yet",
        "nothing to do where no service runs; else see that a worker does: `holdfast worker`, or inside `holdfast serve`",
    )
