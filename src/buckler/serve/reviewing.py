"""What stands behind the pages of the queue: read the store, look, decide."""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from buckler.errors import BucklerError, ConflictError, StoreDownError, UsageError
from buckler.guard import Guard
from buckler.ops.review import Policy
from buckler.serve import screen
from buckler.serve.door import Form
from buckler.serve.inputs import TEXT
from buckler.serve.looker import Look, Looker
from buckler.serve.refusal import RefusedError, reply
from buckler.store.board import behind, board
from buckler.store.decide import Decision, decide, undo
from buckler.store.engine import Store
from buckler.store.report import stats
from buckler.store.reviews import Review, claim, first_answer, get, release, renew
from buckler.store.shared import read_policy
from buckler.store.users import User

T = TypeVar("T")
_ID: Final = re.compile("[0-9a-f]{1,64}")
_NONE: Final = "there is no such item: it may be erased"
_ALIKE: Final = 12
_LONGEST_NOTE: Final = 4000
_ENDINGS: Final = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", TEXT: "txt"}


@dataclass(frozen=True)
class Visit:
    """A request of someone who may review; form: of a POST, whose token was right."""

    request: Request
    user: User
    form: Form
    now: float

    @property
    def review_id(self) -> str:
        """Raises: RefusedError 404 for what cannot be one."""
        given = str(self.request.path_params["review_id"])
        if not _ID.fullmatch(given):
            raise RefusedError(404, _NONE)
        return given


@dataclass(frozen=True)
class Page:
    """A template of ours and what it shows; headers: in place of every page's own."""

    template: str
    facts: Mapping[str, Any]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Response | Page


