"""A gateway in a process of its own, whose judge takes as long as a test wants.

python -m tests.serve.process '{"batch_s": 0.02, "settings": {…}}' prints its URL, then serves. With
"tiny" it is the tiny guard that judges.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from .tiny import LEFT, Scripted, accept, body, settings, tiny_guard

CONTENT = orjson.dumps(body(LEFT))


def say(url: str) -> None:
    sys.stdout.write(url + "\n")
    sys.stdout.flush()


def main(given: dict[str, Any]) -> None:
    from buckler.serve import Background, serve
    from buckler.serve.run import signals

    chosen = settings(**given.get("settings", {}))
    if "bundle" in given:
        serve(Path(given["bundle"]), chosen, say)
        return

    def judge(x: Any) -> Any:
        time.sleep(given.get("batch_s", 0.0))
        return accept(x)

    guard: Any = tiny_guard() if given.get("tiny") else Scripted(judge)
    with signals() as caught, Background(guard, chosen) as url:
        say(url)
        while not caught:
            time.sleep(0.01)


@contextmanager
def gateway(log: Path, **given: Any) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """A process, its host and its port; killed at the end if it still runs."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BUCKLER_")}
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, "-m", "tests.serve.process", json.dumps(given)],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=Path(__file__).parents[2],
            env=environment,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            url = re.fullmatch(r"http://(.*):(\d+)\n", process.stdout.readline())
            assert url is not None, log.read_text()
            yield process, url[1], int(url[2])
        finally:
            process.kill()


def resident_mib(process: subprocess.Popen[str]) -> float:
    """Of Linux: the memory that is in use."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
