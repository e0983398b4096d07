"""One rectangle of the image: where it counts most, then gradient ascent on what it shows."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from buckler.attacks.engine import ActiveSet, gradient, logits_of
from buckler.errors import UsageError
from buckler.losses import LOSSES, margin
from buckler.protocols import Classifier, Threat
from buckler.threats import Goal
from buckler.threats.images import as_image
from buckler.threats.patch import Patch, window_sums


@dataclass(frozen=True)
class PatchAttack:
    """Adversarial patch (Brown et al. 2017, arXiv:1712.09665; LaVAN, Karmon et al. 2018,
    arXiv:1801.02608), at a fixed place and without transforms; for those see `StickerAttack`.

    Places are the rectangles where a linear model would gain most, in turn with random ones; each
    gets `probe` steps, and the most promising the full ascent. Steps follow the sign of the
    gradient and shrink linearly to a tenth. Deviation: the place is searched, not given.

    Args:
        steps: gradient steps at the chosen place.
        step_size: fraction of the box's width; a climb too short to cross the box steps farther.
        places: rectangles tried.
        probe: gradient steps at each of them.
        restarts: climbs; the r-th at the r-th most promising place.
        universal: one patch at one place for all rows: then a row's result depends on the others.
    """

    steps: int = 50
    step_size: float = 0.1
    places: int = 8
    probe: int = 5
    restarts: int = 1
    loss: str = "margin"
    universal: bool = False
    name: str = "Patch"

    def __post_init__(self) -> None:
        if min(self.steps, self.places, self.restarts) < 1 or self.probe < 0:
            raise UsageError(
                "PatchAttack needs steps, places and restarts >= 1 and probe >= 0. "
                f"Got steps={self.steps}, places={self.places}, restarts={self.restarts}, "
                f"probe={self.probe}"
            )
        if not self.step_size > 0:
            raise UsageError(f"step_size must be > 0, a fraction of the box. Got {self.step_size}")
        if self.loss not in LOSSES:
            raise UsageError(f"loss must be one of {', '.join(LOSSES)}. Got {self.loss!r}")

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
        if not isinstance(threat, Patch):
            raise UsageError(f"PatchAttack needs a Patch. Got {threat}")
        active = ActiveSet(x, y, threat, rows)
        if not len(active):
            return active.best
        if self.universal:
            content, corner = self.universal_patch(model, active.x, y, threat)
            return stick(active.x, content[None], torch.tensor([corner], device=x.device))
        grad, logits = gradient(model, x, y, threat.goal, LOSSES[self.loss])
        corners = self._places(active, threat, _gain(grad, x, threat), seed)
        corners = corners[active.judge(x, logits)]
        corners, contents, scores = self._probe(model, active, threat, corners)
        order = scores.argsort(stable=True, dim=1, descending=True)
        for restart in range(min(self.restarts, corners.shape[1])):
            if not len(active):
                break
            at, chosen = torch.arange(len(order), device=x.device), order[:, restart]
            start, place = contents[at, chosen], corners[at, chosen]
            left, _, _ = self._climb(model, active, threat, place, start, self.steps)
            corners, contents, order = corners[left], contents[left], order[left]
        return active.best

    def _places(self, active: ActiveSet, threat: Patch, gain: Tensor, seed: int) -> Tensor:
        """(n, p, 2) corners: the largest gain (n, h, w) of a linear model, then in turn a random
        one and the largest at a distance from those before."""
        tall, broad = threat.window(active.x)
        sums = window_sums(gain, (tall, broad)).clone()
        down = torch.arange(sums.shape[1], device=sums.device)
        across = torch.arange(sums.shape[2], device=sums.device)
        corners = []
        for place in range(self.places if threat.place is None else 1):
            if place % 2 or threat.place is not None:
                corners.append(threat.random_corner(active.x, seed, active.rows, place))
                continue
            at = sums.flatten(1).argmax(1)
            top, left = at.div(len(across), rounding_mode="floor"), at % len(across)
            corners.append(torch.stack([top, left], 1))
            near_rows = (down - top[:, None]).abs() < (tall + 1) // 2
            near_columns = (across - left[:, None]).abs() < (broad + 1) // 2
            sums.masked_fill_(near_rows[:, :, None] & near_columns[:, None, :], -torch.inf)
        return torch.stack(corners, 1)

    def _probe(
        self, model: Classifier, active: ActiveSet, threat: Patch, corners: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A short climb at every place: corners (m, p, 2), contents (m, p, c, h, w) and objectives
        (m, p) of the rows still to be won."""
        window = threat.window(active.x)
        shape = (as_image(active.x).shape[1], *window)
        contents = active.x.new_zeros((*corners.shape[:2], *shape))
        scores = active.x.new_zeros(corners.shape[:2])
        for place in range(corners.shape[1]):
            if not len(active):
                break
            start = cut(active.x, corners[:, place], window)
            left, content, score = self._climb(
                model, active, threat, corners[:, place], start, self.probe
            )
            corners, contents, scores = corners[left], contents[left], scores[left]
            contents[:, place], scores[:, place] = content, score
        return corners, contents, scores

    def _climb(
        self,
        model: Classifier,
        active: ActiveSet,
        threat: Patch,
        corner: Tensor,
        content: Tensor,
        steps: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Ascend on the content (n, c, h, w); the rows still to be won (as indices), with their
        last content and its objective."""
        loss, left = LOSSES[self.loss], torch.arange(len(content), device=content.device)
        window = threat.window(active.x)
        for step in range(steps):
            x_adv = stick(active.x, content, corner)
            grad, logits = gradient(model, x_adv, active.y, active.threat.goal, loss)
            stay = active.judge(x_adv, logits)
            left, corner, content, grad = left[stay], corner[stay], content[stay], grad[stay]
            if not len(active):
                return left, content, content.new_zeros(0)
            move = self._size(step, steps, threat) * cut(grad, corner, window).sign()
            content = (content + move).clamp(*threat.box)
        x_adv = stick(active.x, content, corner)
        logits = logits_of(model, x_adv)
        score = active.threat.goal.objective(logits, active.y).to(content.dtype)
        stay = active.judge(x_adv, logits)
        return left[stay], content[stay], score[stay]

    def _size(self, step: int, steps: int, threat: Patch) -> float:
        """The step in input units: even a short climb can cross the box."""
        width = threat.box[1] - threat.box[0]
        return max(self.step_size, 2 / steps) * (1 - 0.9 * step / steps) * width

    def universal_patch(
        self, model: Classifier, x: Tensor, y: Tensor, threat: Patch
    ) -> tuple[Tensor, tuple[int, int]]:
        """One patch at one place that wins as many of the rows as it can.

        The place is where one content for all would gain most of linear models; the ascent is on
        the mean of log sigmoid(margin), which lets go of rows that are won.

        Returns: the content (c, h, w), and its (top, left).
        """
        if not len(x):
            raise UsageError("a universal patch needs at least one row. Got none")
        goal, window = threat.goal, threat.window(x)
        grad, _ = gradient(model, x, y, goal, margin)
        both = [(as_image(grad) * (end - as_image(x))).sum(0) for end in threat.box]
        corner = threat.best_corner(torch.maximum(*both).sum(0)[None])
        every = corner.expand(len(x), 2)
        content = cut(x, every, window).mean(0, keepdim=True)
        best, most = content, (-1.0, -torch.inf)
        for step in range(self.steps + 1):
            x_adv = stick(x, content, corner)
            grad, logits = gradient(model, x_adv, y, goal, log_win)
            won = float((goal.objective(logits, y) > 0).sum())
            found = (won, float(log_win(logits, y, goal).mean()))
            if found > most:
                best, most = content, found
            move = self._size(min(step, self.steps - 1), self.steps, threat)
            ascent = cut(grad, every, window).sum(0, keepdim=True).sign()
            content = (content + move * ascent).clamp(*threat.box)
        return best[0], (int(corner[0, 0]), int(corner[0, 1]))


def log_win(logits: Tensor, y: Tensor, goal: Goal) -> Tensor:
    """log sigmoid(margin): climbs where rows or views share one patch, and lets go of those won."""
    return functional.logsigmoid(goal.objective(logits, y))


def stick(x: Tensor, content: Tensor, corner: Tensor) -> Tensor:
    """x with content (n or 1, c, h, w) at corner (n or 1, 2): a new tensor of x's shape."""
    out = as_image(x).clone()
    n = len(out)
    at, down, across = _window(corner.expand(n, 2), (content.shape[2], content.shape[3]))
    out[at, :, down, across] = content.expand(n, -1, -1, -1).permute(0, 2, 3, 1)
    return out.reshape(x.shape)


def cut(x: Tensor, corner: Tensor, window: tuple[int, int]) -> Tensor:
    """(n, c, h, w): what x shows in the windows at corner (n, 2)."""
    at, down, across = _window(corner, window)
    return as_image(x)[at, :, down, across].permute(0, 3, 1, 2)


def _window(corner: Tensor, window: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of rows (n, 1, 1), lines (n, h, 1) and columns (n, 1, w)."""
    at = torch.arange(len(corner), device=corner.device)[:, None, None]
    down = corner[:, :1, None] + torch.arange(window[0], device=corner.device)[None, :, None]
    across = corner[:, 1:, None] + torch.arange(window[1], device=corner.device)[None, None, :]
    return at, down, across


def _gain(grad: Tensor, x: Tensor, threat: Patch) -> Tensor:
    """(n, h, w): by how much each pixel alone could raise a linear function with this gradient."""
    image, slope = as_image(x), as_image(grad)
    low, high = threat.box
    return torch.maximum(slope * (low - image), slope * (high - image)).sum(1)
