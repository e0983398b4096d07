"""Addresses of a guard's random draws: the same content, the same draw."""

import hashlib
import hmac

import torch
from torch import Tensor


def content_keys(secret: bytes, x: Tensor) -> Tensor:
    """(n,) int64 from HMAC(secret, content of the row): resubmission gives no fresh draw.

    One changed last bit is a new draw, so this stops plain resubmission and nothing more.
    """
    rows = x.detach().cpu().contiguous().numpy()
    digests = (hmac.digest(secret, row.tobytes(), hashlib.sha256) for row in rows)
    keys = [int.from_bytes(digest[:8], "little", signed=True) for digest in digests]
    return torch.tensor(keys, dtype=torch.int64, device=x.device)
