"""Run by alembic, on the connection that `buckler.store.migrate` opened."""

from alembic import context

from buckler.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
