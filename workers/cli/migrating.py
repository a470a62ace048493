"""`migrate`: bring the schema of a shared database up, as a step of a deployment."""

import os

from api_contracts.client.results import BadDatabaseUrl, MissingExtra
from workers.adapters.sql.migrate import migrate, revision
from workers.errors import Misconfigured
from workers.ports import StoreUnavailable


def bring_up_schema() -> int:
    """Print the revision before and after. Raise `Misconfigured` for a database that cannot be reached or migrated."""
    url = os.environ.get("FW_DATABASE_URL", "")
    if not url:
        raise Misconfigured("FW_DATABASE_URL is not set: name the database (the default SQLite file migrates itself)")
    try:
        before = revision(url)
        migrate(url)
        after = revision(url)
    except (StoreUnavailable, BadDatabaseUrl, MissingExtra) as exc:
        raise Misconfigured(f"FW_DATABASE_URL: {exc}") from exc
    print(f"schema: {before or 'none'} -> {after}" if before != after else f"schema: {after}, nothing to do")  # noqa: T201
    return 0
