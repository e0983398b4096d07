"""module:function, and every way it can lead nowhere."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from buckler.errors import UsageError
from buckler.models import build_factory, build_module


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "nets_for_test.py").write_text(
        "from torch import nn\n"
        "number = 3\n"
        "def build(): return nn.Linear(4, 2)\n"
        "def wrong(): return 'a net'\n"
        "def wants(width): return nn.Linear(width, 2)\n"
        "def fails(): raise OSError('no weights\\nhere')\n"
        "def leaves(): raise SystemExit(0)\n"
        "def stopped(): raise KeyboardInterrupt\n"
    )
    (tmp_path / "broken_for_test.py").write_text("def build(:\n")
    (tmp_path / "old_for_test.py").write_text("from torch import no_such_name\n")
    (tmp_path / "needs_more_for_test.py").write_text("import not_installed_anywhere\n")
    yield tmp_path
    for name in ("nets_for_test", "needs_more_for_test"):
        sys.modules.pop(name, None)


def test_a_net_beside_the_configuration(folder: Path) -> None:
    assert isinstance(build_module("nets_for_test:build", folder=folder), nn.Linear)
    assert build_factory("nets_for_test:build", folder)().in_features == 4


def test_weights_follow_the_seed_and_the_callers_state_stays(folder: Path) -> None:
    state = torch.get_rng_state()
    one, again, other = (
        build_module("nets_for_test:build", seed, folder).weight for seed in (1, 1, 2)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nets_for_test", r"named 'module:function'\. Got 'nets_for_test'"),
        (":build", r"named 'module:function'\. Got ':build'"),
        ("nets_for_test:", r"named 'module:function'\. Got 'nets_for_test:'"),
        ("no_such_module:build", "needs the module 'no_such_module', which is not to be found"),
        ("needs_more_for_test:build", "needs the module 'not_installed_anywhere', which is not to"),
        ("nets_for_test:nothing", "the module 'nets_for_test' has no function 'nothing'"),
        ("nets_for_test:number", "the module 'nets_for_test' has no function 'number'"),
        (
            "broken_for_test:build",
            r"'broken_for_test:build' must be in .* Got SyntaxError: invalid",
        ),
        (
            "old_for_test:build",
            r"'old_for_test:build' must be in .* Got ImportError: cannot import",
        ),
        (".nets_for_test:build", r"'\.nets_for_test:build' must be in a module .* Got TypeError: "),
        ("nets_for_test:wants", r"'nets_for_test:wants' must build .* Got TypeError: .*'width'"),
        (
            "nets_for_test:fails",
            r"'nets_for_test:fails' must build .* Got OSError: no weights: mend",
        ),
        ("nets_for_test:leaves", r"'nets_for_test:leaves' must build .* Got SystemExit: 0"),
        ("nets_for_test:wrong", r"'nets_for_test:wrong' must return an nn\.Module\. Got .*str"),
    ],
)
def test_refusals(folder: Path, name: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        build_module(name, folder=folder)


def test_an_interrupt_passes(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build_module("nets_for_test:stopped", folder=folder)


def test_a_net_of_our_own() -> None:
    assert isinstance(build_module("buckler.models.nets:digits_cnn"), nn.Module)
