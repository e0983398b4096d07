"""A training run's whole state as one safetensors file: nothing is unpickled."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from buckler import files

State = dict[str, Tensor]
HistoryRow = dict[str, float]
_FACTS = ("epoch", "best_score", "best_epoch", "attempt", "fallen", "history")


@dataclass
class Run:
    """What changes while a net is trained: state, so a class, and saved as it stands.

    average: the moving average of the weights; best: the best one validated.
    attempt: how often training began again because it stuck at chance.
    fallen: whether one-step training has collapsed, and goes on with the fallback.
    """

    model: nn.Module
    optimizer: torch.optim.Adam
    average: State
    best: State
    best_score: float = -1.0
    best_epoch: int = 0
    epoch: int = 0
    attempt: int = 0
    fallen: bool = False
    history: list[HistoryRow] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return sum(row["seconds"] for row in self.history)

    def restart(self, weights: State) -> None:
        """Go on from these weights, with an optimiser that remembers nothing."""
        self.model.load_state_dict(weights)
        self.average = copied(weights)
        self.optimizer.state.clear()

    def save(self, path: Path, fingerprint: str) -> None:
        """Atomically: a crash leaves the last whole checkpoint."""
        tensors: State = {}
        for prefix, state in (
            ("model", self.model.state_dict()),
            ("average", self.average),
            ("best", self.best),
        ):
            tensors |= {f"{prefix}/{name}": value.contiguous() for name, value in state.items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            for slot, value in slots.items():
                tensors[f"adam/{index}/{slot}"] = torch.as_tensor(value).contiguous()
        facts = {"fingerprint": fingerprint, **{name: getattr(self, name) for name in _FACTS}}
        content = save({k: v.clone() for k, v in tensors.items()}, {"run": json.dumps(facts)})
        files.write_bytes(path, content)

    def resume(self, path: Path, fingerprint: str) -> bool:
        """Take up the run saved at `path`; False if there is none, or it is of another recipe,
        seed or data, or unreadable."""
        try:
            with safe_open(path, "pt") as stored:
                facts = json.loads((stored.metadata() or {})["run"])
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, ValueError):
            return False
        if facts["fingerprint"] != fingerprint:
            return False
        parts: dict[str, State] = {"model": {}, "average": {}, "best": {}, "adam": {}}
        for name, value in tensors.items():
            prefix, _, rest = name.partition("/")
            parts[prefix][rest] = value
        self.model.load_state_dict(parts["model"])
        self.average, self.best = parts["average"], parts["best"]
        adam = self.optimizer.state_dict()
        adam["state"] = {}
        for name, value in parts["adam"].items():
            index, _, slot = name.partition("/")
            adam["state"].setdefault(int(index), {})[slot] = value
        self.optimizer.load_state_dict(adam)
        for name in _FACTS:
            setattr(self, name, facts[name])
        return True


def copied(state: State) -> State:
    return {name: value.detach().clone() for name, value in state.items()}
