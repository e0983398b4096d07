"""Defences that are often proposed and do not hold, as systems for the same table."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from buckler import draws
from buckler.assess.target import Target
from buckler.guard.keys import content_keys
from buckler.inputs import InputSpec
from buckler.models import TorchClassifier
from buckler.threats import Goal


def range_check(model: nn.Module, spec: InputSpec) -> Target:
    """Rejects what lies outside the allowed range, which no attacker needs to leave."""
    net, (low, high) = TorchClassifier(model), spec.box

    def answer(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            inside = ((x >= low) & (x <= high)).flatten(1).all(1)
            return net(x).argmax(1), inside

    return Target("range check", net, Goal(), answer, spec)


def noisy(model: nn.Module, spec: InputSpec, sigma: float = 0.1, average: int = 20) -> Target:
    """Gaussian noise of standard deviation sigma (input units) on each input; attacked through the
    mean over `average` draws (EOT), answered with one keyed by content."""
    net = TorchClassifier(model)

    def with_noise(x: Tensor, keys: Tensor) -> Tensor:
        noise = draws.normal(draws.derive(0, "noise"), keys, 0, tuple(x.shape[1:]))
        noised: Tensor = net((x + sigma * noise.to(x)).clamp(*spec.box))
        return noised

    def drawn(x: Tensor) -> Tensor:
        keys = torch.cat([content_keys(b"draw %d" % i, x.detach()) for i in range(average)])
        logits = with_noise(x.repeat(average, *[1] * (x.ndim - 1)), keys)
        mean: Tensor = logits.unflatten(0, (average, len(x))).mean(0)
        return mean

    def answer(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            predicted = with_noise(x, content_keys(b"deployed", x)).argmax(1)
        return predicted, torch.ones_like(predicted, dtype=torch.bool)

    return Target(f"Gaussian noise {sigma:g}", drawn, Goal(), answer, spec, random=True)


def voting(models: Sequence[nn.Module], spec: InputSpec) -> Target:
    """The majority of several ordinary nets; attacked through the mean of their probabilities,
    for a count of votes has no gradient. A tie goes to the surest mean."""
    nets = [TorchClassifier(model) for model in models]

    def mean(x: Tensor) -> Tensor:
        each = torch.stack([net(x).log_softmax(1) for net in nets])
        found: Tensor = each.logsumexp(0)
        return found

    def answer(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            each = torch.stack([net(x) for net in nets])
            votes = torch.nn.functional.one_hot(each.argmax(2), each.shape[2]).sum(0)
            predicted = (votes + 0.5 * each.softmax(2).mean(0)).argmax(1)
        return predicted, torch.ones_like(predicted, dtype=torch.bool)

    return Target(f"vote of {len(nets)}", mean, Goal(), answer, spec)
