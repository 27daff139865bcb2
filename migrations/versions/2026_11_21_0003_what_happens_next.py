"""What follows a booking: a numbered, append-only outbox, jobs, reminders, webhooks, feeds, API keys, mails."""

from alembic import op

revision = "2026_11_21_0003"
down_revision = "2026_11_21_0002"
branch_labels = None
depends_on = None

_TABLES = (
    """
CREATE TABLE jobs (
  id UUID NOT NULL,
  kind TEXT NOT NULL,
  key TEXT,
  payload JSONB NOT NULL,
  trace TEXT,
  state TEXT DEFAULT 'waiting' NOT NULL,
  attempt BIGINT DEFAULT '0' NOT NULL,
  failures BIGINT DEFAULT '0' NOT NULL,
  again BOOLEAN DEFAULT false NOT NULL,
  run_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
  leased_until TIMESTAMP WITH TIME ZONE,
  error TEXT,
  failed_at TIMESTAMP WITH TIME ZONE,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
  CONSTRAINT jobs_pkey PRIMARY KEY (id),
  CONSTRAINT jobs_state_is_known CHECK (state IN ('waiting', 'active', 'dead')),
  CONSTRAINT jobs_are_leased_while_active CHECK ((state = 'active') = (leased_until IS NOT NULL))
)
""",
    "CREATE INDEX jobs_failed ON jobs (failed_at) WHERE failed_at IS NOT NULL",
    "CREATE INDEX jobs_due ON jobs (kind, run_at) WHERE state = 'waiting'",
    "CREATE INDEX jobs_leased ON jobs (leased_until) WHERE state = 'active'",
    "CREATE UNIQUE INDEX jobs_once_per_key ON jobs (kind, key) WHERE key IS NOT NULL AND state <> 'dead'",
    """
CREATE TABLE job_counts (
  kind TEXT NOT NULL,
  completed BIGINT DEFAULT '0' NOT NULL,
  failed BIGINT DEFAULT '0' NOT NULL,
  CONSTRAINT job_counts_pkey PRIMARY KEY (kind)
)
""",
    """
CREATE TABLE periodic_runs (
  name TEXT NOT NULL,
  ran_at TIMESTAMP WITH TIME ZONE NOT NULL,
  CONSTRAINT periodic_runs_pkey PRIMARY KEY (name)
)
""",
    """
CREATE TABLE api_keys (
  id UUID NOT NULL,
  user_id UUID NOT NULL,
  name TEXT NOT NULL,
  hash BYTEA NOT NULL,
  scopes TEXT[] NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  expires_at TIMESTAMP WITH TIME ZONE,
  last_used_at TIMESTAMP WITH TIME ZONE,
  CONSTRAINT api_keys_pkey PRIMARY KEY (id),
  CONSTRAINT api_keys_scopes_are_known CHECK (scopes <@ ARRAY['read', 'write'] AND cardinality(scopes) > 0),
  CONSTRAINT api_keys_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id),
  CONSTRAINT api_keys_hash_key UNIQUE (hash)
)
""",
    "CREATE INDEX api_keys_of_a_user ON api_keys (user_id, created_at)",
    """
CREATE TABLE password_resets (
  hash BYTEA NOT NULL,
  user_id UUID NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
  expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
  used_at TIMESTAMP WITH TIME ZONE,
  CONSTRAINT password_resets_pkey PRIMARY KEY (hash),
  CONSTRAINT password_resets_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id)
)
""",
    "CREATE INDEX password_resets_user_id_idx ON password_resets (user_id)",
    """
CREATE TABLE stream_tickets (
  hash BYTEA NOT NULL,
  user_id UUID NOT NULL,
  role TEXT NOT NULL,
  session_id UUID,
  token_expires_at TIMESTAMP WITH TIME ZONE,
  expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
  CONSTRAINT stream_tickets_pkey PRIMARY KEY (hash),
  CONSTRAINT stream_tickets_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id)
)
""",
    """
CREATE TABLE webhooks (
  id UUID NOT NULL,
  url TEXT NOT NULL,
  types TEXT[] DEFAULT '{}' NOT NULL,
  description TEXT,
  enabled BOOLEAN DEFAULT true NOT NULL,
  disabled_reason TEXT,
  failing_since TIMESTAMP WITH TIME ZONE,
  secret TEXT NOT NULL,
  previous_secret TEXT,
  previous_secret_until TIMESTAMP WITH TIME ZONE,
  created_by UUID,
  version BIGINT DEFAULT '1' NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  deleted_at TIMESTAMP WITH TIME ZONE,
  CONSTRAINT webhooks_pkey PRIMARY KEY (id),
  CONSTRAINT webhooks_say_why_only_when_disabled CHECK (NOT enabled OR disabled_reason IS NULL),
  CONSTRAINT webhooks_are_disabled_when_deleted CHECK (NOT enabled OR deleted_at IS NULL),
  CONSTRAINT webhooks_created_by_fkey FOREIGN KEY(created_by) REFERENCES users (id)
)
""",
    "CREATE INDEX webhooks_newest_first ON webhooks (created_at, id)",
    """
CREATE TABLE webhook_deliveries (
  id UUID NOT NULL,
  webhook_id UUID NOT NULL,
  message_id TEXT NOT NULL,
  number BIGINT NOT NULL,
  subject_id UUID NOT NULL,
  type TEXT NOT NULL,
  body TEXT NOT NULL,
  trace TEXT,
  status TEXT DEFAULT 'pending' NOT NULL,
  attempts BIGINT DEFAULT '0' NOT NULL,
  failures BIGINT DEFAULT '0' NOT NULL,
  last_attempt_at TIMESTAMP WITH TIME ZONE,
  next_attempt_at TIMESTAMP WITH TIME ZONE,
  response_status SMALLINT,
  response_milliseconds BIGINT,
  error TEXT,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
  ended_at TIMESTAMP WITH TIME ZONE,
  CONSTRAINT webhook_deliveries_pkey PRIMARY KEY (id),
  CONSTRAINT webhook_deliveries_status_is_known CHECK (status IN ('pending', 'delivered', 'failed', 'cancelled')),
  CONSTRAINT webhook_deliveries_say_when_they_ended CHECK ((status = 'pending') = (ended_at IS NULL)),
  CONSTRAINT webhook_deliveries_webhook_id_fkey FOREIGN KEY(webhook_id) REFERENCES webhooks (id) ON DELETE CASCADE
)
""",
    "CREATE INDEX webhook_deliveries_ended_at_idx ON webhook_deliveries (ended_at) WHERE ended_at IS NOT NULL",
    "CREATE INDEX webhook_deliveries_in_order ON webhook_deliveries (webhook_id, subject_id, number, id) WHERE status = 'pending'",
    "CREATE INDEX webhook_deliveries_newest_first ON webhook_deliveries (webhook_id, created_at, id)",
    "CREATE UNIQUE INDEX webhook_deliveries_once_per_message ON webhook_deliveries (webhook_id, message_id)",
    """
CREATE TABLE calendar_feeds (
  id UUID NOT NULL,
  user_id UUID NOT NULL,
  resource_no BIGINT,
  hash BYTEA NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
  CONSTRAINT calendar_feeds_pkey PRIMARY KEY (id),
  CONSTRAINT calendar_feeds_user_id_fkey FOREIGN KEY(user_id) REFERENCES users (id),
  CONSTRAINT calendar_feeds_resource_no_fkey FOREIGN KEY(resource_no) REFERENCES resources (no),
  CONSTRAINT calendar_feeds_hash_key UNIQUE (hash)
)
""",
    "CREATE INDEX calendar_feeds_of_a_user ON calendar_feeds (user_id, created_at)",
    """
CREATE TABLE mails (
  id UUID NOT NULL,
  to_address TEXT NOT NULL,
  subject TEXT NOT NULL,
  message BYTEA NOT NULL,
  created_at TIMESTAMP WITH TIME ZONE DEFAULT clock_timestamp() NOT NULL,
  CONSTRAINT mails_pkey PRIMARY KEY (id)
)
""",
    "CREATE INDEX mails_newest_first ON mails (created_at, id)",
)
_CHANGES = (
    "ALTER TABLE outbox ADD COLUMN actor_key_id UUID, ADD COLUMN trace TEXT",
    # What happened before there was a relay is history: it is numbered here, so that nobody is written to about it.
    """
UPDATE outbox SET number = n.number
FROM (SELECT id, row_number() OVER (ORDER BY occurred_at, id) AS number FROM outbox) n WHERE outbox.id = n.id
""",
    "CREATE INDEX outbox_of_a_key ON outbox (actor_key_id, occurred_at) WHERE actor_key_id IS NOT NULL",
    "CREATE INDEX outbox_of_a_request ON outbox (request_id) WHERE request_id IS NOT NULL",
    "CREATE INDEX outbox_of_a_type ON outbox (type, occurred_at, id)",
    "CREATE INDEX outbox_of_an_actor ON outbox (actor_id, occurred_at)",
    "ALTER TABLE bookings ADD COLUMN reminded_of TIMESTAMP WITH TIME ZONE",
    "CREATE INDEX bookings_to_remind_of ON bookings (start_at) WHERE status = 'active' AND reminded_of IS DISTINCT FROM start_at",
    """
CREATE FUNCTION outbox_refuses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the outbox is append-only' USING ERRCODE = 'integrity_constraint_violation';
END $$
""",
    """
CREATE TRIGGER outbox_is_never_rewritten
BEFORE DELETE OR UPDATE OF id, type, subject_id, actor_id, actor_role, actor_key_id, request_id, address, before, after,
  trace, occurred_at ON outbox FOR EACH ROW EXECUTE FUNCTION outbox_refuses()
""",
    """
CREATE TRIGGER outbox_is_numbered_once BEFORE UPDATE OF number ON outbox
FOR EACH ROW WHEN (OLD.number IS NOT NULL) EXECUTE FUNCTION outbox_refuses()
""",
)
_UNDO = (
    "DROP TRIGGER outbox_is_numbered_once ON outbox",
    "DROP TRIGGER outbox_is_never_rewritten ON outbox",
    "DROP FUNCTION outbox_refuses()",
    "DROP INDEX bookings_to_remind_of",
    "ALTER TABLE bookings DROP COLUMN reminded_of",
    "DROP INDEX outbox_of_an_actor",
    "DROP INDEX outbox_of_a_type",
    "DROP INDEX outbox_of_a_request",
    "DROP INDEX outbox_of_a_key",
    "ALTER TABLE outbox DROP COLUMN trace, DROP COLUMN actor_key_id",
)


def upgrade() -> None:
    """Make the new tables, then widen the old ones."""
    # In the order in which a booking locks them: the other way round is a deadlock with each that is being made.
    op.execute("LOCK TABLE bookings, outbox IN ACCESS EXCLUSIVE MODE")
    for statement in (*_TABLES, *_CHANGES):
        op.execute(statement)


def downgrade() -> None:
    """Back to an outbox that nobody reads."""
    op.execute("LOCK TABLE resources, users, bookings, outbox IN ACCESS EXCLUSIVE MODE")
    for statement in _UNDO:
        op.execute(statement)
    for table in (
        "mails",
        "calendar_feeds",
        "webhook_deliveries",
        "webhooks",
        "stream_tickets",
        "password_resets",
        "api_keys",
        "periodic_runs",
        "job_counts",
        "jobs",
    ):
        op.execute(f"DROP TABLE {table}")
