"""A project: its configuration, its data, its classifier, and which steps are still true."""

import hashlib
import json
import math
import pickle
import sys
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
from buckler.cli.config import Config, ModelSection, read_config
from buckler.defenses import check_transform, defense
from buckler.errors import DataError, UsageError
from buckler.guard import Guard, load_bundle
from buckler.guard.answering import Behind
from buckler.guard.bundle import OWN_FACTORIES, versions
from buckler.models import build_module, open_model
from buckler.protocols import Classifier
from buckler.stats import clopper_pearson_lower
from buckler.threats import LpBall

ARTICLE = ("standard", "mixed", "noise")
"""The article's members: its guard answers with their plain mean."""
_SMALL = 2_000_000  # weights
_ANSWERS = 8  # rows whose answers tell one file or endpoint from another


@dataclass(frozen=True)
class Project:
    """`folder` is where buckler.toml lies: factories and relative paths are looked up there.
    added: rows that join the fit split, of a retrain."""

    config: Config
    folder: Path
    added: data.Split | None = None

    @classmethod
    def read(cls, path: Path) -> "Project":
        return cls.of(read_config(path), Path(path).resolve().parent)

    @classmethod
    def of(cls, config: Config, folder: Path) -> "Project":
        """Raises: UsageError for any setting that cannot work, before anything runs."""
        project = cls(config, folder)
        for eps in (config.threat.eps, *config.threat.curve, project.harden_eps):
            project.threat_at(eps)
        if config.model.factory:  # nothing is built of a file or an endpoint
            project.check_guard()
        certify = config.certify
        if clopper_pearson_lower(certify.n, certify.n, certify.alpha) <= 0.5:
            raise UsageError(
                f"certify: with n = {certify.n} and alpha = {certify.alpha:g} every row would "
                "abstain: take more draws, or a larger alpha"
            )
        net = project.fresh_net() if config.model.factory else project.classifier()
        if not isinstance(net, nn.Module) or sum(p.numel() for p in net.parameters()) < _SMALL:
            torch.set_num_threads(1)  # a second thread waits more than it works
        return project

    @cached_property
    def data(self) -> data.Dataset:
        section = self.config.data
        found = data.load(
            section.source,
            seed=section.seed,
            box=section.box,
            class_names=section.class_names,
            levels=section.levels,
        )
        if found.spec.box != section.box:
            raise UsageError(
                f"data.box is for rows of floats; {section.source} holds 8-bit pixels, which "
                f"become {found.spec.box}. Got {section.box}: leave data.box out"
            )
        return found if self.added is None else found.joined(self.added)

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
        """The threat at another radius. Raises: UsageError if it could reach the whole box."""
        spec, norm = self.data.spec, self.config.threat.norm
        most = (spec.box[1] - spec.box[0]) * math.prod(spec.shape) ** (0.5 if norm == "l2" else 1)
        if norm != "linf" and eps > most:
            raise UsageError(f"eps must be at most {most:.4g}, the box's diagonal. Got {eps:g}")
        return LpBall(norm, eps, spec.box)

    @property
    def harden_eps(self) -> float:
        """The radius trained against: by default half as much again as the policy's."""
        low, high = self.data.spec.box
        given = self.config.harden.eps
        return min(1.5 * self.config.threat.eps, high - low) if given is None else given

    @property
    def member_names(self) -> tuple[str, ...]:
        """The guard's candidates: "standard" once, of each recipe as many as the ensemble has."""
        section = self.config.harden
        copies = range(1, section.ensemble + 1)
        each = [
            (name,)
            if name == "standard" or section.ensemble == 1
            else tuple(f"{name}-{copy}" for copy in copies)
            for name in section.members
        ]
        return tuple(name for names in each for name in names)

    @property
    def trained_names(self) -> tuple[str, ...]:
        """The candidates, and the article's members where its guard is compared with ours."""
        return tuple(dict.fromkeys((*self.member_names, *(ARTICLE if self.article else ()))))

    @property
    def article(self) -> bool:
        """Whether the article's guard is compared with ours: it is for 8-bit images in
        [0, 1]."""
        spec = self.data.spec
        fits = spec.is_image and not spec.is_deep and spec.box == (0.0, 1.0)
        return self.config.assess.article and fits

    def check_guard(self) -> None:
        """Raises: UsageError for transforms or detectors that do not fit the data."""
        section, spec = self.config.guard, self.data.spec
        rows = spec.snap(self.data["fit"].x[:8])
        for name in (*section.views, *section.path):
            if not spec.is_image:
                raise UsageError(
                    f"the transform {name!r} is for images, and these inputs have the shape "
                    f"{spec.shape}: set guard.views = [], guard.path = [] and leave 'views' out of "
                    "guard.detectors"
                )
            check_transform(defense(name), rows, spec.box, spec.is_deep)
        answering = self.config.answer.answering()
        if isinstance(answering, Behind):
            answering.fits(rows)
        if section.detectors != "auto" and "views" in section.detectors and not section.views:
            raise UsageError(
                "the detector 'views' compares views, and guard.views is empty: leave it out of "
                "guard.detectors, or add a view"
            )

    def fresh_net(self, seed: int = 0) -> nn.Module:
        """What the factory returns; one that answers with an object gives its logits.

        Raises: UsageError for a model that is a file or an endpoint.
        """
        if not self.config.model.factory:
            raise UsageError(
                f"{self.config.model.source} can be assessed, but not trained or built into a "
                "bundle: name the factory and weights of a torch net in [model] for that"
            )
        module = build_module(self.config.model.factory, seed, self.folder)
        module.register_forward_hook(_logits_of_output)
        return module

    def classifier(self) -> Classifier:
        """The team's classifier to attack: the original, or the file or endpoint as it is."""
        return self.original() if self.config.model.factory else self._opened

    @cached_property
    def _opened(self) -> Classifier:
        section = self.config.model
        return open_model(section.file or section.url, self.data.spec)

    @cached_property
    def _answers(self) -> torch.Tensor:
        """Of a file or an endpoint to a few rows: its weights, as far as they show."""
        with torch.no_grad():
            return (1e4 * self._opened(self.data["fit"].x[:_ANSWERS])).round()

    def original(self) -> nn.Module:
        """The team's torch net: the factory's, with its weights or those trained here."""
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

    def members_digest(self) -> str:
        """sha256 over the trained members' files: what a bundle and its evidence are made of."""
        folder = self.out / "members"
        names = [name for name in self.trained_names if name != "standard"]
        paths = [folder / f"{name}.safetensors" for name in names]
        found = [files.sha256(path) if path.exists() else "" for path in paths]
        return hashlib.sha256(" ".join(found).encode()).hexdigest()

    def inputs_of(self, step: str, *sections: BaseModel, model: bool = True) -> str:
        """Hash of everything a step depends on: configuration, data, weights, version."""
        facts = {
            "step": step,
            "config": [section.model_dump(mode="json") for section in sections],
            "factory": self.config.model.factory,
            "source": _source(self.config.model),
            "data": self.data.digest(),
            "versions": versions(),
        }
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        if model and not self.config.model.factory:
            digest.update(self._answers.contiguous().numpy().tobytes())
        elif model:
            for tensor in self.original().state_dict().values():
                digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()


