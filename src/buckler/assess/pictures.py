"""A few rows, broken or held, kept for people to look at."""

import io
from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from buckler import files
from buckler.assess.ledger import Ledger
from buckler.assess.run import Assessment
from buckler.assess.target import Answer
from buckler.errors import DataError

_MOST = 8


def save_examples(
    path: Path,
    assessment: Assessment,
    x: Tensor,
    answer: Answer,
    *,
    keep: np.ndarray | None = None,
    sees: Callable[[Tensor], Tensor] | None = None,
) -> None:
    """Up to eight rows of the assessment: before, after, and the answers to both.

    Columns: x, x_adv (m, ...), y, before, after (m,), accepted (m,) the answer after, row (m,),
    and seen (m, ...), where what the members are shown is another thing.

    Args:
        keep: positions of the rows, the best first; default: those that were broken.
        sees: x → what the guard's members are shown of it.
    """
    found = assessment.ledger.broken.nonzero()[0] if keep is None else keep
    kept = torch.from_numpy(found[:_MOST])
    before, _ = answer(x[kept])
    after, accepted = answer(assessment.x_adv[kept])
    columns = {
        "x": x[kept].numpy(),
        "x_adv": assessment.x_adv[kept].numpy(),
        "y": assessment.ledger.y[kept.numpy()],
        "before": before.numpy(),
        "after": after.numpy(),
        "accepted": accepted.numpy(),
        "row": assessment.ledger.row[kept.numpy()],
    }
    if sees is not None:
        columns["seen"] = sees(assessment.x_adv[kept]).numpy()
    stream = io.BytesIO()
    np.savez_compressed(stream, **columns)
    files.write_bytes(path, stream.getvalue())


def held(ledger: Ledger) -> np.ndarray:
    """Positions of the rows that were right and stayed unbroken, those sent to review first."""
    kept = (ledger.right & ~ledger.broken).nonzero()[0]
    return np.asarray(kept[np.argsort(ledger.accepted_after[kept], kind="stable")])


def load_examples(path: Path) -> dict[str, np.ndarray] | None:
    """What `save_examples` wrote; None if there is nothing to show.

    Raises: DataError if the file is broken.
    """
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
    except (OSError, EOFError, ValueError, BadZipFile) as error:
        raise DataError(
            f"{path} cannot be read ({error}): write it anew with buckler assess"
        ) from None
    return found if len(found["y"]) else None
