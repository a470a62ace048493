"""The SQL archive of finished runs: SQLAlchemy Core, on SQLite and PostgreSQL."""