def load_guard(project: Project, bundle: Path) -> Guard:
    """Raises: UsageError if the bundle was made for other inputs or classes than the data's."""
    guard = load_bundle(bundle, factories=(*OWN_FACTORIES, project.config.model.factory))
    spec = project.data.spec
    if (guard.spec.shape, guard.spec.class_names) != (spec.shape, spec.class_names):
        raise UsageError(
            f"the bundle {bundle} takes {guard.spec.shape} and knows {guard.spec.class_names}: "
            f"the data have {spec.shape} and {spec.class_names}"
        )
    return guard


def _logits_of_output(_: nn.Module, __: object, output: object) -> object:
    return getattr(output, "logits", output)


def _source(section: ModelSection) -> str:
    """sha256 of the file the factory's module was read from, or of the model's own; or its URL."""
    module = sys.modules.get(section.factory.partition(":")[0])
    path = section.file or getattr(module, "__file__", None)
    return files.sha256(Path(path)) if path else section.url


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
    except (pickle.UnpicklingError, EOFError) as error:
        raise UsageError(
            f"the weights {path} are no plain state_dict ({type(error).__name__}): save "
            "model.state_dict() with torch.save, or as .safetensors"
        ) from None
    except (SafetensorError, RuntimeError, OSError, ValueError, TypeError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(f"the weights {path} do not fit the factory's net: {first}") from None
