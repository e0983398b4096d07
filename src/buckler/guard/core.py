"""Guard: InputSpec → predict path → members → weighted mean → detectors → verdict."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from buckler.data import Dataset
from buckler.defenses import apply
from buckler.errors import UsageError
from buckler.guard.answering import Answered, Answering
from buckler.guard.keys import content_keys
from buckler.guard.rule import Rule
from buckler.guard.temperature import mean_log_probs
from buckler.inputs import InputSpec
from buckler.models import TorchClassifier
from buckler.protocols import Classifier, Defense, Detector, Features, Progress
from buckler.threats.features import FeatureSpec
from buckler.verdict import Certificate, PatchCertificate, Verdict


@dataclass(frozen=True)
class Guard:
    """A defended classifier; `judge` is what serves, `attack_view` what attackers get.

    path: transforms in series before the members.
    views: transforms whose extra view of the input the detectors compare.
    members, weights: the answer is the weighted mean of the members' probabilities.
    temperatures: what each member's logits are divided by: probabilities mean what they say.
    rule: how the detectors' scores become one score and its threshold.
    answering: what is served in the place of the members' own answer: the vote under noise, or
        what is said through masks. Detectors look at the input itself all the same.
    digest: of the bundle this guard was read from, "" before it is written.
    table: of rows with named columns, what may stand in them; None for other inputs.
    secret: the operator's, addresses of the random draws; never in a bundle.
    """

    spec: InputSpec
    members: tuple[TorchClassifier, ...]
    weights: tuple[float, ...]
    temperatures: tuple[float, ...]
    detectors: tuple[Detector, ...]
    rule: Rule
    path: tuple[Defense, ...] = ()
    views: tuple[Defense, ...] = ()
    answering: Answering | None = None
    digest: str = ""
    secret: bytes = b""
    table: FeatureSpec | None = None

    def __post_init__(self) -> None:
        if self.answering is not None and any(part.random for part in (*self.path, *self.views)):
            raise UsageError(
                "a guard that answers under noise or through masks needs transforms that answer "
                "the same input alike: leave random ones out of path and views"
            )
        if not len(self.members) == len(self.weights) == len(self.temperatures) > 0:
            raise UsageError(
                "a guard needs one weight and one temperature a member, and at least one member. "
                f"Got {len(self.members)}, {len(self.weights)}, {len(self.temperatures)}"
            )
        if self.table is not None and self.spec.shape != (self.table.width,):
            raise UsageError(
                f"the feature spec has {self.table.width} columns, the guard's inputs the shape "
                f"{self.spec.shape}"
            )

    @staticmethod
    def article(
        data: Dataset,
        members: Sequence[nn.Module],
        *,
        confidence: float = 0.85,
        anomaly: float = 0.3,
    ) -> "Guard":
        """The article's guard, with its own settings: see `buckler.guard.build.article`."""
        from buckler.guard.build import article  # it builds guards, so it stands above this file

        return article(data, members, confidence=confidence, anomaly=anomaly)

    @property
    def random(self) -> bool:
        """Whether an answer depends on draws."""
        own = self.answering is not None and self.answering.random
        return own or any(part.random for part in (*self.path, *self.views))

    def judge(self, x: Tensor) -> list[Verdict]:
        """One verdict a row of x (n, *spec.shape).

        Raises: DataError if x is not what the spec says.
        """
        return self.judge_with_probabilities(x)[0]

    def judge_with_probabilities(self, x: Tensor) -> tuple[list[Verdict], Tensor]:
        """What `judge` says, and what it predicts from, of one forward.

        Returns: one verdict a row; the members' mean probabilities (n, k) float32, zeros in a row
            whose numbers are not finite.

        Raises: DataError if x is not what the spec says.
        """
        self.spec.check(x)
        parts = [self._judge(part) for part in x.split(_CHUNK)] if len(x) else []
        verdicts = [verdict for found, _ in parts for verdict in found]
        return verdicts, torch.cat([x.new_zeros(0, self.spec.classes), *(p for _, p in parts)])

    def _judge(self, x: Tensor) -> tuple[list[Verdict], Tensor]:
        with torch.inference_mode():
            return self._verdicts(*self._look(x, self._keys(x, self.secret)))

    def answer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What `judge` answers, for counting: predicted class (n,) int64, accepted (n,) bool."""
        predicted, over = self.suspicion(x)
        return predicted, over <= 0

    def suspicion(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted class (n,) int64, and how far the combined score lies over its threshold (n,):
        SUSPICIOUS exactly where that is over 0; infinite where a number behind it is none."""
        parts = [self._suspicion(part) for part in x.split(_CHUNK)]
        predicted, over = zip(*parts, strict=True)
        return torch.cat(predicted), torch.cat(over)

    def _suspicion(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            features, scores, answered = self._look(x, self._keys(x, self.secret))
            predicted = features.log_probs[0].argmax(1)
            over = self._over(scores, predicted, answered)
            return predicted, over.masked_fill(~_finite(features, scores, over), torch.inf)

    def sees(self, x: Tensor) -> Tensor:
        """What the members are shown of x (n, ...): on the grid, through the path."""
        with torch.inference_mode():
            return self.features(x, self._keys(x, self.secret)).views[0].clone()

    def attack_view(self, draws: Sequence[int] = ()) -> Classifier:
        """x → logits (n, k + 1): the argmax is k exactly where `judge` says SUSPICIOUS.

        draws: for a random guard, the attacker's own draws of its randomness (they do not know the
            secret): the logits are the mean over them, that is EOT (Athalye et al. 2018,
            arXiv:1707.07397). Of a smoothed guard the first alone, whose answer is the vote of many
            copies. None given: the deployed draw.
        """
        secrets = [b"draw %d" % draw for draw in draws] or [self.secret]
        if self.answering is not None:
            secrets = secrets[:1]

        def view(x: Tensor) -> Tensor:
            keys = None
            if self.random:
                snapped = self.spec.snap(x.detach())
                keys = torch.cat([content_keys(secret, snapped) for secret in secrets])
            logits = self._with_reject(*self._look(x, keys, len(secrets)))
            mean: Tensor = logits.unflatten(0, (len(secrets), len(x))).mean(0)
            return mean

        return view

    def classifier(self) -> Classifier:
        """x → log-probabilities (n, k) of the answer; detectors and their views left out."""
        beneath, answering = self.beneath(), self.answering
        if answering is None:
            return beneath
        return lambda x: answering.ask(beneath, x, self._keys(x, self.secret)).log_probs

    def beneath(self) -> Classifier:
        """x → log-probabilities (n, k) of the members' mean: what noise or masks are laid over."""
        bare = replace(self, views=(), answering=None)
        return lambda x: bare.features(x, bare._keys(x, self.secret)).log_probs[0]

    def certificates(
        self, x: Tensor, progress: Progress | None = None
    ) -> Sequence[Certificate | PatchCertificate]:
        """Of what is served of each row of x (n, *spec.shape).

        Raises: UsageError for a guard that serves its members' own answer.
        """
        if self.answering is None:
            raise UsageError(
                "this guard serves its members' own answer, which no certificate is about: build "
                'it with answer.mode = "smoothed", "masked" or "abstaining"'
            )
        keys = self._keys(x, self.secret)
        return self.answering.certificates(self.beneath(), x, keys, progress)

    def with_identity(self, digest: str, secret: bytes) -> "Guard":
        return replace(self, digest=digest, secret=secret)

    def features(self, x: Tensor, keys: Tensor | None = None, repeats: int = 1) -> Features:
        """One batched forward of every member over every view.

        Args:
            keys: (n · repeats,) addresses of the random transforms' draws.
            repeats: how often each row is drawn; what comes before the first random transform is
                computed once.
        """
        x = self.spec.snap(x)
        base = x
        first = next((i for i, part in enumerate(self.path) if part.random), len(self.path))
        for transform in self.path[:first]:
            base = apply(transform, base)
        many = (repeats, *[1] * (x.ndim - 1))
        if repeats > 1:
            base, x = base.repeat(many), x.repeat(many)
        for transform in self.path[first:]:
            base = apply(transform, base, keys)
        views = torch.stack([base, *(apply(view, x, keys) for view in self.views)])
        rows = views.flatten(0, 1)
        outputs = [member.with_embedding(rows) for member in self.members]
        logits = torch.stack([z for z, _ in outputs]).unflatten(1, views.shape[:2])
        mean = mean_log_probs(tuple(logits), self.temperatures, self.weights)
        embedding = outputs[0][1]
        embed = None if embedding is None else embedding[None, : len(x)]
        return Features(views, logits, embed, mean)

    def _keys(self, x: Tensor, secret: bytes) -> Tensor | None:
        return content_keys(secret, self.spec.snap(x.detach())) if self.random else None

    def _look(
        self, x: Tensor, keys: Tensor | None, repeats: int = 1
    ) -> tuple[Features, Tensor, Answered | None]:
        """The features of x and the detectors' scores (d, n); the first log-probabilities are those
        of what is served."""
        features = self.features(x, keys, repeats)
        scores = torch.stack([detector.score(features) for detector in self.detectors])
        if self.answering is None:
            return features, scores, None
        answered = self.answering.ask(self.beneath(), x, keys)
        served = torch.cat([answered.log_probs[None], features.log_probs[1:]])
        return replace(features, log_probs=served), scores, answered

    def _over(self, scores: Tensor, predicted: Tensor, answered: Answered | None) -> Tensor:
        """(n,) over 0 where the row is SUSPICIOUS: by its score, or for want of certainty."""
        over = self.rule.over(scores, predicted)
        return over if answered is None else torch.maximum(over, answered.doubt.to(over))

    def _with_reject(self, features: Features, scores: Tensor, answered: Answered | None) -> Tensor:
        z = features.log_probs[0]
        top, predicted = z.max(1)
        over = self._over(scores, predicted, answered)
        reject = top + over
        # Rounding must not hide a score that is over its threshold by less than one unit.
        above = torch.nextafter(top.detach(), z.new_tensor(torch.inf))
        hidden = (over > 0) & (reject < above)
        reject = torch.where(hidden, reject + (above - reject).detach(), reject)
        return torch.cat([z, reject[:, None]], 1)

    def _verdicts(
        self, features: Features, scores: Tensor, answered: Answered | None
    ) -> tuple[list[Verdict], Tensor]:
        log_sure, predicted = features.log_probs[0].max(1)
        over = self._over(scores, predicted, answered)
        flagged, finite = over > 0, _finite(features, scores, over)
        names = tuple(part.name for part in self.detectors)
        reasons = iter(self.rule.reasons(scores[:, flagged], names) if bool(flagged.any()) else ())
        columns = (predicted, log_sure.exp(), flagged, finite)
        certain = _certain(answered, len(predicted))
        rows = zip(self.rule.anomaly(scores), certain, *(c.tolist() for c in columns), strict=True)
        verdicts = []
        for odd, (doubt, radius), label, sure, suspicious, whole in rows:
            why = (*doubt, *next(reasons))[:2] if suspicious else ()
            verdicts.append(
                Verdict(
                    prediction=self.spec.class_names[label],
                    confidence=min(1.0, sure) if whole else 0.0,
                    anomaly_score=odd if whole else 1.0,
                    status="SUSPICIOUS" if suspicious or not whole else "ACCEPTED",
                    reasons=why if whole else (NOT_FINITE,),
                    bundle=self.digest,
                    radius=radius if whole else None,
                )
            )
        probabilities = features.log_probs[0].exp().clamp(max=1).float()
        return verdicts, probabilities.masked_fill(~finite[:, None], 0)


_CHUNK = 512  # rows judged at a time: memory stays bounded however many come
NOT_FINITE = "not finite"


def _finite(features: Features, scores: Tensor, over: Tensor) -> Tensor:
    """(n,) bool: every number behind the verdict is one; a row without is never accepted."""
    logits = features.logits.isfinite().all(-1).flatten(0, 1).all(0)
    return logits & scores.isfinite().all(0) & over.isfinite()


def _certain(answered: Answered | None, n: int) -> list[tuple[tuple[str, ...], float | None]]:
    """For each row, the reason why its answer is not certain, if it is not, and its radius."""
    if answered is None:
        return [((), None)] * n
    doubts = ((answered.reason,) if doubt > 0 else () for doubt in answered.doubt.tolist())
    return list(zip(doubts, answered.radii, strict=True))
