"""buckler.toml: read once, unknown keys are errors."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from buckler.cli.answer import AnswerSection
from buckler.cli.policy import PolicySection, resolved, wrong_key
from buckler.errors import DataError, UsageError

Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSection(_Section):
    """The classifier a team already has: a torch net (factory), a file, or an endpoint (url)."""

    factory: str = ""
    file: str = ""
    url: str = ""
    weights: Path | None = None
    train: bool = False
    epochs: Count = 40

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(map(bool, (self.factory, self.file, self.url))) != 1:
            raise ValueError("name exactly one of factory, file and url")
        if not self.factory and (self.train or self.weights):
            raise ValueError("train and weights go with a factory alone")
        return self

    @property
    def source(self) -> str:
        """What a person calls it in an error."""
        return self.factory or self.file or self.url


class DataSection(_Section):
    source: str
    box: tuple[float, float] = (0.0, 1.0)
    levels: Annotated[int, Field(ge=0, le=65536)] = 0
    class_names: tuple[str, ...] = ()
    seed: int = 0


class ThreatSection(_Section):
    norm: Literal["linf", "l2", "l1"] = "linf"
    eps: Annotated[float, Field(gt=0)] = 0.1
    curve: tuple[Annotated[float, Field(gt=0)], ...] = (0.01, 0.03, 0.1, 0.3)
    one_pixel: bool = True


class AssessSection(_Section):
    """How hard attackers try; the same for every system compared."""

    rows: Count = 400
    steps: Count = 50
    restarts: Count = 2
    queries: Count = 500
    article: bool = True
    seed: int = 0


class HardenSection(_Section):
    """ensemble: how many of each hardened member, trained from different seeds."""

    members: tuple[
        Literal["standard", "noise", "mixed", "pgd", "trades", "fast", "certified", "occluded"], ...
    ] = ("pgd",)
    ensemble: Count = 3

    @field_validator("members")
    @classmethod
    def _some_and_different(cls, members: tuple[str, ...]) -> tuple[str, ...]:
        if not members or len(set(members)) < len(members):
            raise ValueError("name one or more different members")
        return members

    epochs: Count = 50
    eps: Annotated[float, Field(gt=0)] | None = None
    awp: Annotated[float, Field(ge=0, lt=1)] = 0.0


class CostSection(_Section):
    """What a review, an accepted wrong answer cost, and how many inputs are attacks."""

    review: Annotated[float, Field(ge=0)]
    wrong: Annotated[float, Field(ge=0)]
    attack_share: Share


class GuardSection(_Section):
    """detectors: "auto" tries a few, with their views, under attack on the select split. cost:
    where given, it sets the review rate in place of `review_rate`."""

    views: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    detectors: (
        tuple[
            Literal[
                "confidence", "margin", "energy", "views", "members", "mahalanobis", "vim", "forest"
            ],
            ...,
        ]
        | Literal["auto"]
    ) = ("confidence",)
    review_rate: Annotated[float, Field(gt=0, lt=1)] = 0.02
    by_class: bool = False
    cost: CostSection | None = None

    @field_validator("detectors")
    @classmethod
    def _some(cls, detectors: tuple[str, ...] | str) -> tuple[str, ...] | str:
        if not detectors or (detectors != "auto" and len(set(detectors)) < len(detectors)):
            raise ValueError("name one or more different detectors")
        return detectors

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.cost is not None and self.by_class:
            raise ValueError("cost sets one threshold: leave by_class out")
        if self.detectors == "auto" and self.views:
            raise ValueError('detectors = "auto" chooses the views too: leave views out')
        return self


class CertifySection(_Section):
    sigma: Annotated[float, Field(gt=0)] = 0.25
    n: Count = 1000
    n0: Count = 100
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.001
    rows: Count = 50


class RedteamSection(_Section):
    """Attacks from outside: whom, how hard, how fast."""

    hosts: tuple[str, ...] = ()
    suite: str = "blackbox"
    rows: Count = 50
    queries: Count = 20_000
    per_row: Annotated[int, Field(ge=0)] = 0
    rate: Annotated[float, Field(ge=0)] = 100.0
    seed: int = 0


class RetrainSection(_Section):
    """What reviewed rows need to enter training, and what owes a retrain (ops.retraining)."""

    agree: Count = 2
    of: Count = 3
    client_share: Share = 0.05
    class_share: Share = 0.10
    copies: Count = 1
    golden: Count = 1000
    confirmed: Count = 20
    wrong: Annotated[float, Field(gt=0, lt=1)] = 0.02
    seed: int = 0

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.agree > self.of:
            raise ValueError("agree must be at most of")
        return self


class Config(_Section):
    """One project: every verb reads it, `buckler run` needs nothing else."""

    model: ModelSection
    data: DataSection
    threat: ThreatSection = ThreatSection()
    assess: AssessSection = AssessSection()
    harden: HardenSection = HardenSection()
    guard: GuardSection = GuardSection()
    answer: AnswerSection = AnswerSection()
    certify: CertifySection = CertifySection()
    policy: PolicySection = PolicySection()
    redteam: RedteamSection = RedteamSection()
    retrain: RetrainSection = RetrainSection()
    output: Path = Path("out")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if "occluded" in self.harden.members and not self.answer.masks:
            raise ValueError(
                'harden.members "occluded" are trained for masks: set answer.mode = "masked" or '
                '"abstaining", or leave them out'
            )
        if self.answer.mode != "plain" and self.guard.by_class:
            raise ValueError('guard.by_class goes with answer.mode = "plain" alone')
        return self


def read_config(path: Path) -> Config:
    """The configuration at `path`; relative paths in it are relative to its folder.

    Raises: UsageError naming the key, what was given and what is allowed; DataError for a [policy]
        that cannot be ruled by.
    """
    try:
        raw = tomllib.loads(Path(path).read_text())
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist: buckler init writes one to fill in") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as TOML: {error}") from None
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"][:1] == ("policy",):
            raise DataError(f"{path}: {wrong_key(error)}") from None
        where = ".".join(str(part) for part in first["loc"])
        got = "" if first["type"] == "missing" else f" Got {first['input']!r}"
        raise UsageError(f"{path}: {where}: {first['msg']}.{got}") from None
    return _resolved(config, Path(path).resolve().parent)


def _resolved(config: Config, folder: Path) -> Config:
    source, weights, file = config.data.source, config.model.weights, config.model.file
    if source != "digits":
        source = str(folder / source)
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"source": source}),
            "model": config.model.model_copy(
                update={
                    "weights": folder / weights if weights else None,
                    "file": str(folder / file) if file else "",
                }
            ),
            "policy": resolved(config.policy, folder),
            "output": folder / config.output,
        }
    )
