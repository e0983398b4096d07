"""The [answer] section: what a bundle answers by, and what its members are trained for."""

import math
from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from buckler.errors import UsageError
from buckler.guard.answering import Answering, Behind, Smoothed
from buckler.harden import MaskedValidation, Recipe
from buckler.harden.objectives import Noise
from buckler.harden.occluded import Occluded
from buckler.inputs import InputSpec
from buckler.threats import Patch

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class AnswerSection(BaseModel):
    """mode "plain": the members' mean. "smoothed": their vote under noise, with a radius.
    "masked", "abstaining": through masks, against one patch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["plain", "smoothed", "masked", "abstaining"] = "plain"
    sigma: Positive = 0.25
    radii: tuple[Positive, ...] = (0.25,)
    n: Count = 10_000
    n0: Count = 64
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.001
    patch: tuple[Count, Count] = (2, 2)
    per_side: Count = 6
    fill: float = 0.5

    @model_validator(mode="after")
    def _possible(self) -> Self:
        try:
            self.answering()
        except UsageError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def masks(self) -> bool:
        return self.mode in ("masked", "abstaining")

    def answering(self) -> Answering | None:
        if self.mode == "smoothed":
            return Smoothed(self.sigma, tuple(sorted(self.radii)), self.n, self.n0, self.alpha)
        if self.masks:
            return Behind(self.patch, self.per_side, self.fill, self.mode == "abstaining")
        return None

    def fitted(self, recipe: Recipe, spec: InputSpec) -> Recipe:
        """The recipe, for the noise or the masks that its member will answer under."""
        if self.mode == "smoothed" and isinstance(recipe.objective, Noise):
            # The grid of an 8-bit input ends at the box, also under noise.
            box = spec.box if spec.levels else (-math.inf, math.inf)
            return replace(recipe, objective=replace(recipe.objective, sigma=self.sigma, box=box))
        if isinstance(recipe.objective, Occluded):
            masks = replace(
                recipe.objective, threat=Patch(self.patch), per_side=self.per_side, fill=self.fill
            )
            return replace(recipe, objective=masks)
        return recipe

    def validation(self, x: Tensor, y: Tensor) -> MaskedValidation:
        """For a member trained for masks."""
        return MaskedValidation(x, y, Patch(self.patch), self.per_side, self.fill)
