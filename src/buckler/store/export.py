"""Decided items as data for the next hardening: what a person said each one is.

FOLDER/images/CLASS/ID.png   images, as `buckler.data.load(FOLDER / "images")` reads them
FOLDER/rows.npz              rows of numbers: x, y, class_names
FOLDER/unlabelled/ID.png     corrupted, or adversarial without a true class
FOLDER/items.jsonl           where each came from and who said what, one line an item
"""

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from buckler import files
from buckler.errors import DataError
from buckler.ops.review import Answer, true_class
from buckler.store import audit
from buckler.store.engine import Store
from buckler.store.tables import decisions, reviews

_IMAGES: Final = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/bmp": "bmp"}
_AT_ONCE: Final = 500
_LONGEST: Final = 100


@dataclass(frozen=True)
class Exported:
    """How many items: as images of a class, as rows of numbers, without a class, and without an
    input (it was redacted)."""

    images: int
    rows: int
    unlabelled: int
    redacted: int


def export(store: Store, folder: Path, now: float, actor: str, since: float = 0.0) -> Exported:
    """Write every item decided since into a new folder, which appears whole or not at all.

    Raises: DataError if the folder is there, cannot be written, a label cannot be the name of a
        folder, rows differ in shape, or an input is missing or changed.
    """
    if folder.exists():
        raise DataError(f"an export goes into a new folder. Got {folder}, which is there already")
    counts = {"images": 0, "rows": 0, "unlabelled": 0, "redacted": 0}
    numbers: list[tuple[NDArray[np.float32], str]] = []
    lines: list[str] = []
    with files.new_folder(folder) as part:
        for row in _decided(store, since):
            line = _provenance(row)
            if row["blob"] is None:
                counts["redacted"] += 1
            else:
                content = store.blobs.get(row["blob"])
                line |= _put(part, row, content, numbers, counts)
            lines.append(json.dumps(line, sort_keys=True))
        if numbers:
            files.write_bytes(part / "rows.npz", _npz(numbers))
        files.write_text(part / "items.jsonl", "".join(f"{line}\n" for line in lines))
    with store.write() as connection:
        audit.append(connection, now, actor, "export", folder.name, {"items": len(lines)})
    return Exported(**counts)


def _put(
    part: Path,
    row: Mapping[str, Any],
    content: bytes,
    numbers: list[tuple[NDArray[np.float32], str]],
    counts: dict[str, int],
) -> dict[str, object]:
    """Write one input where it belongs; what its line says of that."""
    label, ending = row["label"], _IMAGES.get(row["media_type"])
    if row["outcome"] == "corrupted" or label is None:
        counts["unlabelled"] += 1
        name = f"unlabelled/{row['id']}.{ending or 'bin'}"
        files.write_bytes(part / name, content)
        return {"file": name}
    if ending is None:
        counts["rows"] += 1
        numbers.append((_numbers(row, content), str(label)))
        return {"file": "rows.npz", "index": len(numbers) - 1}
    counts["images"] += 1
    name = f"images/{_folder_name(label)}/{row['id']}.{ending}"
    files.write_bytes(part / name, content)
    return {"file": name}


def _decided(store: Store, since: float) -> Iterator[dict[str, Any]]:
    """Decided items with who decided them, page by page."""
    last = ""
    while True:
        page = (
            sa.select(reviews)
            .where(
                reviews.c.state == "decided",
                reviews.c.decided >= since,
                reviews.c.origin != "known",
                reviews.c.id > last,
            )
            .order_by(reviews.c.id)
            .limit(_AT_ONCE)
        )
        with store.read() as connection:
            rows = [dict(row._mapping) for row in connection.execute(page)]
            names = [row["id"] for row in rows] + [row["closed_by"] for row in rows]
            made = connection.execute(
                sa.select(decisions)
                .where(
                    sa.or_(decisions.c.review_id.in_(names), decisions.c.id.in_(names)),
                    decisions.c.undone.is_(None),
                )
                .order_by(decisions.c.at, decisions.c.id)
            ).all()
        for row in rows:
            mine = [d for d in made if row["id"] == d.review_id or row["closed_by"] == d.id]
            said = [_said(d.reviewer, Answer(d.kind, d.label), row["prediction"]) for d in mine]
            yield {**row, "reviewers": [d.reviewer for d in mine], "said": said}
        if len(rows) < _AT_ONCE:
            return
        last = rows[-1]["id"]


def _said(reviewer: str, answer: Answer, prediction: str) -> dict[str, str | None]:
    """One reviewer's answer: the class it names, None where it names none."""
    label = true_class(answer, prediction)
    return {"reviewer": reviewer, "kind": answer.kind, "label": label}


def _provenance(row: Mapping[str, Any]) -> dict[str, object]:
    names = (
        "id request_id row key_id origin bundle prediction outcome label reviewers said created "
        "decided media_type verdict"
    )
    return {**{name: row[name] for name in names.split()}, "sha256": row["blob"], "file": None}


def _folder_name(label: str) -> str:
    """Raises: DataError for what would leave the folder, or be taken for a tool's."""
    if not label.strip() or label.startswith(".") or len(label) > _LONGEST:
        raise _bad(label)
    if any(sign in label for sign in "/\\\0"):
        raise _bad(label)
    return label


def _bad(label: str) -> DataError:
    return DataError(
        f"a class must be the name of a folder: 1 to {_LONGEST} signs, no slash, no dot in front. "
        f"Got {label!r}"
    )


def _numbers(row: Mapping[str, Any], content: bytes) -> NDArray[np.float32]:
    """One input: .npy (application/x-npy), or JSON."""
    try:
        if row["media_type"] == "application/x-npy":
            return np.asarray(np.load(io.BytesIO(content), allow_pickle=False), np.float32)
        return np.asarray(json.loads(content), np.float32)
    except (ValueError, TypeError, EOFError) as error:
        raise DataError(
            f"the input of {row['id']} must be an image, .npy or JSON numbers. "
            f"Got {row['media_type']}: {error}"
        ) from None


def _npz(numbers: list[tuple[NDArray[np.float32], str]]) -> bytes:
    shapes = {x.shape for x, _ in numbers}
    if len(shapes) > 1:
        raise DataError(f"rows of one export must have one shape. Got {sorted(map(str, shapes))}")
    names = sorted({label for _, label in numbers})
    stream = io.BytesIO()
    np.savez(
        stream,
        x=np.stack([x for x, _ in numbers]),
        y=np.array([names.index(label) for _, label in numbers], np.int64),
        class_names=np.array(names),
    )
    return stream.getvalue()
