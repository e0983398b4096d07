"""Does another attacker do better? Checks 8 to 12, on the rows the main attack left."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from buckler import draws
from buckler.assess.battery.check import OTHERS, Check, Mark, absent
from buckler.assess.battery.scene import Main, Scene
from buckler.assess.battery.second_look import stay
from buckler.attacks import FGSM, HopSkipJump, Square, Study, Transfer, train_surrogate
from buckler.protocols import Classifier
from buckler.threats import Goal

ONE_STEP, SQUARE, TWIN = 0.02, 0.002, 0.01  # of the rows (8, 9, 10)
_TOGETHER = 500  # rows of noise in one forward
_FAR = 5.0  # deviations of a row's own draws (11)
_NO_SLOPE = "no gradient arrives: there is no gradient attack to beat"


@dataclass(frozen=True)
class _Found:
    """What one other attacker broke: rows (n,) bool; `share` of all rows may be luck."""

    number: int
    name: str
    rows: Tensor
    share: float
    said: str


def check(scene: Scene, main: Main) -> Iterator[Check]:
    """Each attacker, and a second look at the rows that it broke."""
    left = ~main.broken
    looked, stuck = torch.zeros_like(left), torch.zeros_like(left)
    for attacker in (_one_step, _square, _twin, _noise, _decisions):
        found = attacker(scene, left)
        if isinstance(found, Check):
            yield found
            continue
        if _suspect(scene, found):
            known = int((found.rows & stuck).sum())
            look = stay(scene, found.rows & ~looked, enough=scene.limit - known)
            looked, stuck = looked | look.at, stuck | look.stuck
        yield _marked(scene, found, stuck)


def _suspect(scene: Scene, found: _Found) -> bool:
    count = int(found.rows.sum())
    return count > found.share * scene.n and count > scene.limit


def _marked(scene: Scene, found: _Found, stuck: Tensor) -> Check:
    count, stays = int(found.rows.sum()), int((found.rows & stuck).sum())
    share = f"> {found.share:.1%} of rows" if found.share else "any row"
    limit = f"{share} fails, if > {scene.limit} stay at the second look"
    said = f"{found.said} broke {count} rows that the main attack left"
    if _suspect(scene, found):
        said += f"; {stays} of those looked at twice stay"
    mark: Mark = "fail" if _suspect(scene, found) and stays > scene.limit else "pass"
    return Check(found.number, found.name, OTHERS, count / scene.n, limit, mark, said)


def _one_step(scene: Scene, left: Tensor) -> _Found | Check:
    name = "one step beats many"
    if not scene.gradients:
        return absent(8, name, OTHERS, _NO_SLOPE)
    return _Found(8, name, scene.broken(FGSM(), left), ONE_STEP, "FGSM")


def _square(scene: Scene, left: Tensor) -> _Found | Check:
    name, queries = "scores beat gradients", scene.effort.queries
    if not scene.gradients:
        return absent(9, name, OTHERS, _NO_SLOPE)
    rows = scene.broken(Square(queries=queries), left)
    return _Found(9, name, rows, SQUARE, f"Square with {queries} queries")


def _twin(scene: Scene, left: Tensor) -> _Found | Check:
    """The undefended model where there is one, else a net distilled from the view's answers."""
    name = "transfer from a twin beats gradients"
    if not scene.gradients:
        return absent(10, name, OTHERS, _NO_SLOPE)
    if scene.undefended is not None and scene.undefended.gradients:
        twin, said = scene.undefended.view, "PGD on the undefended model"
    else:
        study = Study(queries=max(3 * scene.n, 30))
        made = train_surrogate(_classes(scene), scene.x, study, seed=scene.seed)
        twin = made.model
        said = f"PGD on a distilled twin ({made.agreement:.0%} of {made.held_out} rows agree)"
    attack = Transfer(
        (twin,), steps=20, diversity=0, kernel=0, copies=1, loss="margin", goal=Goal()
    )
    return _Found(10, name, scene.broken(attack, left), TWIN, said)


def _classes(scene: Scene) -> Classifier:
    """The view without the answer "rejected"."""
    return (lambda x: scene.view(x)[:, :-1]) if scene.guarded else scene.view


def _noise(scene: Scene, left: Tensor) -> _Found | Check:
    """Uniform points of the ball, many a row: no attack should do worse than chance. Rows whose
    best of the first tenth stays far short of a win are drawn no further: of exponential tails
    a hundred times as many draws would not get there."""
    name = "noise beats gradients"
    rows, count = left.nonzero()[: scene.effort.noise_rows, 0], scene.effort.noise
    found = torch.zeros(scene.n, dtype=torch.bool)
    if not len(rows):
        return _Found(11, name, found, 0.0, "noise")
    first = min(count, max(count // 10, 50))
    won, reached = _drawn(scene, rows, range(first))
    far = -reached.amax(1) > _FAR * reached.std(1, correction=0)
    found[rows[won]] = True
    rows = rows[~won & ~far]
    for step in range(first, count, first):
        won, _ = _drawn(scene, rows, range(step, min(step + first, count)))
        found[rows[won]] = True
        rows = rows[~won]
    said = f"noise, {count} draws a row ({first} where wins are far),"
    return _Found(11, name, found, 0.0, said)


def _drawn(scene: Scene, rows: Tensor, steps: range) -> tuple[Tensor, Tensor]:
    """(n,) bool: rows that a draw wins; (n, draws) the objective of each draw."""
    seed, reached = draws.derive(scene.seed, "noise"), torch.zeros(len(rows), len(steps))
    won = torch.zeros(len(rows), dtype=torch.bool)
    pairs = torch.cartesian_prod(torch.arange(len(rows)), torch.tensor(steps))
    for place, step in ((part[:, 0], part[:, 1]) for part in pairs.split(_TOGETHER)):
        at = rows[place]
        ids = step * scene.n + at
        points = scene.threat.take(at).random_point(scene.x[at], seed, ids, 0)
        values = scene.objective(points, scene.y[at])
        reached[place, step - steps[0]] = values
        wins = (values > 0).nonzero()[:, 0]
        if len(wins):
            won[place[wins[scene.won(points[wins], scene.y[at[wins]])]]] = True
    return won, reached


def _decisions(scene: Scene, left: Tensor) -> _Found | Check:
    name, queries = "decisions beat gradients", scene.effort.decision_queries
    if scene.threat.norm == "l1":
        return absent(12, name, OTHERS, "HopSkipJump knows L-infinity and L2 alone")
    if scene.random:
        return absent(12, name, OTHERS, "the model answers at random: its border is nowhere")
    some = torch.zeros_like(left)
    some[left.nonzero()[: scene.effort.decision_rows, 0]] = True
    rows = scene.broken(HopSkipJump(queries=queries, within=True), some)
    return _Found(12, name, rows, 0.0, f"HopSkipJump with {queries} queries")
