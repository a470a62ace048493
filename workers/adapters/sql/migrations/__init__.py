"""Alembic's folder: one file per change of the schema, numbered, never edited after a release."""
