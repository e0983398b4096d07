"""AutoAttack's own flags on a model: what its code warns of (checks.py of pyautoattack 0.2.0)."""

import importlib
import logging
from typing import Any

from torch import Tensor, nn

_KNOWN = {
    "randomized": "randomised",
    "probability": "probabilities",
    "zero gradient": "zero gradients",
    "Square Attack": "Square does better",
    "dynamic": "dynamic",
}
_SEED = 0
_QUERIES = 1000  # of Square, which raises its flag once it breaks a row more


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def flags(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> list[str]:
    """The flags raised by its checks and by APGD-CE, APGD-T and Square, L∞; FAB has none. A model
    on which it stops with an error counts as flagged.

    Its count of autograd calls is never set back between models: it is here.
    """
    lib: Any = importlib.import_module("pyautoattack")
    checks: Any = importlib.import_module("pyautoattack.checks")
    checks.funcs.update(dict.fromkeys(checks.funcs, 0))
    heard, logger = _Heard(), logging.getLogger("auto-attack")
    logger.addHandler(heard)
    try:
        made = lib.AutoAttack(
            model,
            eps=eps,
            norm="Linf",
            seed=_SEED,
            version="custom",
            attacks=["apgd-ce", "apgd-t", "square"],
        )
        made.square.n_queries = _QUERIES
        made.run_standard_evaluation(x, y, batch_size=250)
    except RuntimeError as error:
        heard.said.append(f"stops: {str(error).splitlines()[0][:60]}")
    finally:
        logger.removeHandler(heard)
    return sorted({_short(text) for text in heard.said})


def _short(text: str) -> str:
    return next((short for key, short in _KNOWN.items() if key in text), text)
