"""Before an answer leaves: its SUSPICIOUS rows are on the disk, with their inputs.

The rest is off the path: one event a request, and a random share of the ACCEPTED rows, so that what
people find says something of those, too.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final

from buckler.errors import StoreDownError
from buckler.ops.flood import fingerprint
from buckler.ops.sampling import is_sampled
from buckler.serve.body import QUICK
from buckler.serve.inputs import Inputs
from buckler.serve.judged import Judged
from buckler.serve.refusal import cannot_keep, late
from buckler.store.recorder import Event, Item, Recorder
from buckler.text.fold import letters

_LEAST_RISK: Final = 0.01
"""Of a row: at 0 it would never come up, however old."""


@dataclass(frozen=True, eq=False)
class Keeper:
    """What a gateway with a store does with what it judged.

    Args:
        share: of the ACCEPTED rows that people review all the same.
        secret: decides which; a caller who knew it could choose.
    """

    recorder: Recorder
    share: float
    secret: bytes = field(repr=False)

    async def keep(
        self, request_id: str, key_id: str, inputs: Inputs, judged: Judged, until: float
    ) -> Judged:
        """The answer with the review ids of its SUSPICIOUS rows, which are on the disk.

        Raises: RefusedError 503 if they could not be kept and must be; 504 at the loop's time
            `until`.
        """
        rows = [row for row, v in enumerate(judged.verdicts) if v.status == "SUSPICIOUS"]
        accepted = len(judged) - len(rows)

        def items(rows: Sequence[int], *, sampled: bool) -> list[Item]:
            return [_item(request_id, key_id, row, inputs, judged, sampled) for row in rows]

        if rows:
            nbytes = inputs.file_bytes or len(rows) * inputs.x[0].nbytes
            found = await self._durable(lambda: items(rows, sampled=False), nbytes, until)
            ids = dict(zip(rows, found, strict=True))
            judged = replace(
                judged, review_ids=tuple(ids.get(row, "") for row in range(len(judged)))
            )
        drawn = self._drawn(request_id, key_id, set(range(len(judged))) - set(rows))
        for item in items(drawn, sampled=True):
            self.recorder.record(item)
        self.recorder.record(Event("request", request_id, key_id, accepted, len(rows)))
        return judged

    async def _durable(
        self, items: Callable[[], list[Item]], nbytes: int, until: float
    ) -> tuple[str, ...]:
        try:
            async with asyncio.timeout_at(until):
                # To look at many bytes takes long: the answers to others do not wait for it.
                made = await asyncio.to_thread(items) if nbytes > QUICK else items()
                return await self.recorder.suspicious(made)
        except TimeoutError:
            raise late() from None
        except StoreDownError as error:
            raise cannot_keep(error) from error

    def _drawn(self, request_id: str, key_id: str, accepted: set[int]) -> list[int]:
        if not self.share:
            return []
        return [
            row
            for row in sorted(accepted)
            if is_sampled(self.secret, key_id, request_id, row, self.share)
        ]


def _fingerprint(inputs: Inputs, row: int) -> str:
    """Of a text: the hash of its words' keys, so that it is the same however it is disguised."""
    if not inputs.text:
        return fingerprint(inputs.x[row].numpy())
    return sha256(letters(inputs.words(row)).encode()).hexdigest()[:16]


def _item(
    request_id: str, key_id: str, row: int, inputs: Inputs, judged: Judged, sampled: bool
) -> Item:
    content, media_type = inputs.content(row)
    verdict = judged.verdicts[row]
    return Item(
        request_id=request_id,
        row=row,
        key_id=key_id,
        content=content,
        media_type=media_type,
        verdict=verdict.to_dict(),
        risk=max(_LEAST_RISK, verdict.anomaly_score),
        fingerprint=_fingerprint(inputs, row),
        sampled=sampled,
    )
