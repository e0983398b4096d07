"""The client for programs that wait."""

import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2

from buckler.client import calls
from buckler.client.again import DEFAULT, Patience, turns
from buckler.client.inputs import Images, batches
from buckler.client.replies import MOST_BYTES, Broken, Reply, settle
from buckler.client.transport import (
    LIMITS,
    TOO_LARGE,
    TOO_LONG,
    broken,
    head_of,
    new_file,
    request_of,
)
from buckler.client.values import Answer, Decided, Outcome, Review

T = TypeVar("T")


class Client:
    """One gateway: `with Client("http://127.0.0.1:8080", key) as client: client.classify(x)`.

    A request is sent again where that is safe: after a broken connection, and after 429 and 503
    once Retry-After is over; under the same request id, so that no row is recorded twice.

    Args:
        key: sent as Authorization; never shown.
        model: the gateway's BUCKLER_MODEL.
        max_rows, max_bytes: of one request, the gateway's own limits; more is sent in several.
        patience: seconds of a call, and tries.

    Every method raises DataError for what is refused as an input, PolicyError for a key that may
    not, ConflictError if somebody was first, UsageError for what is not there, and GatewayError if
    there is no answer: each with the gateway's own sentence.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        model: str = "buckler",
        max_rows: int = 256,
        max_bytes: int = 4 * 1024 * 1024,
        patience: Patience = DEFAULT,
    ) -> None:
        self._url, self._model = calls.server(url), calls.model(model)
        self._max_rows, self._max_bytes, self._patience = max_rows, max_bytes, patience
        self._http = httpx2.Client(base_url=self._url, headers=calls.headers(key), limits=LIMITS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def live(self) -> bool:
        """Whether the process answers."""
        return self._well("/v2/health/live")

    def ready(self) -> bool:
        """Whether requests may be sent now."""
        return self._well("/v2/health/ready")

    def models(self) -> tuple[str, ...]:
        """The names under which bundles are served."""
        return self._ask(calls.models())

    def classify(self, images: Images) -> list[Answer]:
        """One answer an input, in order. SUSPICIOUS is an answer, not an error.

        Args:
            images: an image file or several (bytes or Path), or numbers (n, ...) in what the
                model takes, uint8 pixels too.
        """
        until = self._until()
        answers: list[Answer] = []
        for rows in batches(images, self._max_rows, self._max_bytes):
            found: list[Answer] = self._ask(calls.infer(self._model, rows), until)
            answers += found
        return answers

    def outcome(self, review_id: str) -> Outcome:
        """What became of an input of one's own that was SUSPICIOUS."""
        return self._ask(calls.outcome(review_id))

    def next_review(self, *, senior: bool = False) -> Review | None:
        """The item to look at next, leased to this key; None if there is none. Who holds one gets
        it again."""
        return self._ask(calls.next_review(senior))

    def review(self, review_id: str) -> Review:
        """An item as it is now."""
        return self._ask(calls.review(review_id))

    def review_input(self, review_id: str) -> bytes:
        """The input under review, as it came."""
        return self._ask(calls.review_input(review_id))

    def first_answer(self, item: Review, label: str) -> Review:
        """Keep one's own label before the machine's is shown; the first one stands."""
        return self._ask(calls.first_answer(item, label))

    def renew(self, item: Review) -> float:
        """Hold the item longer. Returns: when the lease ends, unix seconds."""
        return self._ask(calls.renew(item))

    def release(self, item: Review) -> None:
        """Let go of it unanswered."""
        self._ask(calls.release(item))

    def decide(
        self,
        item: Review,
        kind: str,
        *,
        label: str | None = None,
        note: str = "",
        key: str | None = None,
    ) -> Decided:
        """Say what the item is: accept, label, adversarial, corrupted or unsure.

        Args:
            label: the true class.
            key: the same decision under the same key is one; a new one if not given.
        """
        return self._ask(calls.decide(item, kind, label, note, key))

    def undo(self, item: Review) -> Review:
        """Take back one's own decision, while its lease would run."""
        return self._ask(calls.undo(item))

    def stats(self) -> dict[str, Any]:
        """The queue in numbers."""
        return self._ask(calls.stats())

    def export(self, path: Path, *, since: float = 0.0) -> Path:
        """Write what was decided since (unix seconds) to a new file; tried once. No byte may take
        longer than the deadline."""
        call = calls.export(since)
        request = request_of(call, self._patience.deadline_s)
        try:
            with self._http.stream(**request) as response:
                if response.is_success:
                    with new_file(path) as stream:
                        for chunk in response.iter_bytes():
                            stream.write(chunk)
                    return path
                reply: Reply | Broken = head_of(response, response.read())
        except httpx2.HTTPError as error:
            reply = broken(error)
        settle(reply, call.read, call.request_id, self._url)
        return path

    def _until(self) -> float:
        return time.monotonic() + self._patience.deadline_s

    def _well(self, path: str) -> bool:
        call = calls.health(path)
        reply = self._send(call, self._patience.deadline_s)
        if isinstance(reply, Broken) or reply.status == 503:
            return False
        return settle(reply, call.read, call.request_id, self._url)

    def _ask(self, call: calls.Call[T], until: float | None = None) -> T:
        """What `turns` says, done."""
        steps = turns(self._patience.tries, until or self._until(), call.twice)
        try:
            turn = next(steps)
            while True:
                time.sleep(turn.wait_s)
                turn = steps.send(self._send(call, turn.timeout_s))
        except StopIteration as done:
            outcome: Reply | Broken = done.value
        return settle(outcome, call.read, call.request_id, self._url)

    def _send(self, call: calls.Call[Any], timeout_s: float) -> Reply | Broken:
        """Once. httpx2 counts from byte to byte: the deadline is looked at after each chunk."""
        until, body = time.monotonic() + timeout_s, bytearray()
        try:
            with self._http.stream(**request_of(call, timeout_s)) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MOST_BYTES:
                        return TOO_LARGE
                    if time.monotonic() > until:
                        return TOO_LONG
                return head_of(response, body)
        except httpx2.HTTPError as error:
            return broken(error)
