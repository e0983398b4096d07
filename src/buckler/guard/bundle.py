"""The bundle: a guard on disk, with a digest over everything that affects a verdict.

bundle.toml   the manifest; its canonical form's sha256 is the digest
DIGEST        that digest, so that an altered manifest is noticed
members/      one safetensors file a member
arrays.safetensors   detectors and calibration
splits.json   the row hashes of every split
evidence/     written later; outside the digest
"""

import hashlib
import json
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from buckler import files
from buckler.data import SPLITS, Dataset
from buckler.defenses import defense
from buckler.detectors import load_detector
from buckler.errors import BucklerError, BundleError, PolicyError, UsageError
from buckler.guard.answering import from_facts, to_facts
from buckler.guard.core import Guard
from buckler.guard.rule import Calibrated, Rule, Thresholds
from buckler.inputs import InputSpec
from buckler.models import TorchClassifier, build_module
from buckler.models.treenet import FACTORY
from buckler.stats import Threshold
from buckler.threats.features.written import from_dict, to_dict

FORMAT = 1
_ANSWERING = 2  # the format of a bundle that says how to answer: older versions refuse it
OWN_FACTORIES = ("buckler.models.nets:digits_cnn", "buckler.models.chars:char_grams", FACTORY)
_PIXEL_LIBRARIES = ("opencv-python-headless", "pillow")
# What reading a foreign manifest, or arrays that do not fit, runs into.
_ODD = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)
_MANIFEST, _DIGEST = "bundle.toml", "DIGEST"


@dataclass(frozen=True)
class MemberSource:
    """Where a member comes from: its name, and the factory of its architecture."""

    name: str
    factory: str


def write_bundle(guard: Guard, data: Dataset, members: Sequence[MemberSource], path: Path) -> str:
    """Write the guard to `path`, replacing a whole bundle there at the end; returns the digest.

    Args:
        members: one a member of the guard, in its order.

    Raises: UsageError if two members share a name, or something else than a bundle is at `path`;
        DataError if the disk refuses; the bundle that stood there stays.
    """
    _check_writable(members, Path(path))
    if guard.table is not None and guard.table.predicate is not None:
        raise UsageError("a bundle holds no code: a feature spec with a predicate cannot be in it")
    with files.new_folder(path) as folder:
        (folder / "members").mkdir()
        entries = []
        for source, member, weight, temperature in zip(
            members, guard.members, guard.weights, guard.temperatures, strict=True
        ):
            file = f"members/{source.name}.safetensors"
            state = {k: v.contiguous().clone() for k, v in member.module.state_dict().items()}
            files.write_bytes(folder / file, save_tensors(state))
            facts = {"weight": weight, "temperature": temperature, "file": file}
            entries.append({**asdict(source), **facts})
        files.write_bytes(folder / "arrays.safetensors", save_arrays(_arrays(guard)))
        files.write_json(
            folder / "splits.json", {split: list(data[split].hashes) for split in SPLITS}
        )
        manifest = _manifest(guard, data, entries, folder)
        digest = manifest_digest(manifest)
        files.write_text(folder / _MANIFEST, tomli_w.dumps(manifest))
        files.write_text(folder / _DIGEST, digest + "\n")
    return digest


def load_bundle(
    path: Path,
    *,
    factories: Sequence[str] = OWN_FACTORIES,
    digest: str | None = None,
    secret: bytes = b"",
) -> Guard:
    """The guard a bundle holds, after every hash was checked.

    Args:
        factories: the member factories that may run: the operator's list, not the bundle's.
        digest: refuse any other bundle.
        secret: for the draws of a randomised guard.

    Raises: BundleError for a folder that is no bundle, or is altered; PolicyError for another
        digest than asked, or a factory not on the list.
    """
    path = Path(path)
    manifest, found = read_manifest(path)
    if digest is not None and found != digest:
        raise PolicyError(f"the bundle's digest must be {digest}. Got {found}: refused")
    try:
        guard = _load(path, manifest, factories)
    except BucklerError:
        raise
    except (*_ODD, SafetensorError) as error:
        raise _foreign(path, error) from error
    return guard.with_identity(found, secret)


def _load(path: Path, manifest: dict[str, Any], factories: Sequence[str]) -> Guard:
    content = {name: _checked(path, name, want) for name, want in manifest["files"].items()}
    _check_versions(manifest["versions"])
    members = []
    for entry in manifest["members"]:
        if entry["factory"] not in factories:
            raise PolicyError(
                f"the bundle's member {entry['name']!r} is built by {entry['factory']!r}, which "
                f"your settings do not list: allow it with --factory {entry['factory']}"
            )
        module = build_module(entry["factory"])
        try:
            module.load_state_dict(load_tensors(content[entry["file"]]))
        except (RuntimeError, SafetensorError) as error:
            raise BundleError(f"{entry['file']} does not fit its factory: {error}") from None
        members.append(TorchClassifier(module))
    arrays = load_arrays(content["arrays.safetensors"])
    return Guard(
        spec=InputSpec.from_dict(manifest["input"]),
        members=tuple(members),
        weights=tuple(float(entry["weight"]) for entry in manifest["members"]),
        temperatures=tuple(float(entry["temperature"]) for entry in manifest["members"]),
        detectors=tuple(
            load_detector(name, _under(arrays, f"detector/{name}/"))
            for name in manifest["detectors"]
        ),
        rule=_load_rule(manifest["rule"], _under(arrays, "rule/")),
        path=tuple(defense(name) for name in manifest["path"]),
        views=tuple(defense(name) for name in manifest["views"]),
        table=from_dict(manifest["table"]) if "table" in manifest else None,
        answering=from_facts(manifest["answering"]) if "answering" in manifest else None,
    )


