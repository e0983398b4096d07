"""A printed sticker: expectation over how the world shows it, confirmed on fresh views."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.engine import ActiveSet, gradient, logits_of
from buckler.attacks.parameters import pull_back
from buckler.attacks.patch import log_win
from buckler.errors import UsageError
from buckler.protocols import Classifier, Threat
from buckler.threats.images import as_image
from buckler.threats.sticker import Sticker

_TOGETHER = 8  # views a row in one batch: more would only take memory


@dataclass(frozen=True)
class StickerAttack:
    """Expectation over transformation on the texture of a sticker (Athalye et al. 2018,
    arXiv:1707.07397; Brown et al. 2017, arXiv:1712.09665).

    Each step follows the sign of the gradient of the mean, over views, of log sigmoid(margin),
    which lets go of views that are won. Steps shrink linearly to a tenth. The last texture and the
    best on the way are compared on views of their own, and what comes back is seen in yet others:
    the fresh view at which `share` of them do at least as well, so that a row is won only where at
    least that share of fresh views wins. Deviation: no printability term.

    Args:
        steps: gradient steps.
        step_size: fraction of the box's width.
        views: views a step.
        texels: side of the texture; 0: as many as the largest view can show.
        confirm: fresh views of the result.
        share: of the fresh views, that must win.
        universal: one texture for all rows: then a row's result depends on the others.
    """

    steps: int = 100
    step_size: float = 0.1
    views: int = 8
    texels: int = 0
    confirm: int = 20
    share: float = 0.5
    universal: bool = False
    name: str = "Sticker"

    def __post_init__(self) -> None:
        if min(self.steps, self.views, self.confirm) < 1 or 0 < self.texels < 4:
            raise UsageError(
                "StickerAttack needs steps, views and confirm >= 1, and texels 0 or >= 4. Got "
                f"steps={self.steps}, views={self.views}, confirm={self.confirm}, "
                f"texels={self.texels}"
            )
        if not (self.step_size > 0 and 0 < self.share <= 1):
            raise UsageError(
                "step_size must be > 0, a fraction of the box, and share in (0, 1]. "
                f"Got step_size={self.step_size}, share={self.share}"
            )

    def __call__(
        self,
        model: Classifier,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        *,
        seed: int = 0,
        rows: Tensor | None = None,
    ) -> Tensor:
        sticker = _sticker(threat)
        active = ActiveSet(x, y, threat, rows)
        if not len(active):
            return active.best
        texture = self.textures(model, x, y, sticker, seed=seed, rows=rows)
        stay = active.judge(x, logits_of(model, x))
        if not len(active):
            return active.best
        texture = texture if self.universal else texture[stay]
        sticker = _sticker(active.threat)
        poses = sticker.poses(draws.derive(seed, "confirm"), active.rows, 0, self.confirm)
        objective, _ = _rate(model, active.x, active.y, sticker, texture, poses)
        rank = math.ceil(self.share * self.confirm) - 1
        chosen = objective.argsort(stable=True, dim=1, descending=True)[:, rank]
        shown = sticker.show(
            active.x, texture, poses[torch.arange(len(active), device=x.device), chosen]
        )
        active.judge(shown, logits_of(model, shown))
        return active.best

    def textures(
        self,
        model: Classifier,
        x: Tensor,
        y: Tensor,
        threat: Sticker,
        *,
        seed: int = 0,
        rows: Tensor | None = None,
    ) -> Tensor:
        """What to print: (n, c, t, t), or (1, c, t, t) for all rows in universal mode.

        Raises: UsageError in universal mode without rows.
        """
        rows = torch.arange(len(x), device=x.device) if rows is None else rows
        if not len(x) and self.universal:
            raise UsageError("a universal sticker needs at least one row. Got none")
        low, high = threat.box
        own = rows[:1] * 0 if self.universal else rows
        side = self.texels or threat.texels(x)
        shape = (as_image(x).shape[1], side, side)
        u = draws.uniform(draws.derive(seed, "texture"), own, 0, shape).to(x)
        texture = (low + (high - low) * u).clamp(low, high)
        best, most = texture, torch.full((len(own),), -torch.inf).to(x)
        for step in range(self.steps):
            poses = threat.poses(seed, rows, step, self.views)
            grad, score = self._ascent(model, x, y, threat, texture, poses)
            best = torch.where((score > most)[:, None, None, None], texture, best)
            most = torch.maximum(most, score)
            size = self.step_size * (1 - 0.9 * step / self.steps) * (high - low)
            texture = (texture + size * grad.sign()).clamp(low, high)
        # A texture that was lucky in its own views is not better: both are seen in others.
        poses = threat.poses(draws.derive(seed, "choose"), rows, 0, self.confirm)
        last, other = (
            self._mean(_rate(model, x, y, threat, t, poses)[1].mean(1)) for t in (texture, best)
        )
        return torch.where((last >= other)[:, None, None, None], texture, best)

    def _ascent(
        self,
        model: Classifier,
        x: Tensor,
        y: Tensor,
        threat: Sticker,
        texture: Tensor,
        poses: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The gradient of the mean log sigmoid(margin) over the views, and that mean: one each for
        every texture. All views are rows of one batch."""
        n, views = poses.shape[:2]
        owner = torch.arange(n, device=x.device).repeat_interleave(views)
        every, flat = x[owner], poses.flatten(0, 1)
        textures = texture.expand(n, -1, -1, -1)[owner]
        points = threat.show(every, textures, flat)
        goal = threat.goal.take(owner)
        grad, logits = gradient(model, points, y[owner], goal, log_win)
        grad = pull_back(lambda t: threat.show(every, t, flat), textures, grad)
        score = log_win(logits, y[owner], goal).reshape(n, views).mean(1).to(x)
        return self._mean(grad.reshape(n, views, *texture.shape[1:]).mean(1)), self._mean(score)

    def _mean(self, values: Tensor) -> Tensor:
        """The mean over the rows, kept as one row, in universal mode."""
        return values.mean(0, keepdim=True) if self.universal else values


