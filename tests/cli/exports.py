"""Exports as `buckler review export` writes them, of digits no project has seen."""

import hashlib
import io
import json

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

MODEL = """
from torch import nn

def build():
    # The norm at the end keeps the cross entropy from saturating.
    head = (nn.ReLU(), nn.Linear(32, 4), nn.LayerNorm(4))
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), *head)
"""

SETTINGS = """
[model]
factory = "{name}:build"
train = true
epochs = 2
[data]
source = "own.npz"
[threat]
eps = 0.03
curve = [0.03]
[assess]
rows = 40
steps = 3
restarts = 1
queries = 5
article = false
[harden]
members = ["noise"]
ensemble = 1
epochs = 2
[guard]
review_rate = 0.05
[policy]
success = 1.0
accuracy_ratio = 0.01
review_rate = 1.0
added_latency_ms = 10000
[retrain]
golden = 400
"""


def digits():
    """(x, y) of 517 zeros, fours, sixes and sevens for a project, and of 203 that stand for
    traffic; uint8, labels 0 to 3."""
    raw = load_digits()
    rows = np.flatnonzero(np.isin(raw.target, (0, 4, 6, 7)))
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    x = np.round(raw.images[rows] * 255 / 16).astype(np.uint8)
    y = np.searchsorted((0, 4, 6, 7), raw.target[rows]).astype(np.int64)
    return (x[203:], y[203:]), (x[:203], y[:203])


def write_project(folder, text=""):
    """A configuration in `folder`; its path."""
    name = f"net_{folder.name.replace('-', '_')}"
    (folder / f"{name}.py").write_text(MODEL)
    (x, y), _ = digits()
    np.savez(folder / "own.npz", x=x, y=y)
    path = folder / "buckler.toml"
    path.write_text(SETTINGS.format(name=name) + text)
    return path


def line(number, client, label, **changes):
    """What an export says of an image two reviewers gave this label."""
    label = None if label is None else str(label)
    said = [{"reviewer": who, "kind": "label", "label": label} for who in ("ann", "bob")]
    return {
        "id": f"{client}-{number}",
        "key_id": client,
        "outcome": "adversarial",
        "label": label,
        "reviewers": ["ann", "bob"],
        "said": said,
        "decided": 4e9,
        "media_type": "image/png",
        **changes,
    }


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_export(folder, rows):
    """rows: (image (8, 8) uint8, its line)."""
    lines = []
    for pixels, facts in rows:
        content = png(pixels)
        name = f"images/{facts['label']}/{facts['id']}.png"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        lines.append({"file": name, "sha256": hashlib.sha256(content).hexdigest(), **facts})
    text = "".join(json.dumps(each) + "\n" for each in lines)
    (folder / "items.jsonl").write_text(text)
    return folder


def inverted(x):
    """An attack that no training knew: black becomes white."""
    return 255 - x
