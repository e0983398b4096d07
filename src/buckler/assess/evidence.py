"""Reading evidence files: a file of another version, or half a file, is one clear sentence."""

import os
import platform
from pathlib import Path
from typing import Any, Final

import torch

from buckler import files
from buckler.errors import DataError

Json = dict[str, Any]
SCHEMA: Final = "buckler.evidence/1"
_SCHEMAS: Final = {
    "ruling": "buckler.ruling/1",
    "assessment": "buckler.assessment/1",
    "certificates": "buckler.certificates/1",
    "undefended": "buckler.curve/1",
}
_VERBS: Final = {"ruling": "check", "certificates": "certify"}


def read(path: Path) -> Json:
    """The evidence file at `path`, of the form that this version reads.

    Raises: DataError if it is missing, no JSON object or of another version.
    """
    value: Json = files.read_json(path)
    name = Path(path).stem
    schema, found = _SCHEMAS.get(name, SCHEMA), value.get("schema")
    if found != schema:
        raise DataError(
            f"{path} is of the form {found!r}, and this version of Buckler reads {schema!r}: write "
            f"it anew with buckler {_VERBS.get(name, 'assess')}"
        )
    return value


def read_if_there(path: Path) -> Json | None:
    """The same; None where there is no such file."""
    return read(path) if Path(path).exists() else None


def hardware() -> str:
    """The class of machine that measured."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{os.cpu_count()}-core {platform.machine()} {platform.system()}, {device}"


def verdict(battery: Json) -> str:
    """ "pass", "warn" or "fail": what one target's battery says of the evaluation.

    Raises: DataError if another version wrote it.
    """
    if "verdict" not in battery:
        raise DataError(
            "the battery beside this bundle was written by another version: run buckler assess"
        )
    return str(battery["verdict"]).lower()