def read_manifest(path: Path) -> tuple[dict[str, Any], str]:
    """The manifest and its digest. Raises: BundleError if the folder is no whole bundle."""
    path = Path(path)
    try:
        manifest = tomllib.loads((path / _MANIFEST).read_text())
        written = (path / _DIGEST).read_text().strip()
    except FileNotFoundError as error:
        raise BundleError(
            f"{path} is no bundle: {Path(str(error.filename)).name} is missing. "
            "buckler build writes one"
        ) from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}'s manifest cannot be read: {error}") from None
    if manifest.get("format") != (_ANSWERING if "answering" in manifest else FORMAT):
        raise BundleError(
            f"{path} is a bundle of format {manifest.get('format')!r}; "
            f"this Buckler reads format {FORMAT}, and {_ANSWERING} of bundles that say how to "
            "answer: build it anew"
        )
    try:
        digest = manifest_digest(manifest)
    except TypeError as error:  # TOML knows dates, JSON does not
        raise _foreign(path, error) from error
    if digest != written:
        raise BundleError(f"{path}'s manifest was altered after it was written: refused")
    return manifest, digest


def manifest_digest(manifest: dict[str, Any]) -> str:
    """sha256 of the manifest's canonical form: JSON, keys sorted, no blanks."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def versions() -> dict[str, str]:
    """The versions that stand in every record."""
    names = ("buckler", "torch", "numpy", "scikit-learn", *_PIXEL_LIBRARIES)
    return {name: version(name) for name in names}


def _manifest(
    guard: Guard, data: Dataset, members: list[dict[str, Any]], folder: Path
) -> dict[str, Any]:
    hashed = [*(entry["file"] for entry in members), "arrays.safetensors", "splits.json"]
    manifest = {
        "format": FORMAT if guard.answering is None else _ANSWERING,
        "input": guard.spec.to_dict(),
        "members": members,
        "path": [part.name for part in guard.path],
        "views": [part.name for part in guard.views],
        "detectors": [part.name for part in guard.detectors],
        "rule": _rule(guard.rule),
        "data": {"name": data.name, "digest": data.digest()},
        "versions": versions(),
        "files": {name: files.sha256(folder / name) for name in hashed},
    }
    if guard.table is not None:
        manifest["table"] = to_dict(guard.table)
    if guard.answering is not None:
        manifest["answering"] = to_facts(guard.answering)
    # What TOML and JSON give back: tuples become lists, so that the digest survives the file.
    plain: dict[str, Any] = json.loads(json.dumps(manifest))
    return plain


def _check_writable(members: Sequence[MemberSource], path: Path) -> None:
    names = [source.name for source in members]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(
            f"every member must have a name of its own: it names its file. Got {', '.join(twice)} "
            "more than once: rename one"
        )
    if path.is_dir():
        own = (path / _MANIFEST).exists() or not any(path.iterdir())
    else:
        own = not path.exists()
    if not own:
        raise UsageError(
            f"a bundle replaces a bundle, an empty folder or nothing. Got {path}, which holds "
            f"something else (no {_MANIFEST}): name another place, or move it away"
        )


def _foreign(path: Path, error: Exception) -> BundleError:
    why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
    return BundleError(f"{path}'s manifest is not what Buckler writes ({why}): build it anew")


def _checked(path: Path, name: str, want: str) -> bytes:
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise BundleError(f"the manifest names a file outside the bundle: {name!r}")
    try:
        content = (path / name).read_bytes()
    except OSError as error:
        raise BundleError(f"{path} is not whole: {name} cannot be read ({error})") from None
    if hashlib.sha256(content).hexdigest() != want:
        raise BundleError(f"{path / name} was altered after the bundle was written: refused")
    return content


def _check_versions(built: dict[str, str]) -> None:
    for name in _PIXEL_LIBRARIES:
        if built.get(name) != version(name):
            raise BundleError(
                f"the bundle was built with {name} {built.get(name)}, here is {version(name)}: "
                "pixels may differ. Install with -c constraints.txt, or build anew"
            )


def _arrays(guard: Guard) -> dict[str, np.ndarray]:
    arrays = {
        f"detector/{detector.name}/{name}": value
        for detector in guard.detectors
        for name, value in detector.state().items()
    }
    if isinstance(guard.rule, Calibrated):
        for name in ("knots", "levels", "separate", "combined"):
            arrays[f"rule/{name}"] = getattr(guard.rule, name)
    return {name: np.ascontiguousarray(value) for name, value in arrays.items()}


def _under(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _rule(rule: Rule) -> dict[str, Any]:
    if isinstance(rule, Calibrated):
        split = {"by_class": [asdict(threshold) for threshold in rule.by_class]}
        facts = {"kind": "calibrated", **asdict(rule.calibration)}
        return {**facts, **split} if rule.by_class else facts
    assert isinstance(rule, Thresholds)
    return {"kind": "thresholds", **asdict(rule)}


def _load_rule(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> Rule:
    facts = dict(facts)
    if facts.pop("kind") == "calibrated":
        split = tuple(Threshold(**each) for each in facts.pop("by_class", ()))
        return Calibrated(**arrays, calibration=Threshold(**facts), by_class=split)
    return Thresholds(tuple(facts["limits"]), facts["anomaly_index"])
