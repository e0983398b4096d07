"""A few rows that were broken, kept for people to look at."""

import io
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from buckler import files
from buckler.assess.run import Assessment
from buckler.assess.target import Answer

_MOST = 8


def save_examples(path: Path, assessment: Assessment, x: Tensor, answer: Answer) -> None:
    """Up to eight broken rows of the assessment: before, after, and the answers to both.

    Columns: x, x_adv (m, ...), y, before, after (m,), row (m,).
    """
    broken = torch.from_numpy(assessment.ledger.broken).nonzero()[:_MOST, 0]
    before, _ = answer(x[broken])
    after, _ = answer(assessment.x_adv[broken])
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        x=x[broken].numpy(),
        x_adv=assessment.x_adv[broken].numpy(),
        y=assessment.ledger.y[broken.numpy()],
        before=before.numpy(),
        after=after.numpy(),
        row=assessment.ledger.row[broken.numpy()],
    )
    files.write_bytes(path, stream.getvalue())


def load_examples(path: Path) -> dict[str, np.ndarray] | None:
    """What `save_examples` wrote; None if there is nothing to show."""
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as stored:
        found = {name: stored[name] for name in stored.files}
    return found if len(found["y"]) else None
