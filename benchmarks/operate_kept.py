"""Pieces of a long benchmark that are measured already: run again, it goes on where it was."""

import json
import re
from collections.abc import Callable
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from buckler import files

Keep = Callable[[str, Callable[[], Any]], Any]
"""(name, how it is measured) → what was measured, as JSON has it."""
ROOT: Final = Path(__file__).parents[1]
FOLDER: Final = Path("out/operate")
_CODE: Final = {
    "monitor": "ops/alarms ops/charts ops/cusum ops/rows ops/season stats",
    "rollout": "ops/evidence ops/pairs ops/rollout serve/tally stats",
    "streams": "ops/streams ops/ring ops/fingerprint serve/streams serve/suspects attacks/*",
}


def anew(name: str, make: Callable[[], Any]) -> Any:
    """Measured, and not kept."""
    return make()


def kept(name: str, make: Callable[[], Any]) -> Any:
    """Measured once, and anew when the rules, the attacks or the benchmark change."""
    part = name.partition(" ")[0]
    plain = re.sub(r"[^\w+-]+", "_", name)
    path = FOLDER / f"{plain}.{_digest(part)}.json"
    if not path.exists():
        files.write_json(path, {"found": make()})
    found = json.loads(path.read_text())["found"]
    print(f"{name}: {json.dumps(found)[:200]}", flush=True)
    return found


@lru_cache
def _digest(part: str) -> str:
    found = sha256()
    code = [f"src/buckler/{name}.py" for name in _CODE[part].split()]
    for pattern in (*code, f"benchmarks/operate_{part}*.py"):
        for path in sorted(ROOT.glob(pattern)):
            found.update(path.read_bytes())
    return found.hexdigest()[:12]
