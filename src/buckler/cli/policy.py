"""The policy that `buckler check` rules by: [policy] in buckler.toml, or a TOML file of its own."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from buckler.assess.policy import Policy
from buckler.errors import DataError

Share = Annotated[float, Field(gt=0, le=1)]


class PolicySection(BaseModel):
    """As `buckler.assess.policy.Policy`, without the threat; previous: the bundle's folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    accuracy_ratio: Share = 0.95
    review_rate: Share = 0.10
    added_latency_ms: Annotated[float, Field(gt=0)] = 100.0
    success: Share = 0.15
    battery: Literal["warn", "pass"] = "warn"
    clean_accuracy: Share | None = None
    certified_accuracy: Share | None = None
    certified_radius: Annotated[float, Field(gt=0)] | None = None
    class_accuracy: Share | None = None
    class_robust: Share | None = None
    regression: Share = 0.02
    previous: Path | None = None

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.certified_accuracy is None) != (self.certified_radius is None):
            raise ValueError("certified_accuracy and certified_radius go together")
        return self

    def at(self, norm: str, eps: float) -> Policy:
        """The policy under this threat."""
        return Policy(**self.model_dump(exclude={"previous"}), norm=norm, eps=eps)


def read_policy(path: Path) -> PolicySection:
    """The keys of [policy], at the top of a file of their own; paths are relative to its folder.

    Raises: DataError naming the key, what was given and what is allowed.
    """
    try:
        raw = tomllib.loads(Path(path).read_text())
    except FileNotFoundError:
        raise DataError(f"the policy {path} does not exist") from None
    except (OSError, ValueError) as error:
        raise DataError(f"the policy {path} cannot be read as TOML: {error}") from None
    try:
        found = PolicySection.model_validate(raw)
    except ValidationError as error:
        raise DataError(f"{path}: {wrong_key(error)}") from None
    return resolved(found, Path(path).resolve().parent)


def resolved(section: PolicySection, folder: Path) -> PolicySection:
    if section.previous is None:
        return section
    return section.model_copy(update={"previous": folder / section.previous})


def wrong_key(error: ValidationError) -> str:
    """The first thing that is wrong with a policy, as one sentence."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if part != "policy")
    if first["type"] == "extra_forbidden":
        return f"a policy has no key {key!r}: it may have {', '.join(PolicySection.model_fields)}"
    return f"policy{'.' if key else ''}{key}: {first['msg']}. Got {first['input']!r}"
