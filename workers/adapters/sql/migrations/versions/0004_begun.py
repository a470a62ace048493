"""Which live runs must not begin anew, should Redis lose their journals."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make `fw_begun`."""
    op.create_table(
        "fw_begun",
        sa.Column("run_id", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("queued_at", sa.Double, nullable=False),
        sa.Column("idempotency_key", sa.String(512), nullable=True),
        sa.PrimaryKeyConstraint("run_id", name="pk_fw_begun"),
    )
