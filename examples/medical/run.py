"""A classifier of 12-bit films, hardened, guarded and told class by class.

python examples/medical/run.py [--folder DIR] [--films N] [--quick]

Makes its data, runs `buckler run` on it, and says what is found, missed and referred: as the films
stand, under attack, corrupted, and for inputs that are no such films. Then a 16-bit file goes
through the built bundle and comes back as it was.
"""

import argparse
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from films import FINDINGS, films, other_inputs, png, tensor, write  # noqa: E402

from buckler.assess import Ledger  # noqa: E402
from buckler.assess.per_class import balanced_accuracy, per_class  # noqa: E402
from buckler.guard import load_bundle  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("out/medical"))
    parser.add_argument("--films", type=int, default=4000)
    parser.add_argument("--quick", action="store_true", help="two epochs: for a look at the path")
    asked = parser.parse_args()
    folder = asked.folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("films.py", "buckler.toml"):
        shutil.copy(HERE / name, folder / name)
    if asked.quick:
        settings = folder / "buckler.toml"
        settings.write_text(re.sub(r"epochs = \d+", "epochs = 2", settings.read_text()))
    write(folder, asked.films)
    subprocess.run([sys.executable, "-m", "buckler.cli.main", "run"], cwd=folder, check=True)
    bundle = folder / "out" / "bundle"
    classes(Ledger.load(bundle / "evidence" / "ledger.npz"))
    guard = load_bundle(bundle, factories=("films:build",))
    referred(guard)
    one_file(guard)


def classes(ledger: Ledger) -> None:
    for attacked in (False, True):
        rows = per_class(ledger, FINDINGS, attacked)
        print(f"\n{'Under attack' if attacked else 'As the films stand'}, {len(ledger.row)} films:")
        for row in rows:
            print(
                f"  {row.name}: found {row.found.value:.1%}, missed {row.missed.value:.1%} "
                f"({row.missed.low:.1%} to {row.missed.high:.1%}), referred "
                f"{row.referred.value:.1%}, false alarm {row.false_alarm.value:.1%}"
            )
        print(f"  balanced accuracy {balanced_accuracy(rows):.1%}")


def referred(guard) -> None:
    x, _ = films(300, seed=1)
    print("\nSent to a person:")
    for name, rows in {"films like those of training": x, **other_inputs(x)}.items():
        held = [verdict.status == "SUSPICIOUS" for verdict in guard.judge(tensor(rows))]
        print(f"  {name}: {np.mean(held):.0%}")


def one_file(guard) -> None:
    film = films(1, seed=2)[0][0]
    x = guard.spec.decode(png(film))
    back = np.array(Image.open(io.BytesIO(guard.spec.encode(x[0]))))
    same = np.array_equal(back, film) and np.array_equal(x[0, 0].numpy(), film)
    print(
        f"\nA 16-bit file, decoded and written again, is the same in all {film.size} values: {same}"
    )
    if not same:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
