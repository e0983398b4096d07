"""Masking certificates: answers that no single patch can change (PatchCleanser).

Xiang, Mahloujifar, Mittal 2022, arXiv:2108.09135. Rectangles are chosen so that one of them covers
the patch wherever it lies; under that one the attacked image and the clean image are the same. If
the model gives one answer under every two of them, double masking answers it for whatever the patch
shows: a proof, with no probability in it, about any model.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from buckler.errors import UsageError
from buckler.protocols import Classifier
from buckler.threats.images import as_image
from buckler.threats.patch import Patch
from buckler.verdict import PatchCertificate

ABSTAINED: Final = -1
_ROWS: Final = 512  # masked images in one forward pass


def covering(threat: Patch, x: Tensor, per_side: int) -> Tensor:
    """(m, h, w) bool, True where a mask hides: each patch that the threat allows on images like x
    lies wholly under one of them (§3.1 there).

    Args:
        per_side: masks along each side; more of them are smaller, and their pairs are more.

    Raises: UsageError for per_side < 1, or a patch larger than the image.
    """
    if per_side < 1:
        raise UsageError(f"per_side must be >= 1: masks along each side. Got {per_side}")
    window = threat.window(x)
    place = threat.place or (None, None)
    down, across = (
        _spans(side, size, at, per_side)
        for side, size, at in zip(as_image(x).shape[2:], window, place, strict=True)
    )
    return (down[:, None, :, None] & across[None, :, None, :]).flatten(0, 1).to(x.device)


def _spans(side: int, size: int, place: int | None, count: int) -> Tensor:
    """(c, side) bool: spans one of which covers each span of this size, wherever it begins (or at
    `place`)."""
    first, last = (0, side - size) if place is None else (place, place)
    step = -(-(last - first + 1) // count)  # beginnings that one span answers for
    starts = {min(start, last - step + 1) for start in range(first, last + 1, step)}
    at = torch.arange(side)
    return torch.stack([(at >= start) & (at < start + size + step - 1) for start in sorted(starts)])


@dataclass(frozen=True)
class Masked:
    """`model` asked about masked copies of its input; itself a Classifier.

    As a Classifier it gives scores whose argmax is `answers`, with the gradient of the mean
    log-probability under one mask each, for attackers.

    Args:
        threat: what is certified against; a patch smaller than its window is covered as well.
        per_side: masks along each side.
        fill: what a mask shows. Any constant is sound; train with the same.
    """

    model: Classifier
    threat: Patch
    per_side: int = 6
    fill: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """(n, k) scores of the served answer."""
        soft = self.soft(x)
        with torch.no_grad():
            answer = self.answers(x)[:, None]
            lift = soft.amax(1, keepdim=True) + 1 - soft.gather(1, answer)
        return soft.scatter_add(1, answer, lift)

    def soft(self, x: Tensor) -> Tensor:
        """(n, k) the mean log-probability under one mask each."""
        hidden = covering(self.threat, x, self.per_side)
        return torch.stack(
            [self.model(_under(x, mask, self.fill)).log_softmax(1) for mask in hidden]
        ).mean(0)

    @torch.no_grad()
    def answers(self, x: Tensor) -> Tensor:
        """(n,) the answers of double masking (Algorithm 1): an answer for every row.

        Where all one-masked answers agree, that one. Else a dissenting one, if it stays under every
        second mask; else the majority's.
        """
        hidden = covering(self.threat, x, self.per_side)
        first = torch.stack([_answers(self.model, _under(x, mask, self.fill)) for mask in hidden])
        majority = first.mode(0).values
        answer = majority.clone()
        for mask, said in zip(hidden, first, strict=True):
            rows = ((said != majority) & (answer == majority)).nonzero().squeeze(1)
            second = self._agreed(x[rows], hidden | mask)
            answer[rows] = torch.where(second == said[rows], second, majority[rows])
        return answer

    def accepted(self, x: Tensor) -> Tensor:
        """(n,) the answer under every single mask, or ABSTAINED where two of them differ.

        No patch turns an answer into another one: of two images that one patch tells apart, both
        answered, the mask over the patch shows the same. It may be turned into an abstention.
        """
        return self._agreed(x, covering(self.threat, x, self.per_side))

    def certified(self, x: Tensor) -> Tensor:
        """(n,) the answer under every two masks, or ABSTAINED where two pairs differ.

        `answers` gives it to every image that differs from x by one patch, x among them
        (Theorem 1); x may be clean, or hold the patch itself.
        """
        hidden = covering(self.threat, x, self.per_side)
        one, other = torch.triu_indices(len(hidden), len(hidden), device=x.device)
        return self._agreed(x, hidden[one] | hidden[other])

    def certificates(self, x: Tensor, *, abstaining: bool = False) -> list[PatchCertificate]:
        """What holds of each row's answer: of `answers`, or with `abstaining` of `accepted`."""
        found = self.accepted(x) if abstaining else self.certified(x)
        window = self.threat.window(x)
        masks = len(covering(self.threat, x, self.per_side))
        labels = (None if label == ABSTAINED else label for label in found.tolist())
        place = self.threat.place
        return [PatchCertificate(label, window, place, masks, abstaining) for label in labels]

    @torch.no_grad()
    def _agreed(self, x: Tensor, hidden: Tensor) -> Tensor:
        """(n,) the one answer under all these masks (m, h, w), or ABSTAINED.

        Rows leave at the first disagreement: most of a hopeless row's masks are never tried.
        """
        label = _answers(self.model, _under(x, hidden[0], self.fill))
        left, tried = torch.arange(len(x), device=x.device), 1
        while tried < len(hidden) and len(left):
            masks = hidden[tried : tried + max(1, _ROWS // len(left))]
            copies = torch.cat([_under(x[left], mask, self.fill) for mask in masks])
            same = (_answers(self.model, copies).reshape(len(masks), -1) == label[left]).all(0)
            label[left[~same]] = ABSTAINED
            left, tried = left[same], tried + len(masks)
        return label


def _under(x: Tensor, mask: Tensor, fill: float) -> Tensor:
    """x (n, ...) with what the mask (h, w), or (n, 1, h, w), hides."""
    return torch.where(mask, fill, as_image(x)).reshape(x.shape)


def _answers(model: Classifier, x: Tensor) -> Tensor:
    """(n,) Raises: UsageError for logits that are no numbers: argmax would take NaN for the
    largest."""
    found = [torch.zeros(0, dtype=torch.int64, device=x.device)]
    for part in x.split(_ROWS):
        logits = model(part) if len(part) else x.new_zeros(0, 1)
        if not bool(torch.isfinite(logits).all()):
            raise UsageError(
                "the model returned logits that are NaN or infinite: they certify nothing. "
                "Mend the model first"
            )
        found.append(logits.argmax(1))
    return torch.cat(found)
