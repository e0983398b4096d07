"""Keys in a file: TOML of [[key]], digests only, for a gateway without a store."""

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tomli_w

from buckler.errors import UsageError
from buckler.ops.access import Key, Keys

_NEEDED = {"id", "digest", "roles"}
_ALLOWED = {*_NEEDED, "prefix", "rows_per_s", "burst", "expires", "revoked"}


def read_keys(path: Path) -> Keys:
    """Raises: UsageError naming the first thing wrong."""
    keys = list_keys(path)
    if not keys:
        raise UsageError(f"{path} must hold one [[key]] or more: buckler key new {path} --id NAME")
    return Keys(keys)


def list_keys(path: Path) -> list[Key]:
    """Raises: UsageError naming the first thing wrong."""
    try:
        value = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the file of keys {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the file of keys {path} is no TOML: {error}") from None
    entries = value.pop("key", [])
    if value or not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise UsageError(f"the file of keys {path} may hold [[key]] tables only")
    keys = [_key(path, entry) for entry in entries]
    for name in ("id", "digest"):
        found = [getattr(key, name) for key in keys]
        if len(set(found)) < len(found):
            raise UsageError(f"the keys in {path} must each have their own {name}")
    return keys


def add_key(path: Path, key: Key) -> None:
    """Write `key` behind those in `path`, which need not exist; the file is replaced at once.

    Raises: UsageError if there is one of this id.
    """
    keys = list_keys(path) if path.exists() else []
    if key.id in {other.id for other in keys}:
        raise UsageError(f"there is a key of the id {key.id!r} in {path}: choose another --id")
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(tomli_w.dumps({"key": [_entry(each) for each in (*keys, key)]}), "utf-8")
    fresh.replace(path)


def _key(path: Path, entry: dict[str, Any]) -> Key:
    missing, unknown = sorted(_NEEDED - set(entry)), sorted(set(entry) - _ALLOWED)
    if missing or unknown:
        what = f"lacks {', '.join(missing)}" if missing else f"has {', '.join(unknown)}"
        raise UsageError(
            f"a [[key]] in {path} {what}: it needs {', '.join(sorted(_NEEDED))} and may have "
            f"{', '.join(sorted(_ALLOWED - _NEEDED))}"
        )
    given = {"prefix": "", "rows_per_s": float("inf"), "revoked": False, **entry}
    kinds = {"id": str, "digest": str, "prefix": str, "roles": list, "revoked": bool}
    for name, kind in kinds.items():
        if not isinstance(given[name], kind):
            raise UsageError(f"{name} of a [[key]] in {path} must be a {kind.__name__}")
    expires = given.pop("expires", None)
    if expires is not None and (not isinstance(expires, datetime) or expires.tzinfo is None):
        raise UsageError(
            f"expires of a [[key]] in {path} must be a time with its zone, 2027-01-31T00:00:00Z"
        )
    for name in ("rows_per_s", "burst"):
        if type(given.setdefault(name, given["rows_per_s"])) not in (int, float):
            raise UsageError(f"{name} of a [[key]] in {path} must be a number")
    given["roles"] = frozenset(map(str, given["roles"]))
    return Key(**given, expires=None if expires is None else expires.timestamp())


def _entry(key: Key) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": key.id,
        "prefix": key.prefix,
        "digest": key.digest,
        "roles": sorted(key.roles),
        "rows_per_s": key.rows_per_s,
        "burst": key.burst,
        "revoked": key.revoked,
    }
    if key.expires is not None:
        entry["expires"] = datetime.fromtimestamp(key.expires, UTC)
    return entry
