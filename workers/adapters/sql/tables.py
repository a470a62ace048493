"""The schema as the code reads it. The migrations make it; a test holds the two together."""

from typing import Final

from sqlalchemy import JSON, BigInteger, Boolean, Column, Double, Index, Integer, MetaData, String, Table, Text

from api_contracts.client.results import BATCH_ROWS_TABLE, COMMITS_TABLE, CONVERSATIONS_TABLE, RUNS_TABLE

SCHEMA: Final = "0005"
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
    # As the caller wrote it; null where there was none, and from releases before 0003.
    Column("idempotency_key", String(512)),
    # Null outside conversations, and from releases before 0005.
    Column("conversation", String(200)),
    Index(None, "tenant", "finished_at"),
    Index(None, "finished_at"),
    Index(None, "conversation"),
)

begun: Final = Table(
    "fw_begun",
    metadata,
    Column("run_id", String(128), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("tenant", String(128), nullable=False),
    Column("labels", JSON, nullable=False),
    # Seconds since 1970, as the journal says: which of the journals that this id had.
    Column("queued_at", Double, nullable=False),
    Column("idempotency_key", String(512)),
)
"""Live runs of which an effect above idempotent may have begun; a row goes when the run's result comes."""

conversations: Final = Table(
    CONVERSATIONS_TABLE,
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("conversation", String(200), primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("settings", JSON, nullable=False),
    Column("settings_version", BigInteger, nullable=False),
    # What the model counted of the newest version, null where nobody did; what it counted with the first turn after the
    # last summary, 0 right after one, null where there was none.
    Column("tokens", BigInteger),
    Column("floor", BigInteger),
    # Seconds since 1970, as the workers' clocks say.
    Column("changed_at", Double, nullable=False),
    # The run whose turn it is, which of its journals and lives; null between turns.
    Column("turn_run", String(128)),
    Column("turn_queued_at", Double),
    Column("turn_life", BigInteger),
    Index(None, "turn_run"),
)

commits: Final = Table(
    COMMITS_TABLE,
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("conversation", String(200), primary_key=True),
    Column("version", BigInteger, primary_key=True),
    Column("run_id", String(128), nullable=False),
    Column("kind", String(16), nullable=False),
    # Whether the messages stand for all before them; else they follow those.
    Column("whole", Boolean, nullable=False),
    Column("messages", JSON, nullable=False),
    # All settings, where they changed with this version.
    Column("settings", JSON(none_as_null=True)),
    Column("settings_version", BigInteger, nullable=False),
    Column("tokens", BigInteger),
    Column("committed_at", Double, nullable=False),
)
"""Every version of every conversation; none is ever changed. A summary hides what is before it, and keeps it."""

batches: Final = Table(
    "fw_batches",
    metadata,
    Column("run_id", String(128), primary_key=True),
    # The fence: what comes from a smaller one changes no row.
    Column("life", BigInteger, nullable=False),
    # Seconds since 1970: since when a purge has found neither a journal nor a result of the run; null otherwise.
    Column("missing_since", Double),
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
