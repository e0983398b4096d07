"""Training for masks: nets that answer the same with parts of the image hidden."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from buckler import draws
from buckler.attacks.engine import logits_of
from buckler.certify.masks import Masked, covering
from buckler.errors import UsageError
from buckler.harden.objectives import Standard, still
from buckler.harden.validate import Validation
from buckler.protocols import Classifier
from buckler.threats.images import as_image
from buckler.threats.patch import Patch


@dataclass(frozen=True, kw_only=True)
class Occluded(Standard):
    """Cross entropy with two masks of the certificate's over each image, as PatchCleanser is
    trained (Xiang et al. 2022, arXiv:2108.09135, §4.1); of several draws the pair with the largest
    loss (after Saha et al. 2023, arXiv:2306.12610, who search it greedily).

    Args:
        threat, per_side, fill: as in certify.Masked.
        tries: pairs drawn for each image.
    """

    threat: Patch
    per_side: int = 6
    fill: float = 0.0
    tries: int = 1
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise UsageError(f"tries must be >= 1: pairs of masks an image. Got {self.tries}")

    def craft(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, rows: Tensor, warm: float
    ) -> Tensor:
        hidden = covering(self.threat, x, self.per_side)
        pairs = draws.integers(seed, rows, 0, (self.tries, 2), len(hidden)).to(x.device)
        worst = torch.full((len(x),), -torch.inf, device=x.device)
        found = x
        for pair in pairs.unbind(1):
            mask = (hidden[pair[:, 0]] | hidden[pair[:, 1]])[:, None]
            masked = torch.where(mask, self.fill, as_image(x)).reshape(x.shape)
            if self.tries == 1:
                return masked
            with still(model), torch.no_grad():
                loss = functional.cross_entropy(model(masked), y, reduction="none").float()
            worse = loss > worst
            found = torch.where(worse.view(-1, *[1] * (x.ndim - 1)), masked, found)
            worst = torch.where(worse, loss, worst)
        return found


@dataclass(frozen=True)
class MaskedValidation:
    """model → Validation on x (n, ...), y (n,) of the select split: right as it is, and certified
    right behind the masks.

    Args:
        most: rows that are certified, drawn at random by seed where there are more.
    """

    x: Tensor
    y: Tensor
    threat: Patch
    per_side: int = 6
    fill: float = 0.0
    most: int = 200
    seed: int = 0

    def __call__(self, model: Classifier) -> Validation:
        answers = logits_of(model, self.x).argmax(1)
        rows = draws.permutation(self.seed, 0, len(self.x))[: self.most]
        masked = Masked(model, self.threat, self.per_side, self.fill)
        held = masked.certified(self.x[rows]) == self.y[rows]
        constant = len(answers.unique()) == 1 < len(self.y.unique())
        clean = float((answers == self.y).float().mean())
        return Validation(clean, float(held.float().mean()), constant=constant)
