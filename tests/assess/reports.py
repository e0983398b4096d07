"""A whole evidence folder, written by hand: what reports, cards and comparisons are made of."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from buckler.assess.battery import QUESTIONS, Battery, Check, Naive
from buckler.assess.evidence import SCHEMA
from buckler.assess.ledger import Ledger
from buckler.assess.report import Evidence
from buckler.stats import wilson

DIGEST = "d" * 64
NAMES = ("cat", "dog", "<b>toaster</b>")
N = 60


def book(broken=6, flagged=3, seed=0):
    """Sixty rows of three classes: two wrong at first, `flagged` to review, `broken` fooled."""
    y = np.arange(N) % 3
    before = y.copy()
    before[:2] = (y[:2] + 1) % 3
    accepted = np.ones(N, dtype=bool)
    accepted[2 : 2 + flagged] = False
    broken_by = np.full(N, "", dtype="<U13")
    broken_by[N - broken :] = "PGD-selective"
    after = np.where(broken_by != "", (y + 1) % 3, before)
    return Ledger(
        np.arange(N), y, before, accepted, after, accepted | (broken_by != ""), broken_by,
        broken_by != "", np.full(N, 0.1),
    )  # fmt: skip


def assessment(ledger, digest=DIGEST, eps=0.1, names=("PGD-selective", "Square")):
    right = int(ledger.right.sum())
    return {
        "schema": "buckler.assessment/1",
        "target": "guard",
        "knowledge": "adaptive",
        "threat": {"kind": "ball", "norm": "linf", "eps": eps},
        "suite": [
            {
                "attack": name,
                "parameters": f"{name.partition('-')[0]}(steps=40)",
                "broken": int(ledger.broken.sum()),
                "given": right,
                "forwards": 1234,
                "backwards": 1000,
                "seconds": 1.5,
                "rate": asdict(wilson(int(ledger.broken.sum()), right)),
            }
            for name in names
        ],
        "n": N,
        "rates": {name: asdict(rate) for name, rate in ledger.rates().items()},
        "seed": 0,
        "digest": digest,
        "versions": {"buckler": "0.1.0", "torch": "2"},
        "seconds": 3.0,
    }


def point(asked, broken, flagged):
    ledger = book(broken, flagged)
    right = int(ledger.right.sum())
    half = {
        "missed": [broken // 2, right // 2],
        "flagged_attacks": [0, right // 2],
        "flagged_clean": [flagged // 2, N // 2],
    }
    return {
        "asked": asked,
        "rates": {name: asdict(rate) for name, rate in ledger.rates().items()},
        "stopped": asdict(wilson(20 - broken, 20)),
        "halves": [half, half],
    }


def evidence(
    folder: Path, *, broken=6, flagged=3, struck=(), fails=False, digest=DIGEST
) -> Evidence:
    """Writes the folder of a bundle, and says where it lies."""
    place, ledger = folder / "evidence", book(broken, flagged)
    place.mkdir(parents=True)
    ledger.save(place / "ledger.npz")
    plain = book(40, 0)
    blind = Check(2, "zero gradients", QUESTIONS[0], 1.0, "any", "fail" if fails else "pass", "all")
    found = Battery(N, (blind,), Naive(0.004, 0.01, 32), 1.0).to_dict()
    fine = Battery(N, (replace(blind, mark="pass"),), None, 1.0).to_dict()
    system = {
        "name": "guard", "static": assessment(book(1, flagged), digest),
        "adaptive": assessment(ledger, digest), "unbounded": asdict(wilson(60, 60)),
        "struck": list(struck),
    }  # fmt: skip
    bare = {
        "name": "undefended", "static": assessment(plain, ""), "adaptive": assessment(plain, ""),
        "unbounded": asdict(wilson(60, 60)), "struck": [],
    }  # fmt: skip
    rng = np.random.default_rng(0)
    about = {
        "comparison": {"hardware": "2-core", "systems": [bare, system]},
        "battery": {"guard": found, "undefended": fine},
        "curve": {"points": [assessment(book(b), digest, eps) for b, eps in ((2, 0.05), (9, 0.2))]},
        "tradeoff": {
            "attack": "PGD", "own": 0.05, "turned": 20,
            "points": [point(0.0, 16, 0), point(0.05, 6, 3), point(0.2, 2, 12)],
            "scores": {"clean": rng.normal(-2, 1, N).tolist(), "static": [-0.5, 0.5, 1.0]},
        },
        "latency": {
            path: {"p50": 1.0, "p95": 2.0, "p95_high": 3.0, "calls": 300, "rows": 1, "threads": 1}
            for path in ("one", "batch", "checks")
        },
    }  # fmt: skip
    for name, value in about.items():
        write(place / f"{name}.json", {"schema": SCHEMA, "digest": digest, **value})
    write(place / "assessment.json", assessment(ledger, digest))
    rows = [{"row": i, "y": i % 3, "label": i % 3 if i < 9 else None, "radius": 0.05 * i * (i < 9)}
            for i in range(12)]  # fmt: skip
    certificates = {
        "schema": "buckler.certificates/1", "digest": digest, "about": "the smoothed classifier",
        "sentence": "with probability at least 0.999", "abstained": 3, "certificates": rows,
    }  # fmt: skip
    write(place / "certificates.json", certificates)
    pictures(place / "held.npz", ledger)
    return Evidence(
        "tiny <i>data</i>", "buckler run", NAMES, (0.0, 1.0), (1, 4, 4), folder / "out", folder,
        'eps = "<script>"',
    )  # fmt: skip


def pictures(path, ledger):
    x = np.random.default_rng(1).random((3, 1, 4, 4)).astype(np.float32)
    np.savez_compressed(
        path, x=x, x_adv=np.clip(x + 0.1, 0, 1), seen=x, y=ledger.y[:3], row=np.arange(3),
        before=ledger.y[:3], after=ledger.y[:3], accepted=np.array([True, False, True]),
    )  # fmt: skip


def write(path, value):
    path.write_text(json.dumps(value))
