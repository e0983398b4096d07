"""The review queue over HTTP: what a reviewer does, each a call of the store's own function.

A reviewer is a key with the role review; one that also has operate is a senior reviewer.
"""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from fastapi import FastAPI, Request, Response

from buckler.errors import BucklerError, ConflictError, DataError, StoreDownError, UsageError
from buckler.ops.review import Policy
from buckler.serve import review_contract as contract
from buckler.serve.body import Intake
from buckler.serve.refusal import RefusedError, reply
from buckler.serve.review_export import Exporter
from buckler.serve.review_forms import Asked, First, Form, Lease, Next, Said, Since, body, filled
from buckler.serve.stored import Stored
from buckler.store import reviews
from buckler.store.decide import Decision, decide, undo
from buckler.store.listing import listing, outcome_of
from buckler.store.report import stats
from buckler.store.reviews import Review
from buckler.store.shared import read_policy

REVIEWS: Final = "/v1/reviews"
_ONE: Final = f"{REVIEWS}/{{review_id}}"
_ID: Final = re.compile("[0-9a-f]{32}")
_SAFE: Final = {"content-disposition": "attachment", "x-content-type-options": "nosniff"}
T = TypeVar("T")
F = TypeVar("F", bound=Form)
Handler = Callable[[Request], Awaitable[Response]]


def add_reviews(app: FastAPI, stored: Stored, intake: Intake) -> None:
    """The routes, each of them in access.ROUTES."""
    api = _Api(stored, intake, Exporter(stored.store))
    for method, path, handler, summary, said in (
        ("POST", f"{REVIEWS}/next", api.next, "Take the item to look at next", contract.NEXT),
        ("GET", REVIEWS, api.list, "Items, oldest first", contract.LIST),
        ("GET", f"{REVIEWS}/stats", api.stats, "How the queue stands", contract.STATS),
        ("GET", f"{REVIEWS}/export", api.export, "Decided items, as a zip", contract.EXPORT),
        ("GET", _ONE, api.get, "An item", contract.GET),
        ("GET", f"{_ONE}/input", api.input, "Its input, as it came", contract.INPUT),
        (
            "POST",
            f"{_ONE}/first",
            api.first,
            "Answer before the machine's is shown",
            contract.FIRST,
        ),
        ("POST", f"{_ONE}/renew", api.renew, "Hold it longer", contract.RENEW),
        ("POST", f"{_ONE}/release", api.release, "Let go of it", contract.RELEASE),
        ("POST", f"{_ONE}/decision", api.decide, "Say what it is", contract.DECIDE),
        ("POST", f"{_ONE}/undo", api.undo, "Take one's decision back", contract.UNDO),
        (
            "GET",
            "/v1/verdicts/{review_id}",
            api.outcome,
            "What became of an input of one's own",
            contract.OUTCOME,
        ),
    ):
        app.api_route(path, methods=[method], summary=summary, **said)(_named(path, handler))


def _named(path: str, handler: Handler) -> Handler:
    """Counted under its path's own name, whatever the id."""

    async def named(request: Request) -> Response:
        request.state.trace.route = path
        return await handler(request)

    return named


