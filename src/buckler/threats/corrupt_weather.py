"""Weather and digital faults among the common corruptions, as in `corrupt_noise`.

Snow, frost and fog are synthetic: flakes, crystals and clouds are drawn from noise, no photograph
is needed (the paper blends photographs of frost).
"""

import math

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from buckler import draws
from buckler.errors import UsageError
from buckler.threats.corrupt_noise import displace, reach, streak


def snow(image: Tensor, severity: int, seed: int, rows: Tensor) -> Tensor:
    """Flakes that fall aslant over a whitened image."""
    share, white = (0.04, 0.08, 0.12, 0.16, 0.22)[severity - 1], 0.08 * severity
    high, wide = image.shape[2:]
    cell = max(1.0, 6 * reach(image))
    nodes = (1, math.ceil(high / cell) + 1, math.ceil(wide / cell) + 1)
    noise = draws.uniform(draws.derive(seed, "flakes"), rows, 0, nodes).to(image)
    flakes = ((noise - (1 - share)) / share).clamp_min(0).sqrt()
    flakes = functional.interpolate(flakes, (high, wide), mode="bilinear", align_corners=True)
    slant = math.pi / 2 + (draws.uniform(seed, rows, 0, (1,)).to(image)[:, 0] - 0.5)
    flakes = streak(flakes, 12 * reach(image), slant)
    grey = image.mean(1, keepdim=True)
    whitened = torch.maximum(image, 0.5 + 0.5 * grey)
    return image + white * (whitened - image) + 1.5 * flakes


def frost(image: Tensor, severity: int, seed: int, rows: Tensor) -> Tensor:
    """Crystals of bright needles that grow from the ridges of a cloud (synthetic)."""
    cover = (0.3, 0.45, 0.6, 0.75, 0.9)[severity - 1]
    ridges = 1 - (2 * cloud(image, seed, rows, 0.6) - 1).abs()
    haze = cloud(image, draws.derive(seed, "haze"), rows, 0.5)
    opaque = cover * (0.7 * ridges.pow(3) + 0.3 * haze)
    ice = 0.75 + 0.25 * cloud(image, draws.derive(seed, "ice"), rows, 0.8)
    return image + opaque * (ice - image)


def fog(image: Tensor, severity: int, seed: int, rows: Tensor) -> Tensor:
    """A bright cloud in front, the contrast behind it lost."""
    strength = (1.0, 1.5, 2.0, 2.5, 3.0)[severity - 1]
    most = image.amax((1, 2, 3), keepdim=True).clamp_min(0.1)
    bank = 0.4 + 0.6 * cloud(image, seed, rows, 0.55)
    return (image + strength * bank) * most / (most + strength)


def brightness(image: Tensor, severity: int, seed: int, rows: Tensor) -> Tensor:
    """The value of hue, saturation, value is raised."""
    value = image.amax(1, keepdim=True)
    raised = (value + 0.1 * severity).clamp_max(1)
    return torch.where(value > 0, image * raised / value.clamp_min(1e-12), raised)


def contrast(image: Tensor, severity: int, seed: int, rows: Tensor) -> Tensor:
    """Every value moves towards its channel's mean."""
    factor = (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]
    mean = image.mean((2, 3), keepdim=True)
    return mean + factor * (image - mean)


def elastic_transform(image: Tensor, severity: int, seed: int, rows: Tensor) -> Tensor:
    """Small regions stretched and pressed: a smooth random field of displacements.

    The paper's five settings trade size against smoothness; here the field only grows.
    """
    far = (2.5, 4.0, 6.0, 8.5, 12.0)[severity - 1] * reach(image)
    high, wide = image.shape[2:]
    nodes = draws.normal(seed, rows, 0, (2, 6, 6)).to(image)
    field = functional.interpolate(nodes, (high, wide), mode="bicubic", align_corners=True)
    return displace(image, far * field.permute(0, 2, 3, 1))


def pixelate(image: Tensor, severity: int, seed: int, rows: Tensor) -> Tensor:
    """Shown at a lower resolution."""
    cell = 1 / (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1]
    down, across = (_blocks(image, side, cell) for side in image.shape[2:])
    return down @ image @ across


def _blocks(image: Tensor, side: int, cell: float) -> Tensor:
    """(side, side) symmetric: a line as its means over cells of this many pixels, shown again."""
    at = torch.arange(side, device=image.device).to(image.dtype)
    start = torch.arange(math.ceil(side / cell), device=image.device).to(image.dtype) * cell
    end = (start + cell).clamp_max(side)
    over = torch.minimum(at + 1, end[:, None]) - torch.maximum(at, start[:, None])
    shared = over.clamp_min(0)  # (cells, side): how much of each pixel lies in each cell
    return shared.T @ (shared / shared.sum(1, keepdim=True).clamp_min(1e-12))


def jpeg_compression(image: Tensor, severity: int, seed: int, rows: Tensor) -> Tensor:
    """A round trip through a JPEG file of low quality."""
    quality = (25, 18, 15, 10, 7)[severity - 1]
    if image.shape[1] not in (1, 3):
        raise UsageError(f"JPEG needs images of 1 or 3 channels. Got {image.shape[1]}")
    pixels = (image.detach() * 255).round().clamp(0, 255).to(torch.uint8)
    files = pixels.permute(0, 2, 3, 1).flip(3).contiguous().cpu().numpy()  # OpenCV means BGR
    out = np.empty_like(files)
    for row, picture in enumerate(files):  # a codec takes one image at a time
        _, code = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = np.asarray(cv2.imdecode(code, cv2.IMREAD_UNCHANGED))
        out[row] = decoded.reshape(picture.shape)
    return torch.from_numpy(out).flip(3).permute(0, 3, 1, 2).to(image) / 255


def cloud(image: Tensor, seed: int, rows: Tensor, decay: float) -> Tensor:
    """(n, 1, h, w) in [0, 1]: noise in octaves, each twice as fine and `decay` times as strong."""
    high, wide = image.shape[2:]
    total = image.new_zeros(len(image), 1, high, wide)
    for octave in range(1, max(2, math.ceil(math.log2(max(high, wide)))) + 1):
        nodes = (1, min(2**octave + 1, high), min(2**octave + 1, wide))
        noise = draws.uniform(seed, rows, octave, nodes).to(image)
        fine = functional.interpolate(noise, (high, wide), mode="bilinear", align_corners=True)
        total += decay**octave * fine
    least, most = total.amin((2, 3), True), total.amax((2, 3), True)
    return (total - least) / (most - least).clamp_min(1e-12)
