"""The tables. Times are unix seconds; texts in JSON where a value has parts.

`migrations/` makes them; a test compares the two on SQLite and on PostgreSQL.
"""

from typing import Any

import sqlalchemy as sa

metadata = sa.MetaData()
# SQLite counts rows in 64 bits by itself, and only where the column is called INTEGER.
_LONG = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _id(name: str = "id") -> sa.Column[str]:
    return sa.Column(name, sa.Text, primary_key=True)


def _text(name: str, *, null: bool = False, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=null, default=default)


def _time(name: str, *, null: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=null)


def _count(name: str, default: int | None = None) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, default=default)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False, default=False)


def _json(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON, nullable=False)


# One line a request, and whatever else happened; kept as long as retention says.
events = sa.Table(
    "events",
    metadata,
    sa.Column("id", _LONG, primary_key=True),
    _time("at"),
    _text("kind"),
    _text("request_id"),
    _text("key_id"),
    _count("accepted"),
    _count("suspicious"),
    _json("facts"),
    # With all that a sum by minutes reads: a million rows are added up without the table.
    sa.Index("events_counts", "at", "kind", "accepted", "suspicious"),
    sa.Index("events_key", "key_id"),
)

# Which inputs are kept; the bytes lie in Blobs under the digest.
blobs = sa.Table(
    "blobs",
    metadata,
    _id("digest"),
    _count("size"),
    _time("created"),
)

# One row under review. state: waiting (in the queue), grouped (behind `leader`, which it
# resembles), parked (its client has too many waiting), decided, closed (due, and nobody decided),
# known (its answer is known, to measure reviewers). origin: suspicious, sample or known.
reviews = sa.Table(
    "reviews",
    metadata,
    _id(),
    _text("request_id"),
    _count("row"),
    _text("key_id"),
    _text("origin"),
    _text("state"),
    _count("level", 0),
    _count("version", 1),
    sa.Column("risk", sa.Double, nullable=False),
    _text("fingerprint"),
    _text("leader", null=True),
    sa.Column("blob", sa.Text, sa.ForeignKey("blobs.digest"), nullable=True),
    _text("media_type"),
    _text("prediction"),
    _text("bundle"),
    _json("verdict"),
    _time("created"),
    _time("due"),
    _time("due_seen", null=True),
    _text("lease_id", null=True),
    _text("lease_by", null=True),
    _time("lease_until", null=True),
    _text("outcome", null=True),
    _text("label", null=True),
    _time("decided", null=True),
    _text("closed_by", null=True),
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
    _id("reviewer"),
    _text("label"),
    _time("at"),
)

decisions = sa.Table(
    "decisions",
    metadata,
    _id(),
    sa.Column(
        "review_id", sa.Text, sa.ForeignKey("reviews.id", ondelete="CASCADE"), nullable=False
    ),
    _text("reviewer"),
    _text("kind"),
    _text("label", null=True),
    _text("note"),
    _flag("senior"),
    _flag("whole_group"),
    _flag("raised"),
    _text("idempotency_key"),
    _time("at"),
    _time("undo_until"),
    _time("undone", null=True),
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
    _id(),
    _text("name"),
    _text("prefix"),
    sa.Column("digest", sa.Text, nullable=False, unique=True),
    _json("roles"),
    sa.Column("rows_per_s", sa.Double, nullable=False),
    sa.Column("burst", sa.Double, nullable=False),
    _time("created"),
    _time("expires", null=True),
    _time("revoked", null=True),
)

users = sa.Table(
    "users",
    metadata,
    _id("name"),
    _text("password"),
    _json("roles"),
    _flag("senior"),
    _time("created"),
    _time("disabled", null=True),
)

