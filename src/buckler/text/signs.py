"""What texts are disguised with besides look-alikes: signs nobody sees, leet, keys side by side."""

from typing import Final

INVISIBLE: Final = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u180e\u034f\u2061\u2062\u2063\u2064"
"""Zero-width and other characters that leave no mark on a page."""
MARKS: Final = "\u200e\u200f\u061c"
"""Left-to-right and right-to-left marks: they too are not seen."""
OVERRIDE, POP = "\u202e", "\u202c"
"""What stands between them is shown from right to left."""
EMBEDDINGS: Final = "\u202a\u202b\u202d\u2066\u2067\u2068\u2069"
SEPARATORS: Final = ".-_*·"
"""What is put between the letters of a word, besides a space."""

LEET: Final = {
    "a": "4@",
    "b": "8",
    "c": "(",
    "e": "3",
    "g": "96",
    "i": "1!|",
    "l": "1|",
    "o": "0",
    "s": "5$",
    "t": "7+",
    "z": "2",
}
"""Signs and digits written for letters."""

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def _neighbours() -> dict[str, str]:
    at = {key: (row, place + row * 0.5) for row, keys in enumerate(_ROWS) for place, key in
          enumerate(keys)}  # fmt: skip
    return {
        one: "".join(
            other
            for other, (row, place) in at.items()
            if other != one and abs(row - at[one][0]) <= 1 and abs(place - at[one][1]) <= 1
        )
        for one in at
    }


KEYS: Final = _neighbours()
"""The letters beside each letter on a QWERTY keyboard."""
