"""Counts over time, read from an index."""

from alembic import op

revision = "v0005_dash"
down_revision = "v0004_streams"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("events_at", table_name="events")
    op.create_index("events_counts", "events", ["at", "kind", "accepted", "suspicious"])
    op.create_index("reviews_created", "reviews", ["created", "origin", "outcome", "key_id"])
    op.create_index("reviews_decided", "reviews", ["decided"])


def downgrade() -> None:
    op.drop_index("reviews_decided", table_name="reviews")
    op.drop_index("reviews_created", table_name="reviews")
    op.drop_index("events_counts", table_name="events")
    op.create_index("events_at", "events", ["at"])
