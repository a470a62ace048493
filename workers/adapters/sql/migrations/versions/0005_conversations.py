"""Conversations: every version of their messages and settings, and whose turn it is."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make `fw_conversations`, `fw_commits`; add `fw_runs.conversation`, null as the last release writes it."""
    op.add_column("fw_runs", sa.Column("conversation", sa.String(200), nullable=True))
    op.create_index("ix_fw_runs_conversation", "fw_runs", ["conversation"])
    op.create_table(
        "fw_conversations",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("conversation", sa.String(200), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("settings", sa.JSON, nullable=False),
        sa.Column("settings_version", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=True),
        sa.Column("floor", sa.BigInteger, nullable=True),
        sa.Column("changed_at", sa.Double, nullable=False),
        sa.Column("turn_run", sa.String(128), nullable=True),
        sa.Column("turn_queued_at", sa.Double, nullable=True),
        sa.Column("turn_life", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("tenant", "conversation", name="pk_fw_conversations"),
    )
    op.create_index("ix_fw_conversations_turn_run", "fw_conversations", ["turn_run"])
    op.create_table(
        "fw_commits",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("conversation", sa.String(200), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("run_id", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("whole", sa.Boolean, nullable=False),
        sa.Column("messages", sa.JSON, nullable=False),
        sa.Column("settings", sa.JSON, nullable=True),
        sa.Column("settings_version", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=True),
        sa.Column("committed_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "conversation", "version", name="pk_fw_commits"),
    )
