"""All tables together: who goes through every one of them asks here, so that none is missing."""

from buckler.store import operating as operating
from buckler.store import tables as tables
from buckler.store.columns import metadata as metadata
