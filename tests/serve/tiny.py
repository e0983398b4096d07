"""A tiny guard made by hand, whose answers can be worked out on paper, and scripted judges."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from buckler.detectors.confidence import Confidence
from buckler.guard import Guard
from buckler.guard.rule import Thresholds
from buckler.inputs import InputSpec
from buckler.models import TorchClassifier
from buckler.serve import Settings
from buckler.serve.judged import Judged
from buckler.verdict import Verdict

DIGEST = "0123456789abcdef" * 4
SPEC = InputSpec((1, 8, 8), ("left", "right", "even"), levels=256)
CLASSIFY = "/v1/classify"
DIES = "ignore::pytest.PytestUnhandledThreadExceptionWarning"


def tiny_guard() -> Guard:
    """left or right: the half with more light; even: neither.

    With light l on the left alone the logits are l, −l and 0, so its odds are e^l / (1 + e^−l).
    SUSPICIOUS where the odds of the top class are under e.
    """
    linear = nn.Linear(64, 3)
    weight = torch.zeros(3, 8, 8)
    weight[0, :, :4] = weight[1, :, 4:] = 1 / 4
    weight[0, :, 4:] = weight[1, :, :4] = -1 / 4
    with torch.no_grad():
        linear.weight.copy_(weight.flatten(1))
        linear.bias.zero_()
    return Guard(
        spec=SPEC,
        members=(TorchClassifier(nn.Sequential(nn.Flatten(), linear)),),
        weights=(1.0,),
        temperatures=(1.0,),
        detectors=(Confidence(),),
        rule=Thresholds((-1.0,), 0),
        digest=DIGEST,
    )


def image(*, left: float = 0.0, right: float = 0.0) -> Tensor:
    """(1, 1, 8, 8): the light of each half."""
    x = torch.zeros(1, 1, 8, 8)
    x[..., :4], x[..., 4:] = left, right
    return SPEC.snap(x)


LEFT, RIGHT, BLANK = image(left=1.0), image(right=1.0), image()


def settings(**given: object) -> Settings:
    return Settings.read(**{"port": 0, **given})


def body(*images: Tensor) -> dict[str, object]:
    """The JSON body of these images."""
    return {"rows": torch.cat(images).tolist()}


def accept(x: Tensor) -> Judged:
    """A judge that accepts all, as sure as the first pixel is bright."""
    found = [Verdict("left", float(row.flatten()[0]), 0.0, "ACCEPTED", (), DIGEST) for row in x]
    return Judged(found, torch.tensor([[1.0, 0.0, 0.0]]).repeat(len(x), 1), ("",) * len(x))


@dataclass
class Scripted:
    """A stand-in for a guard whose judge does what a test wants."""

    judge: Callable[[Tensor], Judged] = accept
    spec: InputSpec = SPEC
    digest: str = DIGEST
    random: bool = False
    table: None = None
    rule: Thresholds = field(default_factory=lambda: Thresholds((-1.0,), 0))

    def judge_with_probabilities(self, x: Tensor) -> tuple[list[Verdict], Tensor]:
        found = self.judge(x)
        return found.verdicts, found.probabilities


@dataclass
class Held:
    """A judge that says when it was entered, and answers once it is let go."""

    entered: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    sizes: list[int] = field(default_factory=list)

    def __call__(self, x: Tensor) -> Judged:
        self.sizes.append(len(x))
        self.entered.set()
        assert self.go.wait(30), "the test never let the judge go"
        return accept(x)


def wait_for(true: Callable[[], bool]) -> None:
    """Until `true`, on whatever machine."""
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)
