"""A gateway in a rollout: it goes by the store's pointer, tells what it sees, and, as long as it
holds the lease, takes the steps for all."""

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from buckler.errors import BucklerError
from buckler.guard import Guard
from buckler.ops.arms import salt
from buckler.ops.evidence import Observations, Policy, Report, merge
from buckler.serve.arms import Arms, Beside, Served
from buckler.serve.candidate import load_candidate
from buckler.serve.golden import read_golden
from buckler.serve.judged import Judged
from buckler.serve.observe import Log
from buckler.serve.runner import Runner
from buckler.serve.settings import Settings
from buckler.serve.shadow import Probes, Shadow
from buckler.serve.tally import Tally
from buckler.store import leases, rollouts
from buckler.store.engine import Store, open_store
from buckler.store.live import Live, read_live, tell_live

_LEASE: Final = "rollout"
_LEASE_S: Final = 10.0
_GONE_S: Final = 15.0

MakeRunner = Callable[[Guard], Runner[Judged]]


class Heartbeats:
    """Which gateways live, by this process's own clock: a beat that moved is a sign of life."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: dict[str, tuple[int, float]] = {}

    def observe(self, reported: Sequence[rollouts.Reported]) -> Observations:
        """What all of them have seen. Who ended without a word, with the candidate loaded, is
        crashed; what it saw still counts."""
        alive: list[Report] = []
        ended: list[Report] = []
        now, crashed = self._clock(), 0
        for each in reported:
            beat, at = self._last.get(each.gateway, (-1, now))
            if beat != each.beat:
                beat, at = self._last[each.gateway] = each.beat, now
            gone = now - at > _GONE_S
            (ended if each.closed or gone else alive).append(each.report)
            crashed += gone and not each.closed and each.report.loaded
        return merge(alive, ended, crashed)


class Rolling:
    """The thread that does it.

    Args:
        path: the folder of the stable bundle; None: it has none, and stays what it is.
        make: a runner for a guard.
        every_s: seconds between two looks at the pointer: what a rollback takes to arrive.
        step_s: seconds between two reports, and steps.
        clock: unix seconds.
    """

    def __init__(
        self,
        store: Store,
        arms: Arms,
        path: Path | None,
        make: MakeRunner,
        settings: Settings,
        log: Log | None = None,
        *,
        every_s: float = 0.25,
        step_s: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._arms, self._path = store, arms, path
        self._make, self._settings, self._log = make, settings, log
        self._every_s, self._step_s, self._clock = every_s, step_s, clock
        self.gateway = secrets.token_hex(8)
        self._beats = Heartbeats()
        self._beat = 0
        self._kept: rollouts.Kept | None = None
        self._refused = ""
        self._probes: Probes | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._stepped = float("-inf")
        self._tried = -1

    def start(self) -> None:
        """Look once: the first request is answered by who should. Raises: StoreDownError."""
        stable = self._arms.stable
        tell_live(self._store, stable.digest, str(self._path or ""), self._clock())
        self.round()
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="buckler-rollout", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5.0)
        self._end_probes()
        with contextlib.suppress(BucklerError):
            if self._kept is not None:
                self._report(closed=True)
            leases.give(self._store, _LEASE, self.gateway, self._clock())

    def round(self) -> None:
        """Go by the pointer; now and then report and step. Raises: StoreDownError, DataError."""
        live = read_live(self._store)
        if live is None:
            return
        self._follow(live)
        self._arms.looked()
        if live.rollout_id is not None and time.monotonic() - self._stepped >= self._step_s:
            self._stepped = time.monotonic()
            self._report()
            now = self._clock()
            if leases.take(self._store, _LEASE, self.gateway, now, _LEASE_S) is not None:
                rollouts.step(self._store, live.rollout_id, self._beats.observe, now)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.round()
            except Exception as error:  # whatever it was, the next round may go well
                self._say({"event": "rollout", "exc_info": error})

    def _follow(self, live: Live) -> None:
        """Serve what the pointer says. What cannot be loaded is said in the next report."""
        if live.epoch and live.digest != self._arms.stable.digest:
            self._catch_up(live)
        else:
            self._arms.behind = False
        if live.rollout_id is None or live.rollout_id != (self._kept and self._kept.id):
            self._forget()
            if live.rollout_id is not None:
                self._kept = rollouts.find(self._store, live.rollout_id)
        beside = self._arms.beside
        if live.candidate_digest is not None and beside is None and not self._refused:
            self._load(live)
        self._arms.weigh(live.weight)

    def _catch_up(self, live: Live) -> None:
        """Another bundle is live. If it cannot be loaded, nobody should send requests here; it is
        tried again when the pointer changes."""
        if self._arms.behind and self._tried == live.epoch:
            return
        self._tried = live.epoch
        try:
            self._replace(live)
        except Exception as error:
            self._arms.behind = True
            self._say({"event": "rollout", "not_loaded": live.digest, "exc_info": error})

    def _replace(self, live: Live) -> None:
        """Another bundle is the stable one now: the candidate, where it runs here already."""
        beside = self._arms.beside
        if beside is not None and beside.served.digest == live.digest:
            served = beside.served
        else:
            path, now, spec = Path(live.path), self._clock(), self._arms.stable.guard.spec
            guard = load_candidate(path, live.digest, spec, self._settings, now, None)
            served = Served(guard, self._make(guard))
        self._end_probes()
        self._arms.promote(served)
        self._path = Path(live.path)
        self._say({"event": "rollout", "live": live.digest})

    def _load(self, live: Live) -> None:
        """The candidate beside the stable bundle, warmed up."""
        assert self._kept is not None
        assert live.candidate_digest is not None
        assert live.candidate_path is not None
        policy, path = self._kept.policy, Path(live.candidate_path)
        try:
            guard = load_candidate(
                path,
                live.candidate_digest,
                self._arms.stable.guard.spec,
                self._settings,
                self._clock(),
                policy.ruling_days,
            )
            golden = read_golden(self._path, path, guard.spec)
            if policy.min_golden and not golden:
                raise BucklerError(f"neither it nor the live bundle has golden rows in {path}")
        except Exception as error:
            self._refused = str(error)[:500] or type(error).__name__
            self._say({"event": "rollout", "refused": self._refused, "exc_info": error})
            return
        lots = salt(rollouts.lots(self._store, self._clock()), live.digest, live.candidate_digest)
        beside = Beside(Served(guard, self._make(guard)), Tally(policy), lots)
        self._arms.put_beside(beside)
        if golden:
            self._probes = Probes(self._arms, beside, golden, policy.probes_per_s)
            self._probes.start()

    def _report(self, *, closed: bool = False) -> None:
        assert self._kept is not None
        beside = self._arms.beside
        tally = Tally(Policy()) if beside is None else beside.tally
        seen = tally.report(loaded=beside is not None, refused=self._refused)
        self._beat += 1
        rollouts.report(self._store, self._kept.id, self.gateway, self._beat, seen, closed=closed)

    def _forget(self) -> None:
        """The rollout is over, or another one began."""
        if self._arms.beside is not None:
            self._end_probes()
            self._arms.clear()
        self._kept, self._refused = None, ""

    def _end_probes(self) -> None:
        if self._probes is not None:
            self._probes.stop()
            self._probes = None

    def _say(self, event: dict[str, object]) -> None:
        if self._log is not None:
            self._log(event)


def follow(
    store: Store,
    arms: Arms,
    path: Path | None,
    make: MakeRunner,
    settings: Settings,
    log: Log | None,
) -> Shadow:
    """Have these arms go by the store's pointer, from their start to their stop.

    Returns: who scores pairs of what was answered.
    """
    arms.rolling = Rolling(store, arms, path, make, settings, log)
    return Shadow(arms)


def live_bundle(path: Path, settings: Settings) -> Path:
    """The folder to serve: the one that is live by the store, once a rollout has been there; else
    the one that was given. Raises: StoreDownError, UsageError."""
    if settings.store is None:
        return path
    store = open_store(settings.store.get_secret_value(), settings.inputs)
    try:
        live = read_live(store)
    finally:
        store.close()
    return Path(live.path) if live is not None and live.epoch and live.path else path
