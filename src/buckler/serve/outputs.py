"""What of an answer leaves, under which name, and who may see it."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from buckler.inputs import InputSpec
from buckler.serve.judged import Judged
from buckler.serve.settings import Expose


@dataclass(frozen=True)
class Output:
    """One value a row.

    datatype: of the V2 protocol.
    raw: a number, or a word, that tells an attacker how near they are.
    """

    datatype: str
    column: Callable[[Judged, InputSpec], np.ndarray]
    raw: bool = False


def _text(values: Iterable[str]) -> np.ndarray:
    return np.array(list(values), dtype=object)


def _labels(judged: Judged, spec: InputSpec) -> np.ndarray:
    named = spec.class_names.index
    return np.array([named(v.prediction) for v in judged.verdicts], dtype=np.int64)


def _confidence(judged: Judged, _: InputSpec) -> np.ndarray:
    return np.array([v.confidence for v in judged.verdicts], dtype=np.float32)


def _anomaly(judged: Judged, _: InputSpec) -> np.ndarray:
    return np.array([v.anomaly_score for v in judged.verdicts], dtype=np.float32)


OUTPUTS: Final[dict[str, Output]] = {
    "prediction": Output("BYTES", lambda j, _: _text(v.prediction for v in j.verdicts)),
    "label": Output("INT64", _labels),
    "probabilities": Output("FP32", lambda j, _: j.probabilities.numpy(), raw=True),
    "confidence": Output("FP32", _confidence, raw=True),
    "anomaly_score": Output("FP32", _anomaly, raw=True),
    "status": Output("BYTES", lambda j, _: _text(v.status for v in j.verdicts)),
    "reasons": Output("BYTES", lambda j, _: _text(",".join(v.reasons) for v in j.verdicts), True),
    "review_id": Output("BYTES", lambda j, _: _text(j.review_ids)),
}


def shown(expose: Expose, roles: Collection[str] = ()) -> tuple[str, ...]:
    """The outputs that a caller with these roles may see: the answer, and to an admin, or where
    the operator opened them to all, the scores behind it."""
    everything = expose == "scores" or "admin" in roles
    return tuple(name for name, output in OUTPUTS.items() if everything or not output.raw)


def arrays(judged: Judged, spec: InputSpec, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The outputs by name, (n,) or (n, k) each."""
    return {name: OUTPUTS[name].column(judged, spec) for name in names}


def verdicts(judged: Judged, names: Collection[str]) -> list[dict[str, object]]:
    """The verdicts in JSON, without what the caller may not see; a radius where one is claimed."""
    keep = {*names, "bundle", "radius"}
    return [
        {key: value for key, value in verdict.to_dict().items() if key in keep}
        | {"review_id": review_id}
        for verdict, review_id in zip(judged.verdicts, judged.review_ids, strict=True)
    ]
