"""Alembic runs these; `buckler.store.migrate` runs alembic."""
