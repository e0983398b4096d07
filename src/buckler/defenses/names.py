"""A transform by its name: how configurations and manifests write it down."""

import re

from buckler.defenses.jpeg import JPEG
from buckler.defenses.median import Median
from buckler.defenses.noise import GaussianNoise
from buckler.defenses.rotation import RandomRotation
from buckler.errors import UsageError
from buckler.protocols import Defense


def defense(name: str) -> Defense:
    """The transform called `name`: a kind and its one number, as in "median2" or "jpeg75".

    >>> defense("jpeg75")
    JPEG(quality=75)
    """
    found = re.fullmatch(r"(median|jpeg|rotation|noise)(\d+(?:\.\d+)?)", name)
    if not found:
        raise UsageError(
            "a transform is named median2, jpeg75, rotation5 or noise0.05 (any number). "
            f"Got {name!r}"
        )
    kind, number = found[1], float(found[2])
    if kind in ("median", "jpeg") and number != int(number):
        raise UsageError(f"{kind} takes a whole number. Got {name!r}")
    if kind == "median":
        return Median(int(number))
    if kind == "jpeg":
        return JPEG(int(number))
    return RandomRotation(number) if kind == "rotation" else GaussianNoise(number)