@dataclass(frozen=True)
class Reviewing:
    """The handlers of the pages.

    Args:
        known: decides which turns bring an item whose answer is known.
    """

    guard: Guard
    store: Store
    looker: Looker
    known: bytes

    async def queue(self, visit: Visit) -> Answer:
        """What waits, why, who holds it, how good machine and reviewers are."""

        def read() -> dict[str, Any]:
            policy = read_policy(self.store)
            found, seen = stats(self.store, visit.now), board(self.store, visit.now)
            return {"stats": found, "board": seen, "policy": policy}

        facts = await asyncio.to_thread(read)
        return Page(
            "queue.html",
            {**facts, "now": visit.now, "span": screen.span, "percent": screen.percent},
        )

    async def next(self, visit: Visit) -> Answer:
        """Take the next item, or keep the one that is held."""
        after = visit.request.query_params.get("after", "")

        def take() -> tuple[Policy, Review | None, Review | None]:
            policy, user = read_policy(self.store), visit.user
            item = claim(
                self.store, user.name, visit.now, policy, senior=user.senior, secret=self.known
            )
            there = _ID.fullmatch(after)
            before = get(self.store, after, policy, user.name) if there else None
            return policy, item, before

        policy, item, before = await asyncio.to_thread(take)
        done = None
        if before is not None and (said := screen.standing(before, visit.user.name)):
            done = {"id": before.id, **said}
        if item is None:
            return Page("empty.html", {"done": done})
        return await self._show(visit, policy, item, done)

    async def one(self, visit: Visit) -> Answer:
        """One item: to be decided by who holds it, to be read by all others."""
        policy, item = await self._item(visit)
        return await self._show(visit, policy, item, None)

    async def original(self, visit: Visit) -> Answer:
        """The input as it arrived, to be saved: never shown by the browser."""
        _, item = await self._item(visit)
        content = await asyncio.to_thread(self.store.blobs.get, _blob(item))
        name = f"{item.id}.{_ENDINGS.get(item.media_type, 'bin')}"
        attached = {"content-disposition": f'attachment; filename="{quote(name)}"'}
        return Response(content, headers=attached, media_type="application/octet-stream")

    async def picture(self, visit: Visit) -> Answer:
        """Number 0: the input; from 1: what the guard also sees."""
        return await self._png(
            visit, lambda look, n: look.views[n - 1].picture if n else look.picture
        )

    async def difference(self, visit: Visit) -> Answer:
        """From 1: what that view changed, tenfold."""
        return await self._png(visit, lambda look, n: look.views[n - 1].difference if n else None)

    async def first(self, visit: Visit) -> Answer:
        """In a blind queue: the reviewer's own label; then the page shows the machine's."""
        label, lease = visit.form.get("label", "").strip(), visit.form.get("lease_id", "")
        _, item = await self._item(visit)
        if label != screen.CANNOT_TELL:
            self._check_label(item, label)
        await asyncio.to_thread(
            first_answer, self.store, item.id, lease, visit.user.name, label, visit.now
        )
        return RedirectResponse(f"/review/{item.id}", 303)

    async def decide(self, visit: Visit) -> Answer:
        """Keep the decision, and go on to the next item."""
        form, kind = visit.form, visit.form.get("kind", "")
        policy, item = await self._item(visit)
        label = form.get("label", "").strip() or None
        if kind in ("accept", "corrupted", "unsure"):
            label = None  # a class that was chosen on the way to another answer
        if label is not None:
            self._check_label(item, label)
        version, note = form.get("version", ""), form.get("note", "").strip()
        if not version.isascii() or not version.isdecimal() or len(version) > 9:
            raise UsageError("this form is not whole: reload the page")
        if len(note) > _LONGEST_NOTE:
            raise UsageError(f"a note may have {_LONGEST_NOTE} characters. Got {len(note)}")
        made = Decision(
            item.id,
            form.get("lease_id", ""),
            visit.user.name,
            int(version),
            kind,
            label,
            note,
            senior=visit.user.senior,
            whole_group=form.get("group") == "yes",
        )
        try:
            await asyncio.to_thread(decide, self.store, made, visit.now, policy)
        except ConflictError:
            if said := screen.standing(item, visit.user.name):
                what = f"{said['said']} {said['label'] or ''}".strip()
                raise ConflictError(f"you decided this item before: you {what}") from None
            raise
        return RedirectResponse(f"/review?after={item.id}", 303)

    async def renew(self, visit: Visit) -> Answer:
        """For the script: the seconds until the lease ends now. Without it: the page again."""

        def keep() -> float:
            lease, policy = visit.form.get("lease_id", ""), read_policy(self.store)
            return renew(self.store, visit.review_id, lease, visit.user.name, visit.now, policy)

        until = await asyncio.to_thread(keep)
        if visit.request.headers.get("accept") == "application/json":
            return reply(200, {"seconds": until - visit.now})
        return RedirectResponse(f"/review/{visit.review_id}", 303)

    async def release(self, visit: Visit) -> Answer:
        """Put it back undecided."""
        lease = visit.form.get("lease_id", "")
        await asyncio.to_thread(release, self.store, visit.review_id, lease, visit.user.name)
        return RedirectResponse("/queue", 303)

    async def undo(self, visit: Visit) -> Answer:
        """Take one's own decision back, and look at the item again."""
        policy, item = await self._item(visit)
        await asyncio.to_thread(undo, self.store, item.id, visit.user.name, visit.now, policy)
        return RedirectResponse(f"/review/{item.id}", 303)

    async def _item(self, visit: Visit) -> tuple[Policy, Review]:
        """Raises: RefusedError 404 if there is none of that id."""

        def read() -> tuple[Policy, Review | None]:
            policy = read_policy(self.store)
            return policy, get(self.store, visit.review_id, policy, visit.user.name)

        policy, item = await asyncio.to_thread(read)
        if item is None:
            raise RefusedError(404, _NONE)
        return policy, item

    async def _show(
        self, visit: Visit, policy: Policy, item: Review, done: Mapping[str, Any] | None
    ) -> Page:
        mine = screen.open_to(item, visit.user.name, visit.now)
        blind, own = screen.hidden(item), item.bundle == self.guard.digest
        look, why = await self._look(visit, item, own and not blind)
        names = self.guard.spec.class_names if own else ()
        alike = () if blind else await asyncio.to_thread(behind, self.store, item.id, _ALIKE)
        facts: dict[str, Any] = {
            "item": item,
            "mine": mine,
            "blind": blind,
            "done": done,
            "own": own,
            "serving": self.guard.digest,
            "look": look,
            "why": why,
            "names": names,
            "choices": screen.choices(names),
            "verdict": screen.verdict(item.verdict),
            "bars": screen.bars(names, look.probabilities) if look and look.probabilities else (),
            "history": screen.history(item, visit.now),
            "undoable": screen.standing(item, visit.user.name),
            "alike": alike,
            "seconds": max(0, int((item.lease_until or 0) - visit.now)),
            "age": screen.span(visit.now - item.created),
            "due": item.due - visit.now,
            "cannot_tell": screen.CANNOT_TELL,
            "span": screen.span,
            "percent": screen.percent,
        }
        if look is not None:
            facts["size"] = screen.shown_size(look)
            facts["numbers"] = screen.numbers(look.values)
        return Page("review.html", facts)

    async def _look(self, visit: Visit, item: Review, judged: bool) -> tuple[Look | None, str]:
        """The look, or a sentence why there is none: the item can be decided all the same."""
        if item.blob is None:
            return None, "this input was removed, as its retention says"
        try:
            return await self.looker.look(item.blob, item.media_type, judged), ""
        except TimeoutError:
            return None, "the guard did not look at this input in time: reload the page"
        except StoreDownError:
            raise
        except BucklerError as error:
            return None, str(error)
        except Exception as error:  # the guard may raise anything
            visit.request.state.trace.failure = error
            return None, "the guard could not look at this input: the log has the reason"

    async def _png(self, visit: Visit, part: Callable[[Look, int], bytes | None]) -> Answer:
        _, item = await self._item(visit)
        number = str(visit.request.path_params["number"])
        wanted = int(number) if number.isascii() and number.isdecimal() and len(number) < 4 else -1
        judged = item.bundle == self.guard.digest and not screen.hidden(item)
        look = await self.looker.look(_blob(item), item.media_type, judged)
        if not 0 <= wanted <= len(look.views) or (png := part(look, wanted)) is None:
            raise RefusedError(404, "there is no such picture of this item")
        return Response(png, media_type="image/png")

    def _check_label(self, item: Review, label: str) -> None:
        """Raises: UsageError for what is no class of the guard that judged the item."""
        names = self.guard.spec.class_names
        if not label:
            raise UsageError("choose a class first")
        if item.bundle == self.guard.digest and label not in names:
            raise UsageError(f"there is no class {label[:80]!r}: choose one of the list")


def _blob(item: Review) -> str:
    if item.blob is None:
        raise RefusedError(404, "this input was removed, as its retention says")
    return item.blob
