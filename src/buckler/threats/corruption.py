"""What goes wrong without an attacker: the fifteen common corruptions, at five severities."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Self

from torch import Tensor

from buckler import draws
from buckler.errors import UsageError
from buckler.threats import corrupt_noise as noise
from buckler.threats import corrupt_weather as weather
from buckler.threats.goal import Goal
from buckler.threats.images import Box, as_image, check_box, in_box, pixel_l2

SEVEREST = 5
CORRUPTIONS: dict[str, Callable[[Tensor, int, int, Tensor], Tensor]] = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "defocus_blur": noise.defocus_blur,
    "glass_blur": noise.glass_blur,
    "motion_blur": noise.motion_blur,
    "zoom_blur": noise.zoom_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": weather.contrast,
    "elastic_transform": weather.elastic_transform,
    "pixelate": weather.pixelate,
    "jpeg_compression": weather.jpeg_compression,
}
"""(image (n, c, h, w) in [0, 1], severity, seed, rows (n,)) → image, not clipped."""


@dataclass(frozen=True)
class Corruption:
    """One common corruption of the image (Hendrycks and Dietterich 2019, arXiv:1903.12261).

    Our own implementation from the paper's description: severities rank alike, pixels and error
    rates differ from the published image sets, so figures are not comparable with theirs.
    Which corruption made a picture cannot be read from its pixels, so `contains` asks for the box
    alone; attacks are inside because they only return `corrupt(x, ...)`.

    Args:
        kinds: names among `CORRUPTIONS`.
        severity: the highest allowed, 1 to 5.
    """

    kinds: tuple[str, ...] = tuple(CORRUPTIONS)
    severity: int = SEVEREST
    box: Box = (0.0, 1.0)
    goal: Goal = field(default_factory=Goal)

    def __post_init__(self) -> None:
        check_box(self.box)
        unknown = [kind for kind in self.kinds if kind not in CORRUPTIONS]
        if unknown or not self.kinds:
            raise UsageError(
                f"kinds must be one or more of {', '.join(CORRUPTIONS)}. Got {self.kinds}"
            )
        if not 1 <= self.severity <= SEVEREST:
            raise UsageError(f"severity must be 1 to {SEVEREST}. Got {self.severity}")

    def __str__(self) -> str:
        every = len(self.kinds) == len(CORRUPTIONS)
        return f"{'common' if every else ', '.join(self.kinds)} corruption to {self.severity}"

    def corrupt(self, x: Tensor, kind: str, severity: int, seed: int, rows: Tensor) -> Tensor:
        """x with one corruption; a row's draws are the same at every severity.

        Returns: x's shape, inside the box.
        """
        low, high = self.box
        image = as_image(x)
        if min(image.shape[2:]) < 8 or image.shape[1] not in (1, 3):
            raise UsageError(
                "corruptions need images of 1 or 3 channels and at least 8 x 8 pixels. "
                f"Got {tuple(x.shape)}"
            )
        if not len(x):
            return x.clone()
        unit = ((image - low) / (high - low)).clamp(0, 1)
        out = CORRUPTIONS[kind](unit, severity, draws.derive(seed, kind), rows).clamp(0, 1)
        return (low + (high - low) * out).clamp(low, high).reshape(x.shape)

    def distance(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """(n,) L2 distance of the pixels, input units: the severity is not kept."""
        return pixel_l2(x, x_adv)

    def contains(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """(n,) bool: inside the box; not every picture that passes is a corruption of x."""
        return in_box(x_adv, self.box)

    def project(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """Raises: UsageError: nothing says which corruption is nearest."""
        raise UsageError(f"{self} has no projection: attack it with Corruptions, not pixel steps")

    def steepest(self, grad: Tensor) -> Tensor:
        """Raises: UsageError: a gradient over pixels names no corruption."""
        raise UsageError(f"{self} has no steepest step: attack it with Corruptions")

    def random_point(self, x: Tensor, seed: int, rows: Tensor, step: int) -> Tensor:
        """x under a kind and a severity drawn for each row."""
        which = draws.integers(draws.derive(seed, "kind"), rows, step, (1,), len(self.kinds))[:, 0]
        level = draws.integers(draws.derive(seed, "severity"), rows, step, (1,), self.severity)
        level = level[:, 0] + 1
        own, out = draws.derive(seed, step), x.clone()
        for number, kind in enumerate(self.kinds):
            for severity in range(1, self.severity + 1):
                at = ((which == number) & (level == severity)).nonzero()[:, 0]
                if len(at):
                    out[at] = self.corrupt(x[at], kind, severity, own, rows[at])
        return out

    def take(self, idx: Tensor | slice) -> Self:
        return replace(self, goal=self.goal.take(idx))

    def with_goal(self, goal: Goal) -> Self:
        return replace(self, goal=goal)

    def unbounded(self, x: Tensor) -> Self:
        """The same threat at the highest severity: corruptions have no larger one."""
        return replace(self, severity=SEVEREST)

    def to_dict(self) -> dict[str, object]:
        return {
            "kind": "corruption",
            "kinds": list(self.kinds),
            "severity": self.severity,
            "goal": self.goal.kind,
        }
