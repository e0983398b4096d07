"""Signs that a sticker cannot turn: drawn, trained, certified, and stuck upon.

python examples/signs/run.py [--quick] [--folder DIR]

Trains an ordinary net and one for masks on signs drawn here, prints a sticker for the first, says
how many signs are proved for the second, and writes a picture of both.
"""

import argparse
import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))

from signs import NAMES, build, signs

from buckler.attacks import PatchAttack, StickerAttack, sticker_success
from buckler.certify import ABSTAINED, Masked
from buckler.harden import Recipe, harden
from buckler.harden.objectives import Standard
from buckler.harden.occluded import MaskedValidation, Occluded
from buckler.threats import Patch, Sticker

SQUARE = Patch((5, 5))  # 2.4 % of 32×32
PER_SIDE, FILL = 6, 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few signs and epochs")
    parser.add_argument("--folder", type=Path, default=Path("out/signs"))
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    sizes, epochs = ((600, 60, 16), 2) if asked.quick else ((4000, 200, 100), 16)
    (fit, y_fit), select, (x, y) = (signs(n, seed) for seed, n in enumerate(sizes))
    validate = MaskedValidation(*select, SQUARE, PER_SIDE, FILL, 40)
    plain = trained(Recipe("standard", Standard(), epochs, validate_every=4), fit, y_fit, validate)
    objective = Occluded(threat=SQUARE, per_side=PER_SIDE, fill=FILL, tries=2)
    hidden = trained(Recipe("occluded", objective, epochs, validate_every=4), fit, y_fit, validate)
    stuck = stickers(plain, x, y)
    proved(plain, Masked(hidden, SQUARE, PER_SIDE, FILL), x, y)
    picture(asked.folder / "stickers.png", x, stuck)
    print(f"{asked.folder / 'stickers.png'} written")


def trained(recipe: Recipe, x: Tensor, y: Tensor, validate: MaskedValidation) -> nn.Module:
    torch.manual_seed(0)
    net = build()
    print(f"training: {recipe.name}, {recipe.epochs} epochs", flush=True)
    return harden(net, x, y, recipe, validate, seed=0).model.eval().requires_grad_(False)


def stickers(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The first view of each row's sticker; says how often fresh views of it win."""
    printed = Sticker(size=5 / 32, scale=(0.9, 1.0), rotation=10.0)
    attack = StickerAttack(steps=40)
    texture = attack.textures(net, x, y, printed)
    shares = sticker_success(net, x, y, printed, texture, views=40)
    right = net(x).argmax(1) == y
    won = (shares >= 0.5) & right
    print(
        f"the ordinary net: {float(right.float().mean()):.0%} right; a printed sticker of 5 pixels "
        f"turns {int(won.sum())} of {int(right.sum())} on at least half of fresh views"
    )
    return attack(net, x, y, printed)


def proved(plain: nn.Module, system: Masked, x: Tensor, y: Tensor) -> None:
    square = PatchAttack(steps=40, restarts=2)
    certified = system.certified(x) == y
    accepted = system.accepted(x)
    held = system.answers(square(system.model, x, y, SQUARE)) == y
    lost = plain(square(plain, x, y, SQUARE)).argmax(1) != y
    print(f"the ordinary net under a free square: {float(1 - lost.float().mean()):.0%} right")
    print(
        f"through masks: {float((system.answers(x) == y).float().mean()):.0%} right, "
        f"{float(certified.float().mean()):.0%} certified, "
        f"{float(held.float().mean()):.0%} right under the square"
    )
    wrong = (accepted != y) & (accepted != ABSTAINED)
    print(
        f"abstaining: {float((accepted == y).float().mean()):.0%} answered right, "
        f"{float(wrong.float().mean()):.0%} wrong, the rest not answered"
    )
    for label, name in enumerate(NAMES):
        mine = y == label
        print(f"  {name}: {int(certified[mine].sum())} of {int(mine.sum())} certified")
    broken = int((certified & ~held).sum())
    print(f"certified signs that the square turned: {broken}")
    if broken:
        raise SystemExit(1)


def picture(path: Path, x: Tensor, stuck: Tensor) -> None:
    """Eight signs, and the same with their stickers."""
    rows = torch.cat([torch.cat(list(part[:8]), 2) for part in (x, stuck)], 1)
    pixels = (rows.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    size = (pixels.shape[1] * 4, pixels.shape[0] * 4)
    Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(path)


if __name__ == "__main__":
    main()
