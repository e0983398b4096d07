"""Rows and stores for the tests."""

from buckler.ops.review import Policy
from buckler.store.engine import Store
from buckler.store.intake import Item, arrival, insert_arrivals


def item(number=0, *, key_id="key", risk=0.5, content=None, fingerprint="", **more) -> Item:
    verdict = {
        "prediction": "cat",
        "confidence": 0.6,
        "anomaly_score": 0.99,
        "status": "ACCEPTED" if more.get("sampled") else "SUSPICIOUS",
        "reasons": ["confidence"],
        "bundle": "b" * 64,
    }
    return Item(
        request_id=more.pop("request_id", f"request-{number}"),
        row=more.pop("row", 0),
        key_id=key_id,
        content=content if content is not None else f"input {number}".encode(),
        media_type=more.pop("media_type", "image/png"),
        verdict=more.pop("verdict", verdict),
        risk=risk,
        fingerprint=fingerprint,
        **more,
    )


def add(store: Store, *items: Item, now: float = 0.0, policy: Policy | None = None) -> list[str]:
    """Keep the items as the recorder does; their review ids."""
    policy = policy or Policy()
    arrivals = [arrival(each, now, policy) for each in items]
    for each in arrivals:
        store.blobs.put(each.content)
    with store.write() as connection:
        insert_arrivals(connection, arrivals, now, policy)
    return [each.id for each in arrivals]
