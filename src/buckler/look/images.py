"""Inputs as pictures inside a page."""

import base64
import io

import numpy as np
from PIL import Image


def data_uri(x: np.ndarray, box: tuple[float, float] = (0.0, 1.0)) -> str:
    """One image (c, h, w) in the box as a PNG that stands in the page itself."""
    low, high = box
    pixels = np.clip((x - low) / (high - low) * 255, 0, 255).round().astype(np.uint8)
    return _png(pixels.transpose(1, 2, 0))


def difference_uri(x: np.ndarray, x_adv: np.ndarray) -> str:
    """What was changed: grey where nothing, lighter where raised, darker where lowered; the
    largest change is drawn at full strength."""
    delta = x_adv - x
    pixels = 127.5 + 127.5 * delta / max(float(np.abs(delta).max()), 1e-12)
    return _png(pixels.round().astype(np.uint8).transpose(1, 2, 0))


def _png(pixels: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
