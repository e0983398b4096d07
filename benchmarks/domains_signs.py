"""Road signs, drawn for the purpose: one square of 2.4 % of the image, certified and attacked.

Eight kinds of 32×32 colour signs. A net trained for masks and the same net trained as nets are; the
printed sticker against the plain one, the patch attack against both and every certified row.
"""

import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.results_file import Bar, percent
from buckler.assess.parallel import side_by_side
from buckler.attacks import PatchAttack, StickerAttack, sticker_success
from buckler.certify import ABSTAINED, Masked
from buckler.harden import Recipe, harden
from buckler.harden.objectives import Standard
from buckler.harden.occluded import MaskedValidation, Occluded
from buckler.models import tuned
from buckler.stats import wilson
from buckler.threats import Patch, Sticker

Json = dict[str, Any]
SQUARE = Patch((5, 5))
_PER_SIDE, _FILL = 13, 0.5
_THROUGH = 12  # rows attacked through the masks as well
_POINTS, _CERTIFIED = 2.0, 0.6


def measured(quick: bool) -> tuple[list[Json], list[Bar], str]:
    """Rows, bars and table."""
    build, signs = _example()
    sizes = (600, 60, 40) if quick else (6000, 300, 300)
    (fit, y_fit), (select, y_select), (x, y) = (signs(n, seed) for seed, n in enumerate(sizes))
    epochs = 2 if quick else 36
    masked = Occluded(threat=SQUARE, per_side=_PER_SIDE, fill=_FILL, tries=4)
    validate = MaskedValidation(select, y_select, SQUARE, _PER_SIDE, _FILL, 40)
    recipes = (
        Recipe("standard", Standard(), epochs, chosen_by="clean", validate_every=6),
        Recipe("occluded", masked, epochs, validate_every=6),
    )
    jobs = [partial(_trained, build, fit, y_fit, recipe, validate) for recipe in recipes]
    plain, hidden = side_by_side(jobs, 2)
    system = Masked(tuned(hidden, x[:16], queries=True), SQUARE, _PER_SIDE, _FILL)
    rows = _clean(plain, system, x, y) + _attacked(plain, system, x, y)
    return rows, _bars(rows), _table(rows)


def _example() -> tuple[Any, Any]:
    """build and signs of the example, which draws them."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "signs"))
    import signs

    return signs.build, signs.signs


def _trained(
    build: Any, x: Tensor, y: Tensor, recipe: Recipe, validate: MaskedValidation
) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build()
    return harden(net, x, y, recipe, validate, seed=0).model.eval().requires_grad_(False)


def _clean(plain: nn.Module, system: Masked, x: Tensor, y: Tensor) -> list[Json]:
    accepted, certified = system.accepted(x), system.certified(x)
    return [
        _row("plain net", "right", plain(x).argmax(1) == y),
        _row("masked", "right", system.answers(x) == y),
        _row("masked", "certified and right", certified == y),
        _row("abstaining", "answered and right", accepted == y),
        _row("abstaining", "answered and wrong", (accepted != y) & (accepted != ABSTAINED)),
    ]


def _attacked(plain: nn.Module, system: Masked, x: Tensor, y: Tensor) -> list[Json]:
    """What is left under a free square, and how often a printed sticker wins on the plain net."""
    square, few = PatchAttack(steps=60, restarts=3), slice(0, _THROUGH)
    bare = plain(square(plain, x, y, SQUARE)).argmax(1) == y
    certified, held = system.certified(x) == y, torch.ones(len(x), dtype=torch.bool)
    held &= system.answers(square(system.model, x, y, SQUARE)) == y
    # Through the masks, too: each step asks 169 forwards.
    through = PatchAttack(steps=20, restarts=1)(system, x[few], y[few], SQUARE)
    held[few] &= system.answers(through) == y[few]
    right = plain(x).argmax(1) == y
    printed = Sticker(size=5 / 32, scale=(0.9, 1.0), rotation=10.0)
    made = StickerAttack(steps=60).textures(plain, x[right], y[right], printed)
    shown = sticker_success(plain, x[right], y[right], printed, made)
    return [
        _row("plain net", "right under the square", bare),
        _row("masked", "right under the square", held),
        _row("masked", "certified and broken", certified & ~held),
        {**_row("plain net", "sticker wins on half of fresh views", shown >= 0.5)},
    ]


def _row(system: str, what: str, hit: Tensor) -> Json:
    return {"system": system, "what": what, **asdict(wilson(int(hit.sum()), len(hit)))}


def _table(rows: list[Json]) -> str:
    lines = [
        "| signs, one square of 5×5 of 32×32 pixels (2.4 %) | | n |",
        "|---|---|---|",
        *(f"| {r['system']}: {r['what']} | {percent(r)} | {r['n']} |" for r in rows),
    ]
    said = (
        "- A certificate is about one axis-aligned square inside the picture, of any content. Two "
        "stickers, a larger one, or one that covers the sign's edge at a slant are outside of it."
    )
    return "\n".join([*lines, "", said])


def _bars(rows: list[Json]) -> list[Bar]:
    at = {(row["system"], row["what"]): row for row in rows}
    certified, broken = at["masked", "certified and right"], at["masked", "certified and broken"]
    lost = 100 * (at["plain net", "right"]["value"] - at["masked", "right"]["value"])
    n, ends = certified["n"], (certified["low"], certified["high"])
    return [
        Bar("signs: certified against one square", certified["value"], n, ends, ">=", _CERTIFIED),
        Bar("signs: points of clean accuracy lost", lost, n, None, "<=", _POINTS),
        Bar("signs: certified rows broken", broken["value"], n, None, "<=", 0),
    ]
