"""What /openapi.json says of the routes; the routes themselves parse by hand."""

import math
from typing import Any

from buckler.inputs import InputSpec
from buckler.serve.columns import schema
from buckler.threats.features import FeatureSpec

_ERROR = {
    "type": "object",
    "properties": {"error": {"type": "string", "description": "one sentence for a person"}},
    "required": ["error"],
}
_NUMBER = {"type": "number", "minimum": 0, "maximum": 1}
_VERDICT = {
    "type": "object",
    "properties": {
        "prediction": {"type": "string"},
        "confidence": {**_NUMBER, "description": "only where scores are shown"},
        "anomaly_score": {**_NUMBER, "description": "only where scores are shown"},
        "status": {"enum": ["ACCEPTED", "SUSPICIOUS"]},
        "reasons": {
            "type": "array",
            "items": {"type": "string"},
            "description": "only where scores are shown",
        },
        "bundle": {"type": "string", "description": "digest of the bundle that judged"},
        "review_id": {"type": "string", "description": "empty where nobody reviews the input"},
        "radius": {
            "type": "number",
            "exclusiveMinimum": 0,
            "description": "only of a bundle that answers smoothed, where the answer is certified: "
            "no input within this L2 distance (input units) is answered otherwise",
        },
    },
    "required": ["prediction", "status", "bundle", "review_id"],
}
_ANSWER = {
    "type": "object",
    "properties": {
        "verdicts": {"type": "array", "items": _VERDICT, "description": "one an input, in order"},
        "bundle": {"type": "string"},
        "request_id": {"type": "string"},
    },
    "required": ["verdicts", "bundle", "request_id"],
}
_REFUSALS = {
    400: "an input that the model cannot take",
    401: "no key, or one that does not count",
    403: "the key has not the role that this needs",
    404: "no such thing",
    409: "somebody was first, or the lease ended: read again",
    408: "the body came too slowly",
    413: "the body is too large",
    415: "the body is of no kind that can be an input",
    429: "too much at once; Retry-After says when to come again",
    500: "the gateway or its guard failed; nothing was accepted",
    503: "starting, stopping or broken, or the store cannot be used",
    504: "no answer before the deadline",
}


INPUT_REFUSED = (400, 408, 413, 415, 429, 500, 503, 504)
"""The refusals of a route that takes inputs."""


def request_body(
    spec: InputSpec, max_rows: int, table: FeatureSpec | None = None
) -> dict[str, Any]:
    """The bodies POST /v1/classify takes, as an OpenAPI requestBody."""
    if spec.text:
        return _text_body(spec, max_rows)
    low, high = spec.box
    numbers = {"type": "number", "minimum": low, "maximum": high}
    count = math.prod(spec.shape)
    flat = {"type": "array", "items": numbers, "minItems": count, "maxItems": count}
    nested = {"type": "array", "items": {"type": "array"}, "description": f"shape {spec.shape}"}
    row: dict[str, Any] = flat if len(spec.shape) == 1 else {"anyOf": [flat, nested]}
    if table is not None:
        row = {"anyOf": [row, schema(table)]}
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": max_rows}
    content: dict[str, Any] = {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {"rows": rows},
                "required": ["rows"],
                "additionalProperties": False,
            }
        }
    }
    if spec.is_image:
        file = {"type": "string", "format": "binary"}
        content["image/*"] = {"schema": file}
        content["multipart/form-data"] = {
            "schema": {"type": "object", "additionalProperties": file, "minProperties": 1}
        }
    return {"requestBody": {"required": True, "content": content}}


def _text_body(spec: InputSpec, max_rows: int) -> dict[str, Any]:
    text = {"type": "string", "minLength": 1, "maxLength": spec.shape[0]}
    texts = {"type": "array", "items": text, "minItems": 1, "maxItems": max_rows}
    value = {
        "type": "object",
        "properties": {"texts": texts},
        "required": ["texts"],
        "additionalProperties": False,
    }
    content = {"application/json": {"schema": value}, "text/plain": {"schema": text}}
    return {"requestBody": {"required": True, "content": content}}


def responses() -> dict[int | str, dict[str, Any]]:
    """The answers of POST /v1/classify. SUSPICIOUS is an answer, not an error: 200."""
    verdicts = answer("a verdict for each input, ACCEPTED or SUSPICIOUS", _ANSWER)
    return {200: verdicts, **refusals(*INPUT_REFUSED)}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The answers that are one sentence."""
    return {status: answer(_REFUSALS[status], _ERROR) for status in statuses}


def answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A response in JSON."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}
