"""A classifier of characters: hashed pieces of words' keys, one linear layer."""

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor, nn

from buckler.text.codes import decode, encode
from buckler.text.fold import keys

SHORTEST, LONGEST = 2, 6
_PRIME: Final = 1_000_003
_START: Final = 0x9E3779B97F4A7C1


class CharGrams(nn.Module):
    """Logits from all runs of 2 to 6 characters of a text's keys.

    Look-alikes, leet, invisible signs, signs between letters and doubled letters change nothing at
    all: the keys are the same (`buckler.text.fold.keys`). Misspelt letters, and spaces put into
    words, change the few runs that hold them. As fastText's subwords (Bojanowski et al. 2017,
    arXiv:1607.04606), over robust keys (Jones et al. 2020, arXiv:2005.01229).

    Args:
        classes: of the answer.
        bits: log2 of the table's rows.
        path: text → text before it: a normaliser.
    """

    def __init__(
        self, classes: int = 2, bits: int = 18, path: Sequence[Callable[[str], str]] = ()
    ) -> None:
        super().__init__()
        self.bits, self.path = bits, tuple(path)
        self.table = nn.EmbeddingBag(2**bits, classes, mode="sum")
        nn.init.zeros_(self.table.weight)
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, k) of texts x (n, length)."""
        return self.of_grams(*self.grams([self.sees(text) for text in decode(x)]))

    def sees(self, text: str) -> str:
        """The keys that a text is classified by."""
        for step in self.path:
            text = step(text)
        return keys(text)

    def of_grams(self, rows: Tensor, starts: Tensor) -> Tensor:
        """Logits of bags of runs; each is the runs' mean times the root of their number."""
        counts = torch.diff(starts, append=torch.tensor([len(rows)])).clamp(min=1)
        summed: Tensor = self.table(rows, starts)
        return summed / counts.to(summed).sqrt()[:, None] + self.bias

    def grams(self, read: list[str]) -> tuple[Tensor, Tensor]:
        """(total,) rows of the table, and where each text's begin (n,)."""
        if not read:
            return torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long)
        width = max(map(len, read)) + 2
        points = encode([f" {each} " for each in read], width).long()
        mask = (1 << self.bits) - 1
        found, there = [], []
        for length in range(SHORTEST, min(LONGEST, width) + 1):
            windows = points.unfold(1, length, 1)
            hashed = torch.full(windows.shape[:2], _START * length)
            for at in range(length):
                hashed = (hashed ^ windows[..., at]) * _PRIME
                hashed = hashed ^ (hashed >> 29)
            found.append(hashed & mask)
            there.append(windows[..., -1] >= 0)
        rows, kept = torch.cat(found, 1), torch.cat(there, 1)
        counts = kept.sum(1)
        return rows[kept], torch.cat([counts.new_zeros(1), counts.cumsum(0)[:-1]])


def char_grams() -> CharGrams:
    """The factory of bundles: two classes."""
    return CharGrams()