sessions = sa.Table(
    "sessions",
    metadata,
    _id("digest"),
    sa.Column(
        "user_name", sa.Text, sa.ForeignKey("users.name", ondelete="CASCADE"), nullable=False
    ),
    _time("created"),
    _time("expires"),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("n", _LONG, primary_key=True, autoincrement=False),
    _time("at"),
    _text("actor"),
    _text("action"),
    _text("subject"),
    _text("facts"),
    _text("previous"),
    _text("digest"),
)

# Messages to be sent, each until somebody took it or the tries are spent.
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", _LONG, primary_key=True),
    _time("at"),
    _text("kind"),
    _json("body"),
    _count("tries", 0),
    _time("next_try"),
    _time("sent", null=True),
    _time("given_up", null=True),
    sa.Index("outbox_next", "sent", "given_up", "next_try"),
)

# What all replicas go by.
settings = sa.Table(
    "settings",
    metadata,
    _id("name"),
    _json("value"),
    _time("at"),
)

# Who alone may do a thing now; the epoch tells a holder that came back late.
leases = sa.Table(
    "leases",
    metadata,
    _id("name"),
    _text("holder"),
    _time("until"),
    _count("epoch", 1),
)

# The bundle that answers now, and the one beside it; a single row. epoch grows with every change.
live = sa.Table(
    "live",
    metadata,
    _id("name"),
    _count("epoch", 0),
    _text("digest"),
    _text("path"),
    _text("rollout_id", null=True),
    _text("candidate_digest", null=True),
    _text("candidate_path", null=True),
    _count("weight", 0),
    _time("at"),
)

# running: 1 while it runs, then null: at most one runs.
rollouts = sa.Table(
    "rollouts",
    metadata,
    _id(),
    _time("created"),
    _text("actor"),
    _text("stable"),
    _text("candidate"),
    _text("path"),
    _text("state"),
    _json("value"),
    _json("policy"),
    _count("version", 1),
    sa.Column("running", sa.Integer, nullable=True, unique=True),
)

# What each gateway saw of a rollout, by its own count; beat tells whether it still lives.
rollout_reports = sa.Table(
    "rollout_reports",
    metadata,
    sa.Column("rollout_id", sa.ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True),
    _id("gateway"),
    _count("beat", 0),
    _flag("closed"),
    _json("value"),
)

# What a process saw of a bundle's rows in the last seconds, until it is folded into `monitors`.
monitor_rows = sa.Table(
    "monitor_rows",
    metadata,
    sa.Column("id", _LONG, primary_key=True),
    _text("bundle"),
    _time("at"),
    sa.Column("codes", sa.LargeBinary, nullable=False),
    sa.Index("monitor_rows_bundle", "bundle", "id"),
)

# Where a bundle's alarms stand; the version tells who was late.
monitors = sa.Table(
    "monitors",
    metadata,
    _id("bundle"),
    _json("state"),
    _count("version", 1),
    _time("at"),
)

alerts = sa.Table(
    "alerts",
    metadata,
    _id(),
    _text("key"),
    _text("tier"),
    _text("title"),
    _json("facts"),
    _text("action"),
    _text("runbook"),
    _text("bundle"),
    _json("examples"),
    _text("source"),
    _text("state"),
    _count("count", 1),
    _time("first"),
    _time("last"),
    _time("told"),
    _text("by", null=True),
    _time("acknowledged", null=True),
    _time("resolved", null=True),
    sa.Index("alerts_state", "state", "last"),
    # One alert a key that is not over, whoever races whom.
    sa.Index(
        "alerts_standing",
        "key",
        unique=True,
        sqlite_where=sa.text("resolved IS NULL"),
        postgresql_where=sa.text("resolved IS NULL"),
    ),
)

# Who sent runs of near-equal inputs, and near which; gone when it expires.
suspects = sa.Table(
    "suspects",
    metadata,
    _id(),
    _text("client"),
    _text("kind"),
    _count("near"),
    _time("since"),
    _time("until"),
    _count("grace"),
    _text("cells"),
    sa.Index("suspects_until", "until"),
)
