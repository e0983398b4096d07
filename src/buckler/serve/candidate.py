"""A bundle before it comes beside the live one: is it ruled on, does it fit, does it answer?"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from buckler import files
from buckler.errors import BundleError, DataError, PolicyError
from buckler.guard import Guard, load_bundle
from buckler.guard.bundle import OWN_FACTORIES, read_manifest
from buckler.inputs import InputSpec
from buckler.serve.settings import Settings

_DAY_S: Final = 86_400.0
_AHEAD_S: Final = 300.0


def examine(path: Path, now: float, ruling_days: float, live: Path | None) -> str:
    """The digest of a bundle that may become a candidate; nothing of it is run.

    Args:
        live: folder of the bundle that is live, where it can be read.

    Raises: BundleError for no whole bundle, or other inputs or classes than the live one's;
        PolicyError if the ruling in its evidence is missing, about another bundle, not passed or
        too old.
    """
    manifest, digest = read_manifest(path)
    check_ruling(path, digest, now, ruling_days)
    if live is not None:
        _fits(InputSpec.from_dict(manifest["input"]), _spec(live), digest)
    return digest


def load_candidate(
    path: Path,
    digest: str,
    live: InputSpec,
    settings: Settings,
    now: float,
    ruling_days: float | None,
) -> Guard:
    """The guard, warmed up.

    Args:
        ruling_days: None: it was ruled on when its rollout began.

    Raises: as `examine`, and for whatever keeps it from answering.
    """
    if settings.digest not in (None, digest):
        raise PolicyError(
            f"this gateway serves {str(settings.digest)[:12]} only (its setting digest)"
        )
    if ruling_days is not None:
        check_ruling(path, digest, now, ruling_days)
    guard = load_bundle(
        path,
        factories=(*OWN_FACTORIES, *settings.factories),
        digest=digest,
        secret=settings.secret.get_secret_value().encode(),
    )
    _fits(guard.spec, live, digest)
    if guard.random and not guard.secret:
        raise PolicyError("its guard draws at random: set BUCKLER_SECRET")
    warm_up(guard, settings.batch_rows)
    return guard


def check_ruling(path: Path, digest: str, now: float, days: float) -> None:
    """Raises: PolicyError unless evidence/ruling.json is about this bundle, passed and young."""
    place = path / "evidence" / "ruling.json"
    try:
        ruling: Any = files.read_json(place)
    except (OSError, DataError, ValueError):
        ruling = None
    if not isinstance(ruling, Mapping) or ruling.get("schema") != "buckler.ruling/1":
        raise PolicyError(f"{path} has no ruling: run buckler check on it")
    if ruling.get("digest") != digest:
        raise PolicyError(
            f"the ruling in {path} is about the bundle {str(ruling.get('digest'))[:12]}, not about "
            f"this one ({digest[:12]}): run buckler assess and check on it"
        )
    if ruling.get("passed") is not True:
        raise PolicyError(f"the ruling in {path} says no: it did not pass buckler check")
    at = ruling.get("at")
    if isinstance(at, bool) or not isinstance(at, int | float):
        raise PolicyError(f"the ruling in {path} does not say when it was made: run buckler check")
    if not -_AHEAD_S <= now - at <= days * _DAY_S:
        raise PolicyError(
            f"the ruling in {path} must be at most {days:g} days old. Got "
            f"{(now - at) / _DAY_S:.1f} days: run buckler assess and check on it"
        )


def warm_up(guard: Guard, rows: int) -> float:
    """The first answers are slow: give them to nobody.

    Returns: the seconds of a full batch.

    Raises: BundleError if there is no answer.
    """
    try:
        guard.judge(guard.spec.blank())
        start = time.perf_counter()
        guard.judge(guard.spec.blank(rows))
    except Exception as error:
        raise BundleError(
            f"the guard cannot judge a blank input ({type(error).__name__}: {error}): build it anew"
        ) from error
    return time.perf_counter() - start


def _spec(path: Path) -> InputSpec:
    return InputSpec.from_dict(read_manifest(path)[0]["input"])


def _fits(mine: InputSpec, live: InputSpec, digest: str) -> None:
    if mine.class_names != live.class_names:
        raise BundleError(
            f"the bundle {digest[:12]} must name the classes of the live one, in its order "
            f"({', '.join(live.class_names[:10])}). Got {', '.join(mine.class_names[:10])}"
        )
    if mine != live:
        raise BundleError(
            f"the bundle {digest[:12]} must take the inputs of the live one "
            f"({live.to_dict()}). Got {mine.to_dict()}"
        )
