"""Which time of which room was booked, for the figures. By itself: what holds other locks too would deadlock with cancels."""

from alembic import op

revision = "2026_11_21_0004"
down_revision = "2026_11_21_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """An index of the claims of bookings by their beginning."""
    op.execute("""
CREATE INDEX claims_of_bookings_by_time ON claims (lower(during)) INCLUDE (during, resource_no)
WHERE booking_id IS NOT NULL AND seat_no = 0
""")


def downgrade() -> None:
    """Without it."""
    op.execute("DROP INDEX claims_of_bookings_by_time")
