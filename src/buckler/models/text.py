"""A classifier of strings as a Classifier: texts in, probabilities out, no gradient."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from buckler.errors import UsageError
from buckler.models.scores import log_probabilities
from buckler.text.codes import decode

Answer = Callable[[list[str]], object]
"""Texts → probabilities (n, k), or (n,) of class 1: an array, a tensor or lists."""


class TextClassifier(nn.Module):
    """Log-probabilities of whatever classifies strings, as logits.

    It is asked once for equal texts of a batch.

    Args:
        answer: a callable, a fitted scikit-learn pipeline (its predict_proba is asked), or a torch
            module that takes a list of strings (its `.logits` or output are logits).
        path: text → text, before it is asked: a normaliser.

    Raises: UsageError for what cannot be asked.
    """

    def __init__(self, answer: object, path: Sequence[Callable[[str], str]] = ()) -> None:
        super().__init__()
        asked = getattr(answer, "predict_proba", answer)
        if not callable(asked):
            raise UsageError(
                "a classifier of texts must be callable, or have predict_proba. "
                f"Got {type(answer).__name__}"
            )
        self._logits = isinstance(answer, nn.Module)
        self._answer: Answer = asked
        self.path = tuple(path)
        self.eval()  # nothing here trains

    def __deepcopy__(self, memo: dict[int, object]) -> "TextClassifier":
        # What answers may hold a file, a lock or a connection; it is asked, never changed.
        twin = TextClassifier.__new__(TextClassifier)
        nn.Module.__init__(twin)
        twin._logits, twin._answer, twin.path = self._logits, self._answer, self.path
        return twin.train(self.training)

    def sees(self, text: str) -> str:
        """What the classifier is shown of a text."""
        for step in self.path:
            text = step(text)
        return text

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, k) of texts x (n, length)."""
        read = [self.sees(text) for text in decode(x)]
        once = list(dict.fromkeys(read))
        place = {text: at for at, text in enumerate(once)}
        # Of no text the width is not known: one is asked.
        found = self.ask(once or ["-"])
        return found[torch.tensor([place[text] for text in read], dtype=torch.long)].to(x.device)

    def ask(self, texts: list[str]) -> Tensor:
        """Logits (n, k) float32 of texts as the classifier reads them.

        Raises: UsageError if it answers something else than probabilities, one row a text.
        """
        with torch.no_grad():
            output = self._answer(texts)
        output = getattr(output, "logits", output)
        values = np.asarray(output.cpu() if isinstance(output, Tensor) else output, np.float64)
        if self._logits and values.ndim == 2:
            return torch.from_numpy(values).float()
        if values.ndim == 1:
            values = np.stack([1 - values, values], 1)
        if values.ndim != 2 or len(values) != len(texts) or values.shape[1] < 2:
            raise UsageError(
                "a classifier of texts must answer probabilities of the shape (n, k), or (n,) of "
                f"class 1. Got {tuple(np.shape(values))} for {len(texts)} texts"
            )
        fine = np.isfinite(values).all() and (values > -1e-6).all() and (values < 1 + 1e-6).all()
        if not fine or np.abs(values.sum(1) - 1).max(initial=0) > 1e-3:
            raise UsageError(
                "a classifier of texts must answer probabilities, in [0, 1] and 1 in sum. "
                f"Got values from {np.nanmin(values):.4g} to {np.nanmax(values):.4g}"
            )
        return torch.from_numpy(log_probabilities(values)).float()
