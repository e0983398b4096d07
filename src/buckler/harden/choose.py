"""Which members answer, and with what weight: chosen on the select split, under attack."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from buckler import draws
from buckler.attacks import PGD
from buckler.attacks.engine import logits_of
from buckler.detectors.odds import log_odds
from buckler.guard.temperature import fit_temperature, mean_log_probs
from buckler.protocols import Classifier, Progress, Threat

_FEW = 3  # members, up to which every mixture of quarters is tried
_QUARTERS = 4
_MOST = 1000  # rows a candidate is attacked on

Weights = tuple[float, ...]


@dataclass(frozen=True)
class Mixture:
    """One candidate: its weights, and what it did on the select split.

    clean: right / rows.
    robust: right whatever was tried / rows.
    accepted_wrong: wrong under attack and surer than the least sure clean rows are, of which the
        review rate is sent to people / rows right at first.
    """

    weights: Weights
    clean: float
    robust: float
    accepted_wrong: float


def choose_weights(
    members: Sequence[nn.Module],
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    review_rate: float = 0.02,
    allowed_loss: float = 0.02,
    progress: Progress | None = None,
) -> tuple[Mixture, list[Mixture]]:
    """The mixture with the fewest accepted wrong answers under attack, at this review rate, among
    those whose clean accuracy is at most `allowed_loss` under the best; within one standard error
    of it, the one of fewest members (Breiman et al. 1984's rule). One member alone may win.

    Each candidate is attacked as one model, through the mean, and by points made for each member
    alone: the log of a mean hides the gradient of a sure member behind a flat one. Attacks climb to
    the surest wrong answer, not to the first. On at most 1,000 rows.

    Returns the choice and all of them.
    """
    if len(x) > _MOST:
        rows = draws.permutation(0, 0, len(x))[:_MOST]
        x, y, threat = x[rows], y[rows], threat.take(rows)
    temperatures = [fit_temperature(member, x, y) for member in members]
    climb = PGD(steps=20, step_size=0.25, loss="margin", stop=False)
    shown = [climb(member, x, y, threat) for member in members]
    tried, candidates = [], mixtures(len(members))
    for done, weights in enumerate(candidates):
        mean = _mean(members, temperatures, weights)
        points = [*shown, climb(mean, x, y, threat)]
        tried.append(_judged(weights, mean, x, y, points, review_rate))
        if progress is not None:
            progress(done + 1, len(candidates))
    floor = max(mixture.clean for mixture in tried) - allowed_loss
    fit = [mixture for mixture in tried if mixture.clean >= floor]
    least = min(mixture.accepted_wrong for mixture in fit)
    least_right = floor * len(x)  # rows right at first, at the least
    error = math.sqrt(least * (1 - least) / max(least_right, 1))
    near = [mixture for mixture in fit if mixture.accepted_wrong <= least + error]
    best = max(near, key=lambda m: (m.weights.count(0.0), -m.accepted_wrong, m.clean))
    return best, tried


def mixtures(members: int) -> list[Weights]:
    """Every mixture of quarters for a few members; for more, each alone, the mean of all, and the
    mean of all but one."""
    if members <= _FEW:
        steps = itertools.product(range(_QUARTERS + 1), repeat=members)
        return [tuple(s / _QUARTERS for s in parts) for parts in steps if sum(parts) == _QUARTERS]
    alone = [tuple(float(i == j) for j in range(members)) for i in range(members)]
    without = [tuple((i != j) / (members - 1) for j in range(members)) for i in range(members)]
    return [*alone, (1 / members,) * members, *without]


def transfer_matrix(
    members: Sequence[nn.Module], x: Tensor, y: Tensor, threat: Threat
) -> list[list[float]]:
    """[i][j]: of the rows both members get right, the share that the point made for member i turns
    wrong in member j. A diagonal far above the rest: members that fail differently."""
    climb = PGD(steps=20, step_size=0.25, loss="margin", stop=False)
    right = [logits_of(member, x).argmax(1) == y for member in members]
    table = []
    for i, source in enumerate(members):
        x_adv = climb(source, x, y, threat)
        row = []
        for j, member in enumerate(members):
            both = right[i] & right[j]
            fooled = both & (logits_of(member, x_adv).argmax(1) != y)
            row.append(int(fooled.sum()) / max(int(both.sum()), 1))
        table.append(row)
    return table


def _judged(
    weights: Weights,
    mean: Classifier,
    x: Tensor,
    y: Tensor,
    points: Sequence[Tensor],
    review_rate: float,
) -> Mixture:
    """The worst over all points, row by row."""
    clean, doubt = _answers(mean, x)
    right = clean == y
    limit = doubt.quantile(1 - review_rate)
    held, past = right, torch.zeros_like(right)
    for point in points:
        answer, unsure = _answers(mean, point)
        held = held & (answer == y)
        past = past | (right & (answer != y) & (unsure <= limit))
    n = len(x)
    return Mixture(
        weights,
        float(right.sum()) / n,
        float(held.sum()) / n,
        float(past.sum()) / max(int(right.sum()), 1),
    )


def _answers(mean: Classifier, x: Tensor) -> tuple[Tensor, Tensor]:
    """Predicted class (n,), and how unsure it is (n,): −log-odds of it."""
    log_probs = logits_of(mean, x).log_softmax(1)
    answer = log_probs.argmax(1)
    return answer, -log_odds(log_probs, answer)


def _mean(
    members: Sequence[nn.Module], temperatures: Sequence[float], weights: Weights
) -> Classifier:
    """The answer a guard of these members gives."""
    used = [i for i, weight in enumerate(weights) if weight > 0]
    warm, shares = [temperatures[i] for i in used], [weights[i] for i in used]
    return lambda x: mean_log_probs([members[i](x) for i in used], warm, shares)
