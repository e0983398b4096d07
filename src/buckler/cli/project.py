"""A project: its configuration, its data, its classifier, and which steps are still true."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from buckler import data, files
from buckler.cli.config import Config, read_config
from buckler.errors import DataError, UsageError
from buckler.guard.bundle import versions
from buckler.models import build_module
from buckler.threats import LpBall

_SMALL = 2_000_000  # weights


@dataclass(frozen=True)
class Project:
    """`folder` is where buckler.toml lies: factories and relative paths are looked up there."""

    config: Config
    folder: Path

    @classmethod
    def read(cls, path: Path) -> "Project":
        return cls.of(read_config(path), Path(path).resolve().parent)

    @classmethod
    def of(cls, config: Config, folder: Path) -> "Project":
        """Raises: UsageError for a threat or a factory that cannot work, before anything runs."""
        project = cls(config, folder)
        for eps in (config.threat.eps, *config.threat.curve):
            project.threat_at(eps)
        values = sum(parameter.numel() for parameter in project.fresh_net().parameters())
        if values < _SMALL:
            torch.set_num_threads(1)  # a second thread waits more than it works
        return project

    @cached_property
    def data(self) -> data.Dataset:
        section = self.config.data
        return data.load(
            section.source, seed=section.seed, box=section.box, class_names=section.class_names
        )

    @property
    def out(self) -> Path:
        return self.config.output

    @property
    def bundle(self) -> Path:
        return self.out / "bundle"

    @property
    def threat(self) -> LpBall:
        return self.threat_at(self.config.threat.eps)

    def threat_at(self, eps: float) -> LpBall:
        return LpBall(self.config.threat.norm, eps, self.config.data.box)

    def fresh_net(self, seed: int = 0) -> nn.Module:
        """What the factory returns, untouched."""
        return build_module(self.config.model.factory, seed, self.folder)

    def original(self) -> nn.Module:
        """The team's classifier: the factory's, with its weights or those trained here."""
        module = self.fresh_net()
        section = self.config.model
        weights = self.out / "model" / "weights.safetensors" if section.train else section.weights
        if weights is not None:
            load_weights(module, weights)
        return module.eval().requires_grad_(False)

    def member(self, name: str) -> nn.Module:
        """A hardened member; "standard" is the original."""
        if name == "standard":
            return self.original()
        module = self.fresh_net()
        load_weights(module, self.out / "members" / f"{name}.safetensors")
        return module.eval().requires_grad_(False)

    def inputs_of(self, step: str, *sections: BaseModel, model: bool = True) -> str:
        """Hash of everything a step depends on: configuration, data, weights, version."""
        facts = {
            "step": step,
            "config": [section.model_dump(mode="json") for section in sections],
            "factory": self.config.model.factory,
            "data": self.data.digest(),
            "versions": versions(),
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        if model:
            for tensor in self.original().state_dict().values():
                digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


def is_done(folder: Path, inputs: str) -> bool:
    """Whether the step's output is there and was made from these inputs."""
    try:
        return files.read_json(folder / "record.json").get("inputs") == inputs
    except DataError:
        return False


def mark_done(folder: Path, inputs: str) -> None:
    files.write_json(folder / "record.json", {"inputs": inputs, "versions": versions()})


def save_weights(module: nn.Module, path: Path) -> None:
    state: Mapping[str, torch.Tensor] = module.state_dict()
    files.write_bytes(path, save({k: v.contiguous().clone() for k, v in state.items()}))


def load_weights(module: nn.Module, path: Path) -> None:
    """Raises: UsageError if the file is missing, unreadable or of another architecture."""
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict(state)
    except FileNotFoundError:
        raise UsageError(
            f"the weights {path} do not exist: check model.weights, or run the step that trains "
            "them (buckler run)"
        ) from None
    except (SafetensorError, RuntimeError, OSError, ValueError, TypeError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"the weights {path} do not fit the factory's net: {first}") from None