def sticker_success(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    threat: Sticker,
    texture: Tensor,
    *,
    views: int = 100,
    seed: int = 1,
    rows: Tensor | None = None,
) -> Tensor:
    """(n,) share of `views` fresh views of each row with the sticker on that the attacker wins.

    The draws are none of those the texture was made with, whatever the seed, so each share is a
    binomial estimate of the success in the world that `threat` describes.

    Args:
        texture: (n, c, t, t), or (1, c, t, t) for all rows.
    """
    if views < 1:
        raise UsageError(f"views must be at least 1. Got {views}")
    rows = torch.arange(len(x), device=x.device) if rows is None else rows
    poses = threat.poses(draws.derive(seed, "success"), rows, 0, views)
    return (_rate(model, x, y, threat, texture, poses)[0] > 0).to(x.dtype).mean(1)


def _rate(
    model: Classifier, x: Tensor, y: Tensor, threat: Sticker, texture: Tensor, poses: Tensor
) -> tuple[Tensor, Tensor]:
    """The objective of each row in each of its poses (n, m, 8), and log_win: (n, m) each."""
    objectives, wins = [], []
    for some in poses.split(_TOGETHER, dim=1):
        owner = torch.arange(len(x), device=x.device).repeat_interleave(some.shape[1])
        textures = texture.expand(len(x), -1, -1, -1)[owner]
        logits = logits_of(model, threat.show(x[owner], textures, some.flatten(0, 1)))
        goal = threat.goal.take(owner)
        shape = some.shape[:2]
        objectives.append(goal.objective(logits, y[owner]).reshape(shape).to(x.dtype))
        wins.append(log_win(logits, y[owner], goal).reshape(shape).to(x.dtype))
    return torch.cat(objectives, 1), torch.cat(wins, 1)


def _sticker(threat: Threat) -> Sticker:
    if not isinstance(threat, Sticker):
        raise UsageError(f"StickerAttack needs a Sticker. Got {threat}")
    return threat
