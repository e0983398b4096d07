"""Noise and blur among the common corruptions; each (image, severity, seed, rows) → image.

Images are (n, c, h, w) in [0, 1]; what comes out may leave that range and is clipped by the
caller. Written from the description in Hendrycks and Dietterich 2019, arXiv:1903.12261. Lengths
are given for their images of 224 pixels and shrink with the shorter side, not below that of 32.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from buckler import draws
from buckler.threats.images import from_middle, pick


def reach(image: Tensor) -> float:
    """By how much lengths given for 224 pixels shrink."""
    return max(min(image.shape[2:]), 32) / 224


def gaussian_noise(image: Tensor, severity: int, seed: int, rows: Tensor) -> Tensor:
    """Independent normal noise on every value."""
    sigma = (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1]
    return image + sigma * draws.normal(seed, rows, 0, tuple(image.shape[1:])).to(image)


def shot_noise(image: Tensor, severity: int, seed: int, rows: Tensor) -> Tensor:
    """Poisson counts of photons, by inverting the distribution: one uniform number a value."""
    photons = (60, 25, 12, 5, 3)[severity - 1]
    u = draws.uniform(seed, rows, 0, tuple(image.shape[1:])).to(image)
    mean = photons * image.clamp(0, 1)
    chance = torch.exp(-mean)
    below, count = chance.clone(), torch.zeros_like(mean)
    for k in range(1, photons + math.ceil(7 * math.sqrt(photons)) + 5):
        count += u >= below
        chance.mul_(mean).div_(k)
        below += chance
    return count / photons


def impulse_noise(image: Tensor, severity: int, seed: int, rows: Tensor) -> Tensor:
    """Salt and pepper: a share of the values becomes 0 or 1."""
    share = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    u = draws.uniform(seed, rows, 0, (2, *image.shape[1:])).to(image)
    return torch.where(u[:, 0] < share, u[:, 1].round(), image)


def defocus_blur(image: Tensor, severity: int, seed: int, rows: Tensor) -> Tensor:
    """A point becomes a disk."""
    radius = (3, 4, 6, 8, 10)[severity - 1] * reach(image)
    line = torch.linspace(-1, 1, 33, dtype=image.dtype, device=image.device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    disk = radius * torch.stack([y, x], -1)[y.square() + x.square() <= 1]
    return convolve(image, spread(disk[None], radius))


def glass_blur(image: Tensor, severity: int, seed: int, rows: Tensor) -> Tensor:
    """Pixels seen through rough glass: each is taken from a random place near it, then blurred.

    The paper swaps neighbours one after the other; here all pixels are displaced at once.
    """
    far = (1.4, 2.2, 3.5, 5.0, 7.0)[severity - 1] * reach(image)
    sigma = (0.7, 0.9, 1.0, 1.1, 1.5)[severity - 1] * reach(image)
    high, wide = image.shape[2:]
    u = 2 * draws.uniform(seed, rows, 0, (high, wide, 2)).to(image) - 1
    return gaussian_blur(displace(image, far * u), sigma)


def motion_blur(image: Tensor, severity: int, seed: int, rows: Tensor) -> Tensor:
    """A point becomes a line, at up to 45 degrees."""
    length = (10, 16, 23, 31, 40)[severity - 1] * reach(image)
    angle = (draws.uniform(seed, rows, 0, (1,)).to(image)[:, 0] - 0.5) * math.pi / 2
    return streak(image, length, angle)


def zoom_blur(image: Tensor, severity: int, seed: int, rows: Tensor) -> Tensor:
    """The mean over a zoom towards the middle while the shutter is open."""
    largest = (0.11, 0.16, 0.21, 0.26, 0.31)[severity - 1]
    frames = 9
    total = image.clone()
    down, right = from_middle(image)
    for frame in range(1, frames):
        zoom = 1 + largest * frame / (frames - 1)
        y, x = torch.broadcast_tensors(down / zoom, right / zoom)
        total += pick(image, y.expand(len(image), -1, -1), x.expand(len(image), -1, -1))
    return total / frames


def streak(image: Tensor, length: float, angle: Tensor) -> Tensor:
    """The image moved along a line of `length` pixels at the angles (n,), in radians."""
    at = torch.linspace(-0.5, 0.5, 33, dtype=image.dtype, device=image.device) * length
    points = torch.stack([torch.sin(angle)[:, None] * at, torch.cos(angle)[:, None] * at], -1)
    return convolve(image, spread(points, length / 2))


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Blur by a normal density, cut at 3 sigma."""
    half = math.ceil(3 * sigma)
    at = torch.arange(-half, half + 1, dtype=image.dtype, device=image.device)
    line = torch.exp(-(at / sigma).square() / 2)
    kernel = line[:, None] * line[None, :]
    return convolve(image, (kernel / kernel.sum())[None])


def spread(points: Tensor, far: float) -> Tensor:
    """(n, k, k) kernels that move a pixel to all points (n, m, 2) at once, bilinearly.

    Args:
        points: down and right, in pixels, none farther than `far` along either.
    """
    half = math.ceil(far)
    at = torch.arange(-half, half + 1, dtype=points.dtype, device=points.device)
    hats = (1 - (points[..., None] - at).abs()).clamp_min(0)
    kernel = torch.einsum("nmi,nmj->nij", hats[:, :, 0], hats[:, :, 1])
    return kernel / kernel.sum((1, 2), keepdim=True)


def convolve(image: Tensor, kernel: Tensor) -> Tensor:
    """Every channel of each image with its kernel (n or 1, k, k); the border's values go on."""
    n, channels, high, wide = image.shape
    half = kernel.shape[1] // 2
    padded = functional.pad(image, (half, half, half, half), mode="replicate")
    weight = kernel.expand(n, -1, -1).repeat_interleave(channels, 0)[:, None]
    flat = padded.reshape(1, n * channels, *padded.shape[2:])
    return functional.conv2d(flat, weight, groups=n * channels).reshape(n, channels, high, wide)


def displace(image: Tensor, moves: Tensor) -> Tensor:
    """Every pixel taken from moves (n, h, w, 2) pixels down and right of it, bilinearly."""
    down, right = from_middle(image)
    return pick(image, down + moves[..., 0], right + moves[..., 1])
