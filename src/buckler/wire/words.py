"""The parts of a message that are no tensors: objects, names, text, parameters."""

import math
import reprlib
from collections.abc import Mapping

from buckler.errors import DataError

Parameters = dict[str, str | int | float | bool]
"""What the protocol allows: text, numbers, true and false; no lists, no objects."""

_SHORT = reprlib.Repr()
_SHORT.maxlist, _SHORT.maxdict, _SHORT.maxstring, _SHORT.maxother = 8, 4, 60, 60


def short(value: object) -> str:
    """`value` as it may stand in a sentence, however large it is."""
    return _SHORT.repr(value)[:160]


def kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__


def as_object(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise DataError(f"{what} must be a JSON object. Got {kind(value)}")
    return value


def as_text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{what} must be text. Got {kind(value)}")
    return value


def name_of(tensor: Mapping[str, object]) -> str:
    name = as_text(tensor.get("name"), "the name of a tensor")
    if not name:
        raise DataError("each tensor needs a name. Got none")
    return name


def parameters_of(value: Mapping[str, object], whose: str) -> Parameters:
    """The object under "parameters"; none is an empty one."""
    given = value.get("parameters")
    found = as_object({} if given is None else given, f"the parameters of {whose}")
    for name, each in found.items():
        if not isinstance(each, str | int | float):
            raise DataError(
                f"the parameter {short(name)} of {whose} must be text, a number, true or false. "
                f"Got {kind(each)}"
            )
        if isinstance(each, float) and not math.isfinite(each):
            raise DataError(f"the parameter {short(name)} of {whose} must be finite. Got {each}")
    return dict(found)  # type: ignore[arg-type]


def flag(parameters: Parameters, name: str) -> bool | None:
    """A parameter that is true or false; None where it is not given."""
    found = parameters.get(name)
    if found is not None and not isinstance(found, bool):
        raise DataError(f"the parameter {name} must be true or false. Got {short(found)}")
    return found
