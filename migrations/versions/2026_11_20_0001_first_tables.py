"""The first tables: accounts, resources, claims, bookings, outbox, idempotency keys."""

from alembic import op

revision = "2026_11_20_0001"
down_revision = None
branch_labels = None
depends_on = None

_STATEMENTS = (
    """
CREATE TABLE outbox (
  id UUID NOT NULL,
  number BIGINT,
  type TEXT NOT NULL,
  subject_id UUID NOT NULL,
  actor_id UUID,
  actor_role TEXT NOT NULL,
  request_id TEXT,
  address TEXT,
  before JSONB,
  after JSONB,
  occurred_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
  CONSTRAINT outbox_pkey PRIMARY KEY (id)
)
""",
    "CREATE INDEX outbox_of_a_subject ON outbox (subject_id, occurred_at)",
    "CREATE UNIQUE INDEX outbox_one_per_number ON outbox (number) WHERE number IS NOT NULL",
    "CREATE INDEX outbox_unnumbered ON outbox (occurred_at) WHERE number IS NULL",
    """
CREATE TABLE resources (
  no BIGINT GENERATED ALWAYS AS IDENTITY (MAXVALUE 1099511627775),
  id UUID NOT NULL,
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  time_zone TEXT NOT NULL,
  policy JSONB DEFAULT '{}' NOT NULL,
  version BIGINT DEFAULT '1' NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  archived_at TIMESTAMP WITH TIME ZONE,
  CONSTRAINT resources_pkey PRIMARY KEY (no),
  CONSTRAINT resources_kind_is_known CHECK (kind IN ('room', 'host', 'event')),
  CONSTRAINT resources_id_key UNIQUE (id)
)
""",
    """
CREATE TABLE users (
  id UUID NOT NULL,
  email TEXT NOT NULL,
  email_key TEXT NOT NULL,
  name TEXT,
  role TEXT NOT NULL,
  status TEXT DEFAULT 'active' NOT NULL,
  password_hash TEXT,
  version BIGINT DEFAULT '1' NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  CONSTRAINT users_pkey PRIMARY KEY (id),
  CONSTRAINT users_role_is_known CHECK (role IN ('admin', 'user')),
  CONSTRAINT users_status_is_known CHECK (status IN ('active', 'suspended', 'deleted'))
)
""",
    "CREATE INDEX users_blocked ON users (id) WHERE status <> 'active'",
    "CREATE INDEX users_newest_first ON users (created_at, id)",
    "CREATE UNIQUE INDEX users_one_per_email ON users (email_key)",
    """
CREATE TABLE bookings (
  id UUID NOT NULL,
  user_id UUID NOT NULL,
  kind TEXT NOT NULL,
  status TEXT DEFAULT 'active' NOT NULL,
  start_at TIMESTAMP WITH TIME ZONE NOT NULL,
  end_at TIMESTAMP WITH TIME ZONE NOT NULL,
  title TEXT,
  notes TEXT,
  conference_link TEXT,
  version BIGINT DEFAULT '1' NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  cancelled_at TIMESTAMP WITH TIME ZONE,
  CONSTRAINT bookings_pkey PRIMARY KEY (id),
  CONSTRAINT bookings_status_is_known CHECK (status IN ('active', 'cancelled')),
  CONSTRAINT bookings_kind_is_known CHECK (kind IN ('room', 'host', 'event')),
  CONSTRAINT bookings_say_when_cancelled CHECK ((status = 'cancelled') = (cancelled_at IS NOT NULL)),
  CONSTRAINT bookings_begin_before_they_end CHECK (start_at < end_at),
  CONSTRAINT bookings_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id)
)
""",
    "CREATE INDEX bookings_newest_first ON bookings (created_at, id)",
    "CREATE INDEX bookings_of_a_user ON bookings (user_id, start_at, id)",
    """
CREATE TABLE closures (
  id UUID NOT NULL,
  resource_no BIGINT NOT NULL,
  start_at TIMESTAMP WITH TIME ZONE NOT NULL,
  end_at TIMESTAMP WITH TIME ZONE NOT NULL,
  reason TEXT,
  created_by UUID,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  CONSTRAINT closures_pkey PRIMARY KEY (id),
  CONSTRAINT closures_begin_before_they_end CHECK (start_at < end_at),
  CONSTRAINT closures_resource_no_fkey FOREIGN KEY(resource_no) REFERENCES resources (no),
  CONSTRAINT closures_created_by_fkey FOREIGN KEY(created_by) REFERENCES users (id)
)
""",
    "CREATE INDEX closures_resource_no_idx ON closures (resource_no, start_at)",
    """
CREATE TABLE holds (
  id UUID NOT NULL,
  user_id UUID NOT NULL,
  booking_id UUID NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
  ended_at TIMESTAMP WITH TIME ZONE,
  CONSTRAINT holds_pkey PRIMARY KEY (id),
  CONSTRAINT holds_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id)
)
""",
    "CREATE INDEX holds_of_a_user ON holds (user_id, expires_at) WHERE ended_at IS NULL",
    """
CREATE TABLE idempotency_keys (
  user_id UUID NOT NULL,
  key TEXT NOT NULL,
  fingerprint BYTEA NOT NULL,
  status SMALLINT,
  content_type TEXT,
  headers JSONB,
  body BYTEA,
  booking_id UUID,
  busy_until TIMESTAMP WITH TIME ZONE,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
  CONSTRAINT idempotency_keys_pkey PRIMARY KEY (user_id, key),
  CONSTRAINT idempotency_keys_have_an_answer_or_a_booking CHECK (status IS NOT NULL OR booking_id IS NOT NULL),
  CONSTRAINT idempotency_keys_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id)
)
""",
    "CREATE INDEX idempotency_keys_created_at_idx ON idempotency_keys (created_at)",
    """
CREATE TABLE rooms (
  resource_no BIGINT NOT NULL,
  kind TEXT DEFAULT 'room' NOT NULL,
  description TEXT,
  capacity BIGINT,
  location TEXT,
  features TEXT[] DEFAULT '{}' NOT NULL,
  CONSTRAINT rooms_pkey PRIMARY KEY (resource_no),
  CONSTRAINT rooms_capacity_is_positive CHECK (capacity > 0),
  CONSTRAINT rooms_resource_no_fkey FOREIGN KEY(resource_no) REFERENCES resources (no)
)
""",
    """
CREATE TABLE schedules (
  resource_no BIGINT NOT NULL,
  id UUID NOT NULL,
  slot_minutes SMALLINT NOT NULL,
  windows JSONB NOT NULL,
  version BIGINT DEFAULT '1' NOT NULL,
  CONSTRAINT schedules_pkey PRIMARY KEY (resource_no),
  CONSTRAINT schedules_slot_minutes_in_range CHECK (slot_minutes BETWEEN 5 AND 1440),
  CONSTRAINT schedules_resource_no_fkey FOREIGN KEY(resource_no) REFERENCES resources (no),
  CONSTRAINT schedules_id_key UNIQUE (id)
)
""",
    """
CREATE TABLE sessions (
  id UUID NOT NULL,
  user_id UUID NOT NULL,
  network TEXT,
  created_at TIMESTAMP WITH TIME ZONE NOT NULL,
  expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
  ended_at TIMESTAMP WITH TIME ZONE,
  CONSTRAINT sessions_pkey PRIMARY KEY (id),
  CONSTRAINT sessions_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id)
)
""",
    "CREATE INDEX sessions_ended_at_idx ON sessions (ended_at) WHERE ended_at IS NOT NULL",
    "CREATE INDEX sessions_user_id_idx ON sessions (user_id)",
    """
CREATE TABLE booking_units (
  booking_id UUID NOT NULL,
  position SMALLINT NOT NULL,
  resource_no BIGINT NOT NULL,
  seat_no BIGINT DEFAULT '0' NOT NULL,
  during TSTZRANGE NOT NULL,
  slot_id UUID NOT NULL,
  CONSTRAINT booking_units_pkey PRIMARY KEY (booking_id, position),
  CONSTRAINT booking_units_booking_id_fkey FOREIGN KEY(booking_id) REFERENCES bookings (id),
  CONSTRAINT booking_units_resource_no_fkey FOREIGN KEY(resource_no) REFERENCES resources (no)
)
""",
    "CREATE INDEX booking_units_of_a_resource ON booking_units (resource_no, booking_id)",
    """
CREATE TABLE claims (
  no BIGINT GENERATED ALWAYS AS IDENTITY,
  resource_no BIGINT NOT NULL,
  seat_no BIGINT DEFAULT '0' NOT NULL,
  during TSTZRANGE NOT NULL,
  booking_id UUID,
  hold_id UUID,
  closure_id UUID,
  expires_at TIMESTAMP WITH TIME ZONE,
  CONSTRAINT claims_pkey PRIMARY KEY (no),
  CONSTRAINT claims_never_overlap EXCLUDE USING gist (int8range(resource_no, resource_no, '[]'::text) WITH &&, int8range(seat_no, seat_no, '[]'::text) WITH &&, during WITH &&),
  CONSTRAINT claims_have_one_holder CHECK (num_nonnulls(booking_id, hold_id, closure_id) = 1),
  CONSTRAINT claims_expire_only_as_holds CHECK ((expires_at IS NOT NULL) = (hold_id IS NOT NULL)),
  CONSTRAINT claims_are_never_empty CHECK (NOT isempty(during)),
  CONSTRAINT claims_are_half_open_or_a_seat_for_good CHECK (CASE WHEN seat_no = 0 THEN lower_inc(during) AND NOT upper_inc(during) AND NOT upper_inf(during) AND isfinite(lower(during)) AND isfinite(upper(during)) ELSE lower_inf(during) AND upper_inf(during) END),
  CONSTRAINT claims_resource_no_fkey FOREIGN KEY(resource_no) REFERENCES resources (no),
  CONSTRAINT claims_booking_id_fkey FOREIGN KEY(booking_id) REFERENCES bookings (id),
  CONSTRAINT claims_hold_id_fkey FOREIGN KEY(hold_id) REFERENCES holds (id),
  CONSTRAINT claims_closure_id_fkey FOREIGN KEY(closure_id) REFERENCES closures (id)
)
""",
    "CREATE INDEX claims_booking_id_idx ON claims (booking_id) WHERE booking_id IS NOT NULL",
    "CREATE INDEX claims_closure_id_idx ON claims (closure_id) WHERE closure_id IS NOT NULL",
    "CREATE INDEX claims_hold_id_idx ON claims (hold_id) WHERE hold_id IS NOT NULL",
    """
CREATE TABLE refresh_tokens (
  hash BYTEA NOT NULL,
  session_id UUID NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE NOT NULL,
  used_at TIMESTAMP WITH TIME ZONE,
  CONSTRAINT refresh_tokens_pkey PRIMARY KEY (hash),
  CONSTRAINT refresh_tokens_session_id_fkey FOREIGN KEY(session_id) REFERENCES sessions (id) ON DELETE CASCADE
)
""",
    "CREATE INDEX refresh_tokens_session_id_idx ON refresh_tokens (session_id)",
)
_TABLES = (
    "refresh_tokens",
    "claims",
    "booking_units",
    "sessions",
    "schedules",
    "rooms",
    "idempotency_keys",
    "holds",
    "closures",
    "bookings",
    "users",
    "resources",
    "outbox",
)


def upgrade() -> None:
    """Make the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop them, in the reverse order."""
    for table in _TABLES:
        op.execute(f"DROP TABLE {table}")
