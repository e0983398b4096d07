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

from buckler.errors import UsageError

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
        Literal["standard", "noise", "mixed", "pgd", "trades", "fast", "certified"], ...
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


class PolicySection(_Section):
    accuracy_ratio: Share = 0.95
    review_rate: Share = 0.10
    added_latency_ms: Annotated[float, Field(gt=0)] = 100.0
    success: Share = 0.15


class RedteamSection(_Section):
    """Attacks from outside: whom, how hard, how fast."""

    hosts: tuple[str, ...] = ()
    suite: str = "blackbox"
    rows: Count = 50
    queries: Count = 20_000
    per_row: Annotated[int, Field(ge=0)] = 0
    rate: Annotated[float, Field(ge=0)] = 100.0
    seed: int = 0


class Config(_Section):
    """One project: every verb reads it, `buckler run` needs nothing else."""

    model: ModelSection
    data: DataSection
    threat: ThreatSection = ThreatSection()
    assess: AssessSection = AssessSection()
    harden: HardenSection = HardenSection()
    guard: GuardSection = GuardSection()
    certify: CertifySection = CertifySection()
    policy: PolicySection = PolicySection()
    redteam: RedteamSection = RedteamSection()
    output: Path = Path("out")


def read_config(path: Path) -> Config:
    """The configuration at `path`; relative paths in it are relative to its folder.

    Raises: UsageError naming the key, what was given and what is allowed.
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
            "output": folder / config.output,
        }
    )


TEMPLATE = """\
# buckler.toml: what `buckler run` needs to know. Every key not set has the value shown.

output = "out"                       # where everything is written

[model]
factory = "mymodel:build"            # module:function that returns an nn.Module: logits, no softmax
file = ""                            # or a file that is assessed as it is: .onnx, .keras, XGBoost's
                                     # .json or .ubj, LightGBM's .txt
url = ""                             # or an endpoint: http://HOST/v2/models/NAME, or http://HOST of
                                     # a Buckler gateway; its key, if any, comes from the variable
                                     # BUCKLER_ENDPOINT_AUTHORIZATION. Name one of the three.
# weights = "weights.safetensors"    # loaded into it (.safetensors, or a .pt of plain tensors)
train = false                        # true: the factory's net is untrained, train it first
epochs = 40                          # of that training

[data]
source = "data.npz"                  # "digits", an .npz with x and y (or x_train, y_train, x_test,
                                     # y_test), or a folder with one folder of images a class.
                                     # Rows the model was trained on belong in x_train.
box = [0.0, 1.0]                     # the allowed range of every input value
class_names = []                     # in the order of the logits; default "0", "1", ...
seed = 0                             # of the splits

[threat]
norm = "linf"                        # or "l2", "l1"
eps = 0.1                            # radius in input units; for 8-bit pixels in [0, 1] think k/255
curve = [0.01, 0.03, 0.1, 0.3]       # radii of the success curve
one_pixel = true                     # images: also try a single pixel

[assess]
rows = 400                           # drawn at random from the test split (all, if it has fewer)
steps = 50                           # of each gradient attack
restarts = 2
queries = 500                        # of each attack by scores alone
article = true                       # images: compare with the median + JPEG + rotation guard too
seed = 0

[harden]
members = ["pgd"]                    # recipes: pgd, trades, fast, certified, mixed, noise; and
                                     # standard: your model as it is
ensemble = 3                         # of each hardened member, from different seeds
epochs = 50
awp = 0.0                            # adversarial weight perturbation; 0.005 for long trainings
# eps = 0.15                         # radius trained against; default 1.5 x threat.eps

[guard]
views = []                           # transforms the detector "views" compares the input with:
                                     # ["median2", "jpeg75"]
path = []                            # transforms before the members: measure before you transform
detectors = ["confidence"]           # and margin, energy, views, members, mahalanobis, vim, forest:
                                     # each costs a share of the reviews, so add what pays;
                                     # "auto" measures under attack which do
review_rate = 0.02                   # target share of clean inputs sent to people
by_class = false                     # a threshold for each predicted class with enough rows
# cost = { review = 1.0, wrong = 50.0, attack_share = 0.01 }   # sets the review rate instead

[certify]
sigma = 0.25                         # noise of randomized smoothing, input units
n = 1000                             # draws a row
n0 = 100                             # draws that guess the class
alpha = 0.001                        # probability that a certificate is wrong
rows = 50

[policy]                             # what `buckler check` rules on, by each interval's bad end
accuracy_ratio = 0.95                # (accepted and right) / the original's accuracy, at least
review_rate = 0.10                   # of clean inputs, at most
added_latency_ms = 100.0             # at p95, under
success = 0.15                       # accepted and wrong under the adaptive suite, under

[redteam]                            # `buckler redteam`: attacks from outside
hosts = []                           # that may be attacked, beside loopback: ["model.example.com"]
suite = "blackbox"                   # a named set of attacks
rows = 50                            # drawn at random from the test split
queries = 20000                      # in all, at most
per_row = 0                          # of one attack on one row; 0: an equal share
rate = 100.0                         # rows a second to an endpoint, at most; 0: no limit
seed = 0
"""
