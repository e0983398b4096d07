"""The tables of rows, reviews, people and keys. Times are unix seconds; texts in JSON where a value
has parts.

`migrations/` makes them, and those of `operating.py`; a test compares the two on SQLite and on
PostgreSQL.
"""

import sqlalchemy as sa

from buckler.store.columns import LONG, count, flag, ident, json, metadata, moment, text

# One line a request, and whatever else happened; kept as long as retention says.
events = sa.Table(
    "events",
    metadata,
    sa.Column("id", LONG, primary_key=True),
    moment("at"),
    text("kind"),
    text("request_id"),
    text("key_id"),
    count("accepted"),
    count("suspicious"),
    json("facts"),
    # With all that a sum by minutes reads: a million rows are added up without the table.
    sa.Index("events_counts", "at", "kind", "accepted", "suspicious"),
    sa.Index("events_key", "key_id"),
)

# Which inputs are kept; the bytes lie in Blobs under the digest.
blobs = sa.Table(
    "blobs",
    metadata,
    ident("digest"),
    count("size"),
    moment("created"),
)

# One row under review. state: waiting (in the queue), grouped (behind `leader`, which it
# resembles), parked (its client has too many waiting), decided, closed (due, and nobody decided),
# known (its answer is known, to measure reviewers). origin: suspicious, sample or known.
reviews = sa.Table(
    "reviews",
    metadata,
    ident(),
    text("request_id"),
    count("row"),
    text("key_id"),
    text("origin"),
    text("state"),
    count("level", 0),
    count("version", 1),
    sa.Column("risk", sa.Double, nullable=False),
    text("fingerprint"),
    text("leader", null=True),
    sa.Column("blob", sa.Text, sa.ForeignKey("blobs.digest"), nullable=True),
    text("media_type"),
    text("prediction"),
    text("bundle"),
    json("verdict"),
    moment("created"),
    moment("due"),
    moment("due_seen", null=True),
    text("lease_id", null=True),
    text("lease_by", null=True),
    moment("lease_until", null=True),
    text("outcome", null=True),
    text("label", null=True),
    moment("decided", null=True),
    text("closed_by", null=True),
    sa.Index("reviews_queue", "state", "level", "lease_until"),
    sa.Index("reviews_client", "key_id", "state"),
    sa.Index("reviews_leader", "leader"),
    sa.Index("reviews_due", "state", "due"),
    sa.Index("reviews_blob", "blob"),
    sa.Index("reviews_created", "created", "origin", "outcome", "key_id"),
    sa.Index("reviews_decided", "decided"),
)

# What reviewers said before they saw the machine's prediction: written once.
first_answers = sa.Table(
    "first_answers",
    metadata,
    sa.Column("review_id", sa.ForeignKey("reviews.id", ondelete="CASCADE"), primary_key=True),
    ident("reviewer"),
    text("label"),
    moment("at"),
)

decisions = sa.Table(
    "decisions",
    metadata,
    ident(),
    sa.Column(
        "review_id", sa.Text, sa.ForeignKey("reviews.id", ondelete="CASCADE"), nullable=False
    ),
    text("reviewer"),
    text("kind"),
    text("label", null=True),
    text("note"),
    flag("senior"),
    flag("whole_group"),
    flag("raised"),
    text("idempotency_key"),
    moment("at"),
    moment("undo_until"),
    moment("undone", null=True),
    sa.UniqueConstraint("reviewer", "idempotency_key", name="decisions_once"),
    sa.Index("decisions_review", "review_id"),
    # A reviewer has one standing answer an item, whoever races whom.
    sa.Index(
        "decisions_standing",
        "review_id",
        "reviewer",
        unique=True,
        sqlite_where=sa.text("undone IS NULL"),
        postgresql_where=sa.text("undone IS NULL"),
    ),
)

keys = sa.Table(
    "keys",
    metadata,
    ident(),
    text("name"),
    text("prefix"),
    sa.Column("digest", sa.Text, nullable=False, unique=True),
    json("roles"),
    sa.Column("rows_per_s", sa.Double, nullable=False),
    sa.Column("burst", sa.Double, nullable=False),
    moment("created"),
    moment("expires", null=True),
    moment("revoked", null=True),
)

users = sa.Table(
    "users",
    metadata,
    ident("name"),
    text("password"),
    json("roles"),
    flag("senior"),
    moment("created"),
    moment("disabled", null=True),
)

sessions = sa.Table(
    "sessions",
    metadata,
    ident("digest"),
    sa.Column(
        "user_name", sa.Text, sa.ForeignKey("users.name", ondelete="CASCADE"), nullable=False
    ),
    moment("created"),
    moment("expires"),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("n", LONG, primary_key=True, autoincrement=False),
    moment("at"),
    text("actor"),
    text("action"),
    text("subject"),
    text("facts"),
    text("previous"),
    text("digest"),
)

# Messages to be sent, each until somebody took it or the tries are spent.
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", LONG, primary_key=True),
    moment("at"),
    text("kind"),
    json("body"),
    count("tries", 0),
    moment("next_try"),
    moment("sent", null=True),
    moment("given_up", null=True),
    sa.Index("outbox_next", "sent", "given_up", "next_try"),
)

# What all replicas go by.
settings = sa.Table(
    "settings",
    metadata,
    ident("name"),
    json("value"),
    moment("at"),
)

# Who alone may do a thing now; the epoch tells a holder that came back late.
leases = sa.Table(
    "leases",
    metadata,
    ident("name"),
    text("holder"),
    moment("until"),
    count("epoch", 1),
)
