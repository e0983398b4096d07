"""Answers with a guarantee: the vote under noise, or what is said through masks.

A guard that has one of these serves its answer in the place of the members' own. What the
certificates of `buckler.certify` say is then about what is served, at the cost that is stated
here in forwards an input.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import log
from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from buckler.certify.masks import ABSTAINED, Masked, covering
from buckler.certify.sequential import bars_of, certify_at, climb
from buckler.certify.smoothing import counts
from buckler.errors import UsageError
from buckler.inputs import straight_through
from buckler.protocols import Classifier, Progress
from buckler.threats.patch import Patch
from buckler.verdict import Certificate, PatchCertificate

GIVE_UP: Final = 0.05
"""With at most this probability a row that could be certified is given up early."""
_LEAST: Final = 1e-3  # of doubt where a row is not certain: rounding must not hide it


@dataclass(frozen=True)
class Answered:
    """What is served of n rows.

    log_probs: (n, k); the argmax is the answer.
    doubt: (n,) over 0 exactly where the answer is not certain: such a row is SUSPICIOUS.
    radii: L2 distance (input units) within which no input is answered otherwise; None: no such
        claim.
    reason: what a verdict says of a row that is not certain.
    """

    log_probs: Tensor
    doubt: Tensor
    radii: tuple[float | None, ...]
    reason: str


@dataclass(frozen=True)
class Smoothed:
    """The class that is most often answered under N(0, sigma²) noise (Cohen et al. 2019,
    arXiv:1902.02918), certified at one of the radii by a sequential test, or not certain.

    n0 draws guess the class, and their shares are the probabilities served; fresh ones, at most n,
    certify. The draws are the deployed guard's own: keyed by its secret and the input's content.
    alpha is of each answer: who asks about many nearly equal inputs meets it as often.

    Attackers get the gradient of the mean probability under the n0 draws (Salman et al. 2019,
    arXiv:1906.04584).

    Args:
        sigma, radii: input units.
    """

    sigma: float
    radii: tuple[float, ...]
    n: int = 10_000
    n0: int = 64
    alpha: float = 0.001

    random: ClassVar[bool] = True

    def __post_init__(self) -> None:
        bars_of(self.sigma, self.radii, self.n, self.n0, self.alpha)

    def __str__(self) -> str:
        return (
            f"the answer under Gaussian noise of {self.sigma:g}, at {self.n0} to "
            f"{self.n0 + self.n} forwards an input"
        )

    def ask(self, model: Classifier, x: Tensor, keys: Tensor | None) -> Answered:
        """keys: (n,) addresses of the rows' draws."""
        assert keys is not None
        bars = bars_of(self.sigma, self.radii, self.n, self.n0, self.alpha)
        shares, radii, short = [], [], []
        for row, key in zip(x.detach(), keys.tolist(), strict=True):
            drawn = partial(counts, model, row, self.sigma, seed=0, row=key, batch=None)
            votes = drawn(range(self.n0), purpose="guess")
            guess = int(votes.argmax())
            fresh = partial(drawn, purpose="test")
            reached, _ = climb(fresh, guess, bars, self.n, self.alpha, GIVE_UP)
            shares.append((votes + 0.5) / (self.n0 + 0.5 * len(votes)))
            radii.append(sorted(self.radii)[reached - 1] if reached else None)
            short.append(reached == 0)
        votes = torch.stack(shares).to(x).log()
        uncertain = torch.tensor(short, device=x.device)
        soft = self._soft(model, x, keys) if x.requires_grad and torch.is_grad_enabled() else votes
        log_probs = votes if soft is votes else straight_through(soft, votes)
        missing = bars[0] - soft.exp().gather(1, votes.argmax(1, keepdim=True))[:, 0]
        hard = torch.where(uncertain, missing.clamp_min(_LEAST), missing.clamp_max(0)).detach()
        doubt = hard if soft is votes else straight_through(missing, hard)
        return Answered(log_probs, doubt, tuple(radii), "not certified")

    def certificates(
        self, model: Classifier, x: Tensor, keys: Tensor | None, progress: Progress | None
    ) -> list[Certificate]:
        """Of each row's answer, from the very draws that `ask` takes."""
        return certify_at(
            model, x, sigma=self.sigma, radii=self.radii, n=self.n, n0=self.n0, alpha=self.alpha,
            give_up=GIVE_UP, rows=keys, progress=progress,
        )  # fmt: skip

    def _soft(self, model: Classifier, x: Tensor, keys: Tensor) -> Tensor:
        """(n, k) log of the mean probability under a few copies, differentiable."""
        generator, found = torch.Generator(), []
        for row, key in zip(x, keys.tolist(), strict=True):
            noise = torch.empty(self.n0, *row.shape)
            noise.normal_(0, self.sigma, generator=generator.manual_seed(key & 0xFFFFFFFF))
            found.append(model(row + noise.to(x)).log_softmax(1).logsumexp(0) - log(self.n0))
        return torch.stack(found)


