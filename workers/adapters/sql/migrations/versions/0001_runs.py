"""The table of finished runs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make `fw_runs`, and its indexes for purging by age, alone and within a tenant."""
    op.create_table(
        "fw_runs",
        sa.Column("run_id", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("result", sa.JSON, nullable=False),
        sa.Column("queued_at", sa.Double, nullable=False),
        sa.Column("finished_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_fw_runs"),
    )
    op.create_index("ix_fw_runs_tenant_finished_at", "fw_runs", ["tenant", "finished_at"])
    op.create_index("ix_fw_runs_finished_at", "fw_runs", ["finished_at"])
