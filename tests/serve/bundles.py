"""A bundle that is quickly made."""

from pathlib import Path

import torch

from buckler.data import SPLITS, Dataset, Split
from buckler.detectors.confidence import Confidence
from buckler.guard import Guard, write_bundle
from buckler.guard.bundle import MemberSource
from buckler.guard.rule import Thresholds
from buckler.inputs import InputSpec
from buckler.models import TorchClassifier
from buckler.models.nets import digits_cnn


def untrained(path: Path) -> str:
    """Write an untrained net, always the same, as a bundle to `path`. Returns: its digest."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = digits_cnn()
    spec = InputSpec((1, 8, 8), tuple("0123456789"), levels=256)
    empty = Split(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64), ())
    guard = Guard(
        spec=spec,
        members=(TorchClassifier(net),),
        weights=(1.0,),
        temperatures=(1.0,),
        detectors=(Confidence(),),
        rule=Thresholds((-1.0,), 0),
    )
    data = Dataset("none", spec, dict.fromkeys(SPLITS, empty), 0)
    return write_bundle(
        guard, data, [MemberSource("plain", "buckler.models.nets:digits_cnn")], path
    )