@dataclass(frozen=True)
class Behind:
    """Masks against one patch of `window` (height, width) pixels, anywhere (Xiang et al. 2022,
    arXiv:2108.09135).

    abstaining: a row is certain where the answers under all masks agree. A patch may turn such an
        answer into a SUSPICIOUS row, never into another accepted answer. Else every row is answered
        by double masking, and `buckler certify` tells which answers no patch can change.

    Args:
        per_side, fill: as in certify.Masked.
    """

    window: tuple[int, int]
    per_side: int = 6
    fill: float = 0.5
    abstaining: bool = False

    random: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._masked(lambda x: x)

    def __str__(self) -> str:
        tall, broad = self.window
        kind = "what all masks agree on" if self.abstaining else "double masking"
        return f"{kind}, {self.per_side} masks a side against a patch of {tall} x {broad} pixels"

    def fits(self, x: Tensor) -> None:
        """Raises: UsageError for inputs that are no images, or smaller than the patch."""
        covering(Patch(self.window), x, self.per_side)

    def ask(self, model: Classifier, x: Tensor, keys: Tensor | None) -> Answered:
        masked = self._masked(model)
        soft = masked.soft(x)
        with torch.no_grad():
            answer = masked.accepted(x) if self.abstaining else masked.answers(x)
            uncertain = answer == ABSTAINED
            answer = torch.where(uncertain, soft.argmax(1), answer)[:, None]
            behind = soft.amax(1, keepdim=True) - soft.gather(1, answer)
            lift = torch.where(behind > 0, behind + _LEAST, behind)
            doubt = torch.where(uncertain, 1.0, -torch.inf).to(x)
        log_probs = soft.scatter_add(1, answer, lift).log_softmax(1)
        return Answered(log_probs, doubt, (None,) * len(x), "masks disagree")

    def certificates(
        self, model: Classifier, x: Tensor, keys: Tensor | None, progress: Progress | None
    ) -> list[PatchCertificate]:
        """Of each row's answer."""
        found: list[PatchCertificate] = []
        for at in range(len(x)):
            part = self._masked(model).certificates(x[at : at + 1], abstaining=self.abstaining)
            found += part
            if progress is not None:
                progress(at + 1, len(x))
        return found

    def _masked(self, model: Classifier) -> Masked:
        if self.per_side < 1:
            raise UsageError(f"per_side must be >= 1: masks along each side. Got {self.per_side}")
        return Masked(model, Patch(self.window), self.per_side, self.fill)


Answering = Smoothed | Behind


def to_facts(answering: Answering) -> dict[str, Any]:
    """For the manifest."""
    kind = "smoothed" if isinstance(answering, Smoothed) else "masked"
    return {"kind": kind, **vars(answering)}


def from_facts(facts: dict[str, Any]) -> Answering:
    """Raises: LookupError or TypeError for what `to_facts` does not write."""
    made: Callable[..., Answering] = {"smoothed": Smoothed, "masked": Behind}[facts["kind"]]
    rest = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items() if k != "kind"}
    return made(**rest)