@dataclass(frozen=True)
class _Api:
    stored: Stored
    intake: Intake
    exporter: Exporter

    async def next(self, request: Request) -> Response:
        given = await self._form(request, Next)
        me, senior = _who(request)
        if given.senior and not senior:
            raise RefusedError(403, "escalated items need a key that also has the role operate")

        def claim() -> Review | None:
            return reviews.claim(
                self.stored.store,
                me,
                time.time(),
                self._policy(),
                senior=given.senior,
                secret=self.stored.secret,
            )

        found = await self._ask(claim)
        return Response(status_code=204) if found is None else reply(200, found)

    async def list(self, request: Request) -> Response:
        asked = filled(Asked, dict(request.query_params))
        found = await self._ask(
            lambda: listing(self.stored.store, time.time(), asked.state, asked.limit)
        )
        return reply(200, {"reviews": found})

    async def stats(self, request: Request) -> Response:
        return reply(200, await self._ask(lambda: stats(self.stored.store, time.time())))

    async def export(self, request: Request) -> Response:
        since = filled(Since, dict(request.query_params)).since
        return await self._told(self.exporter.zipped(_who(request)[0], since))

    async def get(self, request: Request) -> Response:
        return reply(200, await self._ask(lambda: self._found(request)))

    async def input(self, request: Request) -> Response:
        def read() -> tuple[bytes, str]:
            found = self._found(request)
            if found.blob is None:
                raise RefusedError(404, "the input of this item was removed")
            return self.stored.store.blobs.get(found.blob), found.media_type

        content, kind = await self._ask(read)
        return Response(content, 200, _SAFE, kind)

    async def first(self, request: Request) -> Response:
        given = await self._form(request, First)

        def keep() -> Review:
            name, me = self._found(request).id, _who(request)[0]
            now = time.time()
            found = reviews.first_answer(
                self.stored.store, name, given.lease_id, me, given.label, now
            )
            return _as_seen(found, me)

        return reply(200, await self._ask(keep))

    async def renew(self, request: Request) -> Response:
        given = await self._form(request, Lease)

        def renew() -> float:
            name, me = self._found(request).id, _who(request)[0]
            return reviews.renew(
                self.stored.store, name, given.lease_id, me, time.time(), self._policy()
            )

        return reply(200, {"lease_until": await self._ask(renew)})

    async def release(self, request: Request) -> Response:
        given = await self._form(request, Lease)

        def release() -> None:
            name, me = self._found(request).id, _who(request)[0]
            reviews.release(self.stored.store, name, given.lease_id, me)

        await self._ask(release)
        return Response(status_code=204)

    async def decide(self, request: Request) -> Response:
        given = await self._form(request, Said)
        me, senior = _who(request)

        def keep() -> object:
            decision = Decision(
                self._found(request).id,
                given.lease_id,
                me,
                given.version,
                given.kind,
                given.label,
                given.note,
                given.key,
                senior,
                given.whole_group,
            )
            return decide(self.stored.store, decision, time.time(), self._policy())

        return reply(200, await self._ask(keep))

    async def undo(self, request: Request) -> Response:
        def take_back() -> Review:
            name, me = self._found(request).id, _who(request)[0]
            return _as_seen(undo(self.stored.store, name, me, time.time(), self._policy()), me)

        return reply(200, await self._ask(take_back))

    async def outcome(self, request: Request) -> Response:
        name, me = _id(request), _who(request)[0]
        found = await self._ask(lambda: outcome_of(self.stored.store, name, me))
        if found is None:
            raise _unknown()
        return reply(200, found)

    def _policy(self) -> Policy:
        """As it is now: another gateway may have changed it."""
        return read_policy(self.stored.store)

    def _found(self, request: Request) -> Review:
        """The item of the path, as the caller may see it. Raises: RefusedError 404."""
        me = _who(request)[0]
        found = reviews.get(self.stored.store, _id(request), self._policy(), me)
        if found is None:
            raise _unknown()
        return _as_seen(found, me)

    async def _form(self, request: Request, form: type[F]) -> F:
        until = asyncio.get_running_loop().time() + self.stored.deadline_s
        async with self.intake.content(request, until) as content:
            return body(form, content)

    async def _ask(self, read: Callable[[], T]) -> T:
        return await self._told(self.stored.ask(read))

    async def _told(self, answer: Awaitable[T]) -> T:
        """What the store says no to, as a refusal."""
        try:
            return await answer
        except ConflictError as error:
            raise RefusedError(409, str(error), reason="conflict") from None
        except UsageError as error:
            raise RefusedError(400, str(error)) from None
        except (StoreDownError, DataError) as error:
            raise _not_now(error) from error


def _who(request: Request) -> tuple[str, bool]:
    """The reviewer's name, and whether escalated items are theirs to decide."""
    caller = request.state.caller
    return caller.id, "operate" in caller.roles


def _id(request: Request) -> str:
    """Raises: RefusedError 404 for what can be no id."""
    name = str(request.path_params["review_id"])
    if not _ID.fullmatch(name):
        raise _unknown()
    return name


def _as_seen(found: Review, me: str) -> Review:
    """Whoever knows a lease can end it: nobody sees another's."""
    return found if found.lease_by == me else replace(found, lease_id=None)


def _unknown() -> RefusedError:
    return RefusedError(404, "no input under review has this id")


def _not_now(error: BucklerError) -> RefusedError:
    return RefusedError(503, "the store cannot be used now: try again", 1, reason="store")
