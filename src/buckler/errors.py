"""The exception tree: what was wrong, what was given, what is allowed, what to do.

BucklerError
├── UsageError   a call, flag or setting that cannot work       (also a ValueError)  exit code 2
│   └── BudgetError  a call that would pass the queries allowed                     exit code 2
├── DataError    inputs or labels that are not what they claim  (also a ValueError)  exit code 3
├── BundleError  a bundle that is broken, foreign or altered                         exit code 3
├── PolicyError  refused by the operator's own policy                                exit code 1
├── ConflictError   somebody else was first: read again, then decide              exit code 1
└── StoreDownError  the store cannot be reached or written                        exit code 3
"""


class BucklerError(Exception):
    """Every error Buckler raises on purpose; its text is one sentence for a person."""

    exit_code = 2


class UsageError(BucklerError, ValueError):
    """A call, flag or setting that cannot work."""

    exit_code = 2


class BudgetError(UsageError):
    """A call that would pass the number of queries that was allowed."""


class DataError(BucklerError, ValueError):
    """Inputs or labels that are not what they claim to be."""

    exit_code = 3


class BundleError(BucklerError):
    """A bundle that is broken, foreign or altered."""

    exit_code = 3


class PolicyError(BucklerError):
    """Refused by the operator's own policy."""

    exit_code = 1


class ConflictError(BucklerError):
    """Somebody else was first: what was read is no longer so."""

    exit_code = 1


class StoreDownError(BucklerError):
    """The store cannot be reached, read or written now."""

    exit_code = 3
