"""Who sent runs of near-equal inputs."""

import sqlalchemy as sa
from alembic import op

revision = "v0004_streams"
down_revision = "v0003_monitor"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "suspects",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("near", sa.Integer(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("grace", sa.Integer(), nullable=False),
        sa.Column("cells", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("suspects_until", "suspects", ["until"], unique=False)


def downgrade() -> None:
    op.drop_index("suspects_until", table_name="suspects")
    op.drop_table("suspects")
