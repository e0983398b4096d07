"""The tables of rollouts, monitors, alerts and suspects."""

import sqlalchemy as sa

from buckler.store.columns import LONG, count, flag, ident, json, metadata, moment, text

# The bundle that answers now, and the one beside it; a single row. epoch grows with every change.
live = sa.Table(
    "live",
    metadata,
    ident("name"),
    count("epoch", 0),
    text("digest"),
    text("path"),
    text("rollout_id", null=True),
    text("candidate_digest", null=True),
    text("candidate_path", null=True),
    count("weight", 0),
    moment("at"),
)

# running: 1 while it runs, then null: at most one runs.
rollouts = sa.Table(
    "rollouts",
    metadata,
    ident(),
    moment("created"),
    text("actor"),
    text("stable"),
    text("candidate"),
    text("path"),
    text("state"),
    json("value"),
    json("policy"),
    count("version", 1),
    sa.Column("running", sa.Integer, nullable=True, unique=True),
)

# What each gateway saw of a rollout, by its own count; beat tells whether it still lives.
rollout_reports = sa.Table(
    "rollout_reports",
    metadata,
    sa.Column("rollout_id", sa.ForeignKey("rollouts.id", ondelete="CASCADE"), primary_key=True),
    ident("gateway"),
    count("beat", 0),
    flag("closed"),
    json("value"),
)

# What a process saw of a bundle's rows in the last seconds, until it is folded into `monitors`.
monitor_rows = sa.Table(
    "monitor_rows",
    metadata,
    sa.Column("id", LONG, primary_key=True),
    text("bundle"),
    moment("at"),
    sa.Column("codes", sa.LargeBinary, nullable=False),
    sa.Index("monitor_rows_bundle", "bundle", "id"),
)

# Where a bundle's alarms stand; the version tells who was late.
monitors = sa.Table(
    "monitors",
    metadata,
    ident("bundle"),
    json("state"),
    count("version", 1),
    moment("at"),
)

alerts = sa.Table(
    "alerts",
    metadata,
    ident(),
    text("key"),
    text("tier"),
    text("title"),
    json("facts"),
    text("action"),
    text("runbook"),
    text("bundle"),
    json("examples"),
    text("source"),
    text("state"),
    count("count", 1),
    moment("first"),
    moment("last"),
    moment("told"),
    text("by", null=True),
    moment("acknowledged", null=True),
    moment("resolved", null=True),
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
    ident(),
    text("client"),
    text("kind"),
    count("near"),
    moment("since"),
    moment("until"),
    count("grace"),
    text("cells"),
    sa.Index("suspects_until", "until"),
)
