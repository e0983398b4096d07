"""InputSpec: what an input is, the same code in assessment and in service."""

import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from buckler.errors import DataError, UsageError
from buckler.text import codes

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
_BYTE = 256
_DEEPEST = 65536


@dataclass(frozen=True)
class InputSpec:
    """Shape, range, grid and names of a classifier's inputs.

    Args:
        shape: of one input: (c, h, w) for images, (d,) for rows of features, (length,) for texts of
            at most so many characters.
        class_names: one name a class, in the order of the logits.
        box: the allowed range of every value.
        levels: how many values a file can hold (256 for 8-bit images, 4096 for 12 bits in a 16-bit
            PNG); 0: any float.
        resize: "refuse" an image of another size, or make it fit by area averaging.
        max_pixels: a larger image is refused before it is decoded.
        text: a row is the code points of a text, then -1 to its end (`of_texts`).
    """

    shape: tuple[int, ...]
    class_names: tuple[str, ...]
    box: tuple[float, float] = (0.0, 1.0)
    levels: int = 0
    resize: Literal["refuse", "area"] = "refuse"
    max_pixels: int = 16_000_000
    text: bool = False

    def __post_init__(self) -> None:
        if not self.shape or min(self.shape) < 1:
            raise UsageError(f"shape must be whole numbers >= 1. Got {self.shape}")
        if len(set(self.class_names)) < len(self.class_names) or len(self.class_names) < 2:
            raise UsageError(f"class_names must be 2 or more different names: {self.class_names}")
        if not self.box[0] < self.box[1]:
            raise UsageError(f"box must be (low, high) with low < high. Got {self.box}")
        if self.levels == 1 or not 0 <= self.levels <= _DEEPEST:
            raise UsageError(f"levels must be 0 (any float) or 2 to {_DEEPEST}. Got {self.levels}")
        if self.is_deep and self.shape[0] != 1:
            raise UsageError(
                f"images of more than 8 bits have one channel. Got {self.levels} levels and the "
                f"shape {self.shape}"
            )
        if self.is_deep and self.resize != "refuse":
            raise UsageError("images of more than 8 bits are not resized: set resize to 'refuse'")
        if self.text and (len(self.shape) != 1 or self.box != codes.BOX or self.levels):
            raise UsageError(
                "a spec of texts has the shape (length,), code points as its box and no levels: "
                f"InputSpec.of_texts makes one. Got {self.shape}, {self.box}, {self.levels}"
            )

    @classmethod
    def of_texts(cls, class_names: tuple[str, ...], length: int = 2000) -> Self:
        """Of texts of at most `length` characters."""
        return cls((length,), class_names, codes.BOX, text=True)

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 3 and self.shape[0] in (1, 3)

    @property
    def is_deep(self) -> bool:
        """Images of 9 to 16 bits: files are 16-bit PNG, and nothing rounds them to 8."""
        return self.is_image and self.levels > _BYTE

    def blank(self, n: int = 1) -> Tensor:
        """(n, *shape) in the middle of the box: inputs that can always be judged; a text "-"."""
        if self.text:
            return codes.encode(["-"] * n, self.shape[0])
        return torch.full((n, *self.shape), sum(self.box) / 2)

    def check(self, x: Tensor) -> Tensor:
        """x (n, *shape) as it came, if every value may be there.

        Raises: DataError naming the first thing wrong.
        """
        if x.ndim != len(self.shape) + 1 or tuple(x.shape[1:]) != self.shape:
            raise DataError(
                f"inputs must have the shape (n, {', '.join(map(str, self.shape))}). "
                f"Got {tuple(x.shape)}"
            )
        if not x.is_floating_point():
            raise DataError(f"inputs must be floating point numbers in {self.box}. Got {x.dtype}")
        low, high = self.box
        if x.numel():
            # One pass, on the path of every request; NaN comes through it and is in no range.
            least, most = (float(end) for end in torch.aminmax(x.detach()))
            if low <= least and most <= high and math.isfinite(most - least):
                if self.text:
                    codes.check(x)
                return x
        if not bool(torch.isfinite(x).all()):
            rows = (~torch.isfinite(x.flatten(1))).any(1).nonzero()[:, 0]
            raise DataError(
                f"inputs must be finite. Got NaN or infinity in {len(rows)} of {len(x)} rows, "
                f"first in row {int(rows[0])}"
            )
        if bool(((x < low) | (x > high)).any()):
            hint = ": divide by 255?" if float(x.max()) > 1.5 and high <= 1 else ""
            raise DataError(
                f"inputs must lie in [{low:g}, {high:g}]. "
                f"Got values from {float(x.min()):.4g} to {float(x.max()):.4g}{hint}"
            )
        return x

    def check_labels(self, y: Tensor, count: int) -> Tensor:
        """y (n,) int64. Raises: DataError if it does not fit `count` inputs or names no class."""
        if y.ndim != 1 or len(y) != count:
            raise DataError(f"labels must be one a row, ({count},). Got the shape {tuple(y.shape)}")
        if len(y) and (int(y.min()) < 0 or int(y.max()) >= self.classes):
            raise DataError(
                f"labels must be 0 to {self.classes - 1} for the {self.classes} classes. "
                f"Got {int(y.min())} to {int(y.max())}"
            )
        return y

    def snap(self, x: Tensor) -> Tensor:
        """The nearest point a file can hold; gradients pass unchanged (identity surrogate)."""
        if not self.levels:
            return x
        snapped = self._valued(self._levels(x))
        return straight_through(x, snapped) if x.requires_grad else snapped

    def of_levels(self, stored: np.ndarray) -> Tensor:
        """What a file's whole numbers 0..levels-1 (any shape) mean, in the box, float32.

        Raises: DataError if one of them is beyond the levels.
        """
        possible = np.iinfo(stored.dtype).max >= self.levels
        if possible and stored.size and int(stored.max()) >= self.levels:
            raise DataError(
                f"stored values must be 0 to {self.levels - 1}, the model's {self.levels} levels. "
                f"Got {int(stored.max())}"
            )
        return self._valued(torch.from_numpy(stored.astype(np.float32)))

    def _levels(self, x: Tensor) -> Tensor:
        """The nearest of a file's whole numbers."""
        low, high = self.box
        n = self.levels - 1
        return torch.round((x.detach() - low) / (high - low) * n).clamp(0, n)

    def _valued(self, level: Tensor) -> Tensor:
        # In this order, so that a decoded file's k / 255 comes out bit for bit.
        unit = level / (self.levels - 1)
        low, high = self.box
        return unit if self.box == (0, 1) else (unit * (high - low) + low).clamp(low, high)

    def on_grid(self, x: Tensor) -> Tensor:
        """(n,) bool: the row can be sent as a file as it stands."""
        return (self.snap(x.detach()) - x).abs().flatten(1).amax(1) < 1e-6

    def read(self, texts: Sequence[str]) -> Tensor:
        """Texts as (n, length).

        Raises: DataError for one that is empty, too long, or has lone surrogates.
        """
        return codes.encode(texts, self.shape[0])

    def decode(self, content: bytes) -> Tensor:
        """An image file as (1, c, h, w) in the box.

        Raises: DataError if it is no image, too large, or of another size and resize is "refuse".
        """
        if not self.is_image:
            raise DataError(f"this model takes rows of shape {self.shape}, not images: send JSON")
        try:
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                self._check_size(image)
                return self._pixels(ImageOps.exif_transpose(image))
        except UnidentifiedImageError:
            raise DataError(f"the body must be an image ({', '.join(_FORMATS)})") from None
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"the image cannot be decoded: {error}") from None

    def _check_size(self, image: Image.Image) -> None:
        """Before a byte is decoded."""
        if image.width * image.height > self.max_pixels:
            raise DataError(
                f"an image may have at most {self.max_pixels} pixels. "
                f"Got {image.width} x {image.height}"
            )

    def _pixels(self, image: Image.Image) -> Tensor:
        channels, height, width = self.shape
        if image.size != (width, height) and self.resize == "refuse":
            raise DataError(
                f"images must be {width} x {height} pixels. Got {image.width} x {image.height}"
            )
        if self.is_deep:
            return self._deep(image)
        if image.mode.startswith(("I", "F")):
            raise DataError(f"images must have 8 bits a channel. Got the mode {image.mode!r}")
        alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
        if alpha is not None and alpha.getextrema()[0] != 255:
            # People would see it over a background, the classifier without: two pictures in one.
            raise DataError("images must be opaque: flatten the transparency first")
        image = image.convert("L" if channels == 1 else "RGB")
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BOX)
        # In place: the memory of a large image costs more than the arithmetic.
        pixels = torch.from_numpy(np.array(image, dtype=np.uint8)).float().div_(255)
        low, high = self.box
        if self.box != (0, 1):
            pixels.mul_(high - low).add_(low)
        return pixels.reshape(height, width, channels).permute(2, 0, 1)[None]

    def _deep(self, image: Image.Image) -> Tensor:
        if image.mode != "I;16":
            raise DataError(
                "images must be 16-bit grey PNG files: this model tells "
                f"{self.levels} levels apart. Got the mode {image.mode!r}"
            )
        return self.of_levels(np.array(image)).reshape(1, *self.shape)

    def encode(self, x: Tensor) -> bytes:
        """One input (c, h, w) as a PNG file of 8 bits a channel; of 16 if the levels need them."""
        if not self.is_deep:
            return self.seen(x)
        stored = self._levels(x[0].cpu()).numpy().astype(np.uint16)
        return _png(stored)

    def seen(self, x: Tensor) -> bytes:
        """One input (c, h, w) as a PNG file for eyes: 8 bits a channel over the whole box."""
        low, high = self.box
        levels = ((x.detach().cpu() - low) / (high - low) * 255).round().clamp(0, 255)
        pixels = levels.to(torch.uint8).permute(1, 2, 0).numpy()
        return _png(pixels[..., 0] if pixels.shape[2] == 1 else pixels)

    def to_dict(self) -> dict[str, object]:
        fields = asdict(self)
        if not self.text:
            del fields["text"]  # what was written before texts keeps its digest
        return {**fields, "decoder": "pillow"}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Self:
        fields = dict(value)
        if fields.pop("decoder", "pillow") != "pillow":
            raise DataError(f"the decoder must be 'pillow'. Got {value['decoder']!r}")
        for name in ("shape", "class_names", "box"):
            fields[name] = tuple(fields[name])
        return cls(**fields)


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, soft: Tensor, hard: Tensor) -> Tensor:
        return hard.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def straight_through(soft: Tensor, hard: Tensor) -> Tensor:
    """The value of `hard`, bit for bit, with the gradient of `soft` (BPDA, Athalye et al. 2018)."""
    result: Tensor = _StraightThrough.apply(soft, hard)  # type: ignore[no-untyped-call]
    return result
