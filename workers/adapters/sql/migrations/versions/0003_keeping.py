"""What finished runs are found by, and what strays of batches are known by."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add `fw_runs.idempotency_key`, `fw_batches.missing_since`; null, as workers of the last release write on."""
    op.add_column("fw_runs", sa.Column("idempotency_key", sa.String(512), nullable=True))
    op.add_column("fw_batches", sa.Column("missing_since", sa.Double, nullable=True))
