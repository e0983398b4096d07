"""`make serve` and `buckler serve --store`: a key printed once, and a gateway that takes it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from buckler.ops.access import ROLES, digest_of
from buckler.store.engine import open_store
from buckler.store.keys import all_keys
from buckler.store.tables import reviews

from .bundles import untrained
from .stored import rows
from .tiny import BLANK, CLASSIFY, body

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("BUCKLER_")}


def keyed(folder: Path) -> str:
    """What the target prints."""
    arguments = ["-f", ROOT / "Makefile", "-o", ".venv/.installed", f"BIN={BIN}", "-s"]
    done = subprocess.run(
        ["make", *arguments, "out/serve/keyed"],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.slow
def test_a_key_is_printed_once_and_works(tmp_path: Path) -> None:
    found = re.search(r"^(bk_\w+)$", keyed(tmp_path), re.MULTILINE)
    assert found is not None
    assert "bk_" not in keyed(tmp_path)
    url = "sqlite:///out/serve/store.db"
    kept = b"".join(each.read_bytes() for each in (tmp_path / "out").rglob("*") if each.is_file())
    assert digest_of(found[1]).encode() in kept
    assert found[1].encode() not in kept
    untrained(tmp_path / "bundle")
    command = [sys.executable, "-m", "buckler.cli.main", "serve", "bundle", "--port", "0"]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(
            [*command, "--store", url, "--inputs", "elsewhere"],
            cwd=tmp_path,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            at = re.search(r"at (http://\S+)", line)
            assert at is not None, (line, (tmp_path / "log").read_text())
            sent = {"json": body(BLANK)}
            assert httpx.post(at[1] + CLASSIFY, **sent).status_code == 401  # type: ignore[arg-type]
            headers = {"x-api-key": found[1]}
            answer = httpx.post(at[1] + CLASSIFY, headers=headers, **sent)  # type: ignore[arg-type]
            assert answer.status_code == 200
            (verdict,) = answer.json()["verdicts"]
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
    store = open_store(f"sqlite:///{tmp_path}/out/serve/store.db", str(tmp_path / "elsewhere"))
    names = [row["id"] for row in rows(store, reviews) if row["origin"] == "suspicious"]
    assert names == ([verdict["review_id"]] if verdict["review_id"] else [])
    (key,) = all_keys(store)
    assert key.roles == set(ROLES)
    store.close()
