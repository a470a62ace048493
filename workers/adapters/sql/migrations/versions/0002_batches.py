"""The tables of batches: their rows, the jobs that are watched, and which worker may write."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make `fw_batches`, `fw_batch_rows` and `fw_batch_jobs`."""
    _make_rows()
    _make_jobs()


def _make_rows() -> None:
    op.create_table(
        "fw_batches",
        sa.Column("run_id", sa.String(128), nullable=False),
        sa.Column("life", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_fw_batches"),
    )
    op.create_table(
        "fw_batch_rows",
        sa.Column("run_id", sa.String(128), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("custom_id", sa.String(512), nullable=True),
        sa.Column("taken_id", sa.String(512), nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("shard", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("response", sa.Text, nullable=True),
        sa.Column("code", sa.String(64), nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "number", name="pk_fw_batch_rows"),
    )
    op.create_index("ix_fw_batch_rows_run_id_taken_id", "fw_batch_rows", ["run_id", "taken_id"], unique=True)
    op.create_index(
        "ix_fw_batch_rows_run_id_shard_state_number", "fw_batch_rows", ["run_id", "shard", "state", "number"]
    )


def _make_jobs() -> None:
    op.create_table(
        "fw_batch_jobs",
        sa.Column("run_id", sa.String(128), nullable=False),
        sa.Column("shard", sa.Integer, nullable=False),
        sa.Column("job", sa.String(128), nullable=False),
        sa.Column("credential", sa.String(128), nullable=True),
        sa.Column("submitted_at", sa.Double, nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
        sa.Column("look_at", sa.Double, nullable=False),
        sa.Column("seen", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "shard", name="pk_fw_batch_jobs"),
    )
    op.create_index("ix_fw_batch_jobs_look_at", "fw_batch_jobs", ["look_at"])
