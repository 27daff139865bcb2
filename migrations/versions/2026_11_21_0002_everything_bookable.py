"""Hosts, events with seats, holds that users place, waitlists, series, the fair queue."""

from alembic import op

revision = "2026_11_21_0002"
down_revision = "2026_11_20_0001"
branch_labels = None
depends_on = None

_TABLES = (
    """
CREATE TABLE hosts (
  resource_no BIGINT NOT NULL,
  user_id UUID NOT NULL,
  bio TEXT,
  CONSTRAINT hosts_pkey PRIMARY KEY (resource_no),
  CONSTRAINT hosts_resource_no_fkey FOREIGN KEY(resource_no) REFERENCES resources (no),
  CONSTRAINT hosts_user_id_key UNIQUE (user_id),
  CONSTRAINT hosts_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id)
)
""",
    """
CREATE TABLE host_slots (
  id UUID NOT NULL,
  resource_no BIGINT NOT NULL,
  during TSTZRANGE NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  deleted_at TIMESTAMP WITH TIME ZONE,
  CONSTRAINT host_slots_pkey PRIMARY KEY (id),
  CONSTRAINT host_slots_never_overlap EXCLUDE USING gist (int8range(resource_no, resource_no, '[]'::text) WITH &&, during WITH &&) WHERE (deleted_at IS NULL),
  CONSTRAINT host_slots_are_half_open CHECK (NOT isempty(during) AND lower_inc(during) AND NOT upper_inc(during) AND isfinite(lower(during)) AND isfinite(upper(during))),
  CONSTRAINT host_slots_resource_no_fkey FOREIGN KEY(resource_no) REFERENCES resources (no)
)
""",
    """
CREATE TABLE events (
  resource_no BIGINT NOT NULL,
  description TEXT,
  venue TEXT,
  start_at TIMESTAMP WITH TIME ZONE NOT NULL,
  end_at TIMESTAMP WITH TIME ZONE,
  sales_start_at TIMESTAMP WITH TIME ZONE,
  sales_end_at TIMESTAMP WITH TIME ZONE,
  metadata JSONB DEFAULT '{}' NOT NULL,
  seats_version BIGINT DEFAULT '0' NOT NULL,
  CONSTRAINT events_pkey PRIMARY KEY (resource_no),
  CONSTRAINT events_begin_before_they_end CHECK (start_at < end_at),
  CONSTRAINT events_sell_before_they_stop_selling CHECK (sales_start_at < sales_end_at),
  CONSTRAINT events_resource_no_fkey FOREIGN KEY(resource_no) REFERENCES resources (no)
)
""",
    "CREATE INDEX events_soonest_first ON events (start_at, resource_no)",
    """
CREATE TABLE seats (
  no BIGINT GENERATED ALWAYS AS IDENTITY,
  id UUID NOT NULL,
  resource_no BIGINT NOT NULL,
  label TEXT NOT NULL,
  section TEXT,
  row_name TEXT,
  number BIGINT,
  CONSTRAINT seats_pkey PRIMARY KEY (no),
  CONSTRAINT seats_one_per_label UNIQUE (resource_no, label),
  CONSTRAINT seats_id_key UNIQUE (id),
  CONSTRAINT seats_resource_no_fkey FOREIGN KEY(resource_no) REFERENCES resources (no)
)
""",
    "CREATE INDEX seats_of_an_event ON seats (resource_no, no)",
    """
CREATE TABLE series (
  id UUID NOT NULL,
  user_id UUID NOT NULL,
  resource_no BIGINT NOT NULL,
  recurrence TEXT NOT NULL,
  start_at TIMESTAMP WITH TIME ZONE NOT NULL,
  end_at TIMESTAMP WITH TIME ZONE NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  CONSTRAINT series_pkey PRIMARY KEY (id),
  CONSTRAINT series_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id),
  CONSTRAINT series_resource_no_fkey FOREIGN KEY(resource_no) REFERENCES resources (no)
)
""",
    """
CREATE TABLE waitlist_entries (
  id UUID NOT NULL,
  number BIGINT GENERATED ALWAYS AS IDENTITY,
  resource_no BIGINT NOT NULL,
  user_id UUID NOT NULL,
  slot_id UUID,
  start_at TIMESTAMP WITH TIME ZONE NOT NULL,
  end_at TIMESTAMP WITH TIME ZONE,
  quantity SMALLINT DEFAULT '1' NOT NULL,
  auto_book BOOLEAN NOT NULL,
  status TEXT DEFAULT 'waiting' NOT NULL,
  hold_id UUID,
  booking_id UUID,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
  ended_at TIMESTAMP WITH TIME ZONE,
  CONSTRAINT waitlist_entries_pkey PRIMARY KEY (id),
  CONSTRAINT waitlist_entries_status_is_known CHECK (status IN ('waiting', 'offered', 'booked', 'lapsed', 'left')),
  CONSTRAINT waitlist_entries_quantity_is_positive CHECK (quantity > 0),
  CONSTRAINT waitlist_entries_offered_have_a_hold CHECK (status <> 'offered' OR hold_id IS NOT NULL),
  CONSTRAINT waitlist_entries_booked_have_a_booking CHECK (status <> 'booked' OR booking_id IS NOT NULL),
  CONSTRAINT waitlist_entries_say_when_they_ended CHECK ((status IN ('waiting', 'offered')) = (ended_at IS NULL)),
  CONSTRAINT waitlist_entries_resource_no_fkey FOREIGN KEY(resource_no) REFERENCES resources (no),
  CONSTRAINT waitlist_entries_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id),
  CONSTRAINT waitlist_entries_hold_id_fkey FOREIGN KEY(hold_id) REFERENCES holds (id),
  CONSTRAINT waitlist_entries_booking_id_fkey FOREIGN KEY(booking_id) REFERENCES bookings (id)
)
""",
    "CREATE INDEX waitlist_entries_hold_id_idx ON waitlist_entries (hold_id) WHERE hold_id IS NOT NULL",
    "CREATE INDEX waitlist_entries_in_line ON waitlist_entries (resource_no, number) WHERE status = 'waiting'",
    "CREATE INDEX waitlist_entries_of_a_user ON waitlist_entries (user_id, number)",
    "CREATE UNIQUE INDEX waitlist_entries_once_per_user ON waitlist_entries (user_id, resource_no, slot_id) NULLS NOT DISTINCT WHERE ended_at IS NULL",
    """
CREATE TABLE booking_requests (
  id UUID NOT NULL,
  number BIGINT GENERATED ALWAYS AS IDENTITY,
  resource_no BIGINT NOT NULL,
  user_id UUID NOT NULL,
  request JSONB NOT NULL,
  status TEXT DEFAULT 'waiting' NOT NULL,
  booking_id UUID,
  hold_id UUID,
  error JSONB,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
  answer_by TIMESTAMP WITH TIME ZONE,
  ended_at TIMESTAMP WITH TIME ZONE,
  CONSTRAINT booking_requests_pkey PRIMARY KEY (id),
  CONSTRAINT booking_requests_status_is_known CHECK (status IN ('waiting', 'booked', 'refused', 'cancelled')),
  CONSTRAINT booking_requests_say_when_they_ended CHECK ((status = 'waiting') = (ended_at IS NULL)),
  CONSTRAINT booking_requests_booked_have_a_booking CHECK (status <> 'booked' OR booking_id IS NOT NULL),
  CONSTRAINT booking_requests_resource_no_fkey FOREIGN KEY(resource_no) REFERENCES resources (no),
  CONSTRAINT booking_requests_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id),
  CONSTRAINT booking_requests_booking_id_fkey FOREIGN KEY(booking_id) REFERENCES bookings (id),
  CONSTRAINT booking_requests_hold_id_fkey FOREIGN KEY(hold_id) REFERENCES holds (id)
)
""",
    "CREATE INDEX booking_requests_in_line ON booking_requests (resource_no, number) WHERE status = 'waiting' AND hold_id IS NULL",
    "CREATE INDEX booking_requests_of_a_user ON booking_requests (user_id, number)",
)
_CHANGES = (
    # A hold from before does not know its slots. There are only those that wait for a conference link, for seconds: they are
    # released, and their bookings answered 502.
    "DELETE FROM claims WHERE hold_id IS NOT NULL",
    "UPDATE holds SET ended_at = clock_timestamp() WHERE ended_at IS NULL",
    "ALTER TABLE claims ADD COLUMN slot_id UUID",
    "CREATE UNIQUE INDEX claims_one_per_seat ON claims (resource_no, seat_no) WHERE seat_no <> 0",
    "CREATE INDEX claims_expires_at_idx ON claims (expires_at) WHERE expires_at IS NOT NULL",
    "ALTER TABLE closures ALTER COLUMN start_at DROP NOT NULL, ALTER COLUMN end_at DROP NOT NULL",
    """
ALTER TABLE closures ADD CONSTRAINT closures_have_both_times_or_none CHECK ((start_at IS NULL) = (end_at IS NULL))
""",
    "ALTER TABLE bookings ALTER COLUMN end_at DROP NOT NULL",
    "ALTER TABLE bookings ADD COLUMN series_id UUID",
    "ALTER TABLE bookings ADD CONSTRAINT bookings_series_id_fkey FOREIGN KEY (series_id) REFERENCES series (id)",
    "CREATE INDEX bookings_of_a_series ON bookings (series_id, start_at) WHERE series_id IS NOT NULL",
    "ALTER TABLE holds ADD COLUMN origin TEXT DEFAULT 'request' NOT NULL",
    "ALTER TABLE holds ADD COLUMN lasts_for INTERVAL",
    "ALTER TABLE holds ADD COLUMN extended_at TIMESTAMP WITH TIME ZONE",
    "ALTER TABLE holds ADD COLUMN outcome TEXT",
    "UPDATE holds SET origin = 'conference', lasts_for = expires_at - created_at, outcome = 'released'",
    "ALTER TABLE holds ALTER COLUMN lasts_for SET NOT NULL",
    "ALTER TABLE holds ADD CONSTRAINT holds_origin_is_known CHECK (origin IN ('request', 'conference', 'waitlist'))",
    "ALTER TABLE holds ADD CONSTRAINT holds_outcome_is_known CHECK (outcome IN ('booked', 'released', 'lapsed'))",
    "ALTER TABLE holds ADD CONSTRAINT holds_say_how_they_ended CHECK ((outcome IS NULL) = (ended_at IS NULL))",
)
#: What the older version cannot hold is refused by its constraints: nothing is thrown away.
_UNDO = (
    "ALTER TABLE holds DROP COLUMN outcome, DROP COLUMN extended_at, DROP COLUMN lasts_for, DROP COLUMN origin",
    "DROP INDEX bookings_of_a_series",
    "ALTER TABLE bookings DROP COLUMN series_id",
    "ALTER TABLE bookings ALTER COLUMN end_at SET NOT NULL",
    "ALTER TABLE closures DROP CONSTRAINT closures_have_both_times_or_none",
    "ALTER TABLE closures ALTER COLUMN start_at SET NOT NULL, ALTER COLUMN end_at SET NOT NULL",
    "DROP INDEX claims_expires_at_idx",
    "DROP INDEX claims_one_per_seat",
    "ALTER TABLE claims DROP COLUMN slot_id",
)


def upgrade() -> None:
    """Make the new tables, then widen the old ones."""
    for statement in (*_TABLES, *_CHANGES):
        op.execute(statement)


def downgrade() -> None:
    """Back to rooms alone."""
    for statement in _UNDO:
        op.execute(statement)
    for table in ("booking_requests", "waitlist_entries", "series", "seats", "events", "host_slots", "hosts"):
        op.execute(f"DROP TABLE {table}")
