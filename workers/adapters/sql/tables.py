"""The schema as the code reads it. The migrations make it; a test holds the two together."""

from typing import Final

from sqlalchemy import JSON, BigInteger, Column, Double, Index, Integer, MetaData, String, Table, Text

from api_contracts.client.results import BATCH_ROWS_TABLE, RUNS_TABLE

SCHEMA: Final = "0002"
"""The newest migration that this code knows; revisions are numbers of four digits and sort as text."""

VERSION_TABLE: Final = "fw_schema_version"
"""Alembic's own table, renamed: the database may belong to a service that uses Alembic too."""


metadata: Final = MetaData(naming_convention={"pk": "pk_%(table_name)s", "ix": "ix_%(table_name)s_%(column_0_N_name)s"})

runs: Final = Table(
    RUNS_TABLE,
    metadata,
    Column("run_id", String(128), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("tenant", String(128), nullable=False),
    # JSON, not JSONB: it keeps the text, and so \u0000, 1e22 and -0.0, which JSONB refuses or changes.
    Column("labels", JSON, nullable=False),
    Column("result", JSON, nullable=False),
    # Seconds since 1970.
    Column("queued_at", Double, nullable=False),
    Column("finished_at", Double, nullable=False),
    Index(None, "tenant", "finished_at"),
    Index(None, "finished_at"),
)


batches: Final = Table(
    "fw_batches",
    metadata,
    Column("run_id", String(128), primary_key=True),
    # The fence: what comes from a smaller one changes no row.
    Column("life", BigInteger, nullable=False),
)

batch_rows: Final = Table(
    BATCH_ROWS_TABLE,
    metadata,
    Column("run_id", String(128), primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("custom_id", String(512)),
    # The custom id of a row that may be submitted, null for those that were set aside: unique within a run.
    Column("taken_id", String(512)),
    Column("state", String(16), nullable=False),
    Column("shard", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),
    # JSON as text: rows go to the provider as they came, and come back as it wrote them.
    Column("body", Text, nullable=False),
    Column("response", Text),
    Column("code", String(64), nullable=False),
    Column("message", Text, nullable=False),
    Index(None, "run_id", "taken_id", unique=True),
    # The state before the number: a shard's pending rows are read in order without sorting, and rows are counted here.
    Index(None, "run_id", "shard", "state", "number"),
)

batch_jobs: Final = Table(
    "fw_batch_jobs",
    metadata,
    Column("run_id", String(128), primary_key=True),
    Column("shard", Integer, primary_key=True),
    Column("job", String(128), nullable=False),
    Column("credential", String(128)),
    # Seconds since 1970.
    Column("submitted_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("look_at", Double, nullable=False),
    Column("seen", JSON, nullable=False),
    Index(None, "look_at"),
)
