"""Small, fast stand-ins shared by the tests: no trained net, no file outside tmp_path."""

import pytest
import torch
from torch import nn

from buckler import data
from buckler.inputs import InputSpec


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped test fails the run")


def pytest_configure() -> None:
    torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--no-skips") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


class TinyNet(nn.Module):
    """Two layers on 8×8 images, seeded."""

    def __init__(self, seed: int = 0, classes: int = 3) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = nn.Sequential(
                nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, classes)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.body(x)
        return logits


def tiny_net() -> nn.Module:
    return TinyNet()


def blobs(n: int = 400, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three kinds of noisy 8×8 images: bright left, bright right, bright middle."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % 3
    x = 0.3 + 0.15 * torch.randn(n, 1, 8, 8, generator=generator)
    for label, columns in enumerate((slice(0, 3), slice(5, 8), slice(3, 5))):
        x[y == label, :, :, columns] += 0.25
    return x.clamp(0, 1), y


@pytest.fixture(scope="session")
def dataset() -> data.Dataset:
    x, y = blobs()
    spec = InputSpec((1, 8, 8), ("left", "right", "middle"), levels=256)
    return data._split("blobs", spec, spec.snap(x), y, seed=0)


@pytest.fixture(scope="session")
def trained(dataset: data.Dataset) -> nn.Module:
    """A tiny net fitted in a second."""
    net, fit = TinyNet(), dataset["fit"]
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(fit.x), fit.y).backward()
        optimizer.step()
    return net.eval().requires_grad_(False)
