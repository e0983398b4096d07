"""Randomized smoothing: a radius inside which the answer cannot change."""

from typing import Final

import torch
from scipy.stats import norm
from torch import Tensor, nn

from buckler import draws
from buckler.errors import UsageError
from buckler.models import tuned
from buckler.protocols import Classifier, Progress
from buckler.stats import clopper_pearson_lower
from buckler.threats.rows import at_once
from buckler.verdict import Certificate

_BLOCK: Final = 64  # copies whose noise is drawn together
_COPIES: Final = 512  # of a small input in one pass, on a CPU
_SMALL: Final = 1024  # values an input; larger ones leave the cache, and go by fewer
_TRIED: Final = 16  # noisy copies on which the laid out net must agree with the net
_MANY: Final = 50_000  # draws that are worth a second of laying the net out


def certify(
    model: Classifier,
    x: Tensor,
    *,
    sigma: float,
    n: int = 1000,
    n0: int = 100,
    alpha: float = 0.001,
    seed: int = 0,
    rows: Tensor | None = None,
    batch: int | None = None,
    progress: Progress | None = None,
) -> list[Certificate]:
    """Certificates of the smoothed classifier "most likely answer under N(0, sigma²) noise".

    With probability at least 1 − alpha over the draws, that classifier answers `label` for every
    input within L2 distance `radius` of x. (Cohen, Rosenfeld, Kolter 2019, arXiv:1902.02918,
    CERTIFY: n0 draws guess the label, n fresh ones bound its probability from below by Clopper
    and Pearson.) The noise is not clipped: the guarantee is about exactly this noise.

    Args:
        x: (n rows, ...) input units, as sigma and radius are.
        rows: ids of the rows, by which their noise is keyed; 0..n−1 if none are given.
        batch: noisy inputs in one forward pass; None: as many as a cache holds, which is quickest.

    Raises: UsageError for sigma ≤ 0, or n and alpha with which every row would abstain.
    """
    check_budget(sigma, n0, alpha)
    if clopper_pearson_lower(n, n, alpha) <= 0.5:
        raise UsageError(
            f"with n={n} draws and alpha={alpha:g} no answer can be certain: every row would "
            "abstain. Take more draws, or a larger alpha"
        )
    certificates = []
    model = quick(model, x, sigma, n)
    ids = range(len(x)) if rows is None else rows.tolist()
    for index, row in enumerate(ids):
        guess = int(counts(model, x[index], sigma, range(n0), seed, row, "guess", batch).argmax())
        hits = counts(model, x[index], sigma, range(n), seed, row, "bound", batch)[guess]
        low = clopper_pearson_lower(int(hits), n, alpha)
        if low > 0.5:
            radius = sigma * float(norm.ppf(low))
            certificates.append(Certificate(guess, radius, sigma, alpha, n))
        else:
            certificates.append(Certificate(None, 0.0, sigma, alpha, n))
        if progress is not None:
            progress(index + 1, len(x))
    return certificates


def quick(model: Classifier, x: Tensor, sigma: float, n: int) -> Classifier:
    """The same function within rounding: a module laid out for speed (`models.tuned`), where up to
    n draws for each row of x are worth it; anything else as it is."""
    if not isinstance(model, nn.Module) or len(x) * n < _MANY:
        return model
    if any(part.training for part in model.modules()):
        return model
    noise = draws.normal(0, torch.arange(_TRIED), 0, tuple(x.shape[1:])).to(x)
    return tuned(model, x[:1] + sigma * noise, queries=True)


def plug_in_radius(count: int, n: int, sigma: float) -> float:
    """The radius one gets by taking the observed share for the true one: it over-claims.

    Kept to show that it does; nothing in Buckler certifies with it.
    """
    return sigma * float(norm.ppf(min(count / n, 1 - 1e-12)))


def check_budget(sigma: float, n0: int, alpha: float) -> None:
    """Raises: UsageError."""
    if not sigma > 0 or n0 < 1 or not 0 < alpha < 1:
        raise UsageError(
            f"certify needs sigma > 0, n0 >= 1, 0 < alpha < 1. Got {sigma}, {n0}, {alpha}"
        )


def counts(
    model: Classifier,
    x: Tensor,
    sigma: float,
    copies: range,
    seed: int,
    row: int,
    purpose: str,
    batch: int | None,
) -> Tensor:
    """How often each class is the answer over noisy copies of x (...), numbered by `copies`."""
    key = draws.derive(seed, purpose, row)
    total: Tensor | None = None
    size = batch or at_once(x, *([_COPIES] if x.numel() <= _SMALL else []))
    room = torch.empty((min(size, len(copies)) // _BLOCK + 2) * _BLOCK, *x.shape)
    for start in range(copies.start, copies.stop, size):
        noise = _noise(key, sigma, range(start, min(start + size, copies.stop)), room)
        with torch.inference_mode():
            logits = model(noise.to(x).add_(x))
        if not bool(torch.isfinite(logits).all()):  # argmax would take NaN for the largest
            raise UsageError(
                "the model returned logits that are NaN or infinite: they certify nothing. "
                "Mend the model first"
            )
        found = torch.bincount(logits.argmax(1), minlength=logits.shape[1])
        total = found if total is None else total + found
    assert total is not None
    return total


def _noise(key: int, sigma: float, copies: range, room: Tensor) -> Tensor:
    """(n, ...) the noise of these copies, whichever others are drawn with them, written into
    `room` (fresh memory for every pass costs as much as a small net).

    By torch's own generator, in a quarter of the time that `draws` takes; it is seeded for each
    block of copies. It keeps 32 bits of a seed, so blocks count up from the key's: those of one
    row are never the same.
    """
    first, last = copies.start // _BLOCK, -(-copies.stop // _BLOCK)
    generator = torch.Generator()
    for block, part in enumerate(room[: (last - first) * _BLOCK].split(_BLOCK), first):
        part.normal_(0, sigma, generator=generator.manual_seed((key + block) & 0xFFFFFFFF))
    start = copies.start - first * _BLOCK
    return room[start : start + len(copies)]
