"""What /openapi.json says of the V2 routes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from buckler import wire
from buckler.inputs import InputSpec
from buckler.serve.contract import INPUT_REFUSED, answer, refusals
from buckler.serve.tensor import INPUT
from buckler.threats.features import FeatureSpec

Json = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]

_TEXT: Json = {"type": "string"}
_FLAG: Json = {"type": "boolean"}
_PARAMETERS: Json = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number", "boolean"]},
}
_SHAPE: Json = {"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": 32}
_TENSOR: Json = {
    "type": "object",
    "properties": {
        "name": _TEXT,
        "shape": _SHAPE,
        "datatype": {"enum": list(wire.DATATYPES)},
        "parameters": _PARAMETERS,
        "data": {"type": "array", "description": "flat, or nested as the shape says"},
    },
    "required": ["name", "shape", "datatype"],
}
_INFERRED: Json = {
    "type": "object",
    "properties": {
        "model_name": _TEXT,
        "model_version": _TEXT,
        "id": _TEXT,
        "parameters": _PARAMETERS,
        "outputs": {"type": "array", "items": _TENSOR, "minItems": 1},
    },
    "required": ["model_name", "model_version", "parameters", "outputs"],
}
_PORT: Json = {
    "type": "object",
    "properties": {
        "name": _TEXT,
        "datatype": {"enum": list(wire.DATATYPES)},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": -1}},
    },
    "required": ["name", "datatype", "shape"],
}
_LENGTH: Json = {
    "name": wire.HEADER_LENGTH,
    "in": "header",
    "description": "bytes of JSON before the binary tensors; 0: the body is the one tensor; "
    "not sent: all is JSON",
    "schema": {"type": "integer", "minimum": 0},
}


def live() -> Responses:
    return _answers("the process answers", _object(live=_FLAG))


def ready() -> Responses:
    """Of the server, and of the model."""
    why = _object(live=_FLAG, ready=_FLAG, error=_TEXT)
    return {
        **_answers("requests may be sent", _object(live=_FLAG, ready=_FLAG)),
        503: answer("starting, stopping or broken", why),
    }


@dataclass(frozen=True)
class Contract:
    """Of a bundle that takes such inputs; names: what may stand in the path's parameters."""

    spec: InputSpec
    max_rows: int
    names: dict[str, list[str]]
    table: FeatureSpec | None = None

    def server(self) -> Responses:
        extensions = {"type": "array", "items": _TEXT}
        return _answers("the server", _object(name=_TEXT, version=_TEXT, extensions=extensions))

    def models(self) -> Responses:
        return _answers("the models", _object(models={"type": "array", "items": _TEXT}))

    def model(self) -> Responses:
        ports = {"type": "array", "items": _PORT}
        found = _object(
            name=_TEXT,
            versions={"type": "array", "items": _TEXT},
            platform=_TEXT,
            inputs=ports,
            outputs=ports,
            properties={"type": "object", "additionalProperties": _TEXT},
        )
        return {**_answers("the model", found), **refusals(404)}

    def ready(self) -> Responses:
        found = _object(name=_TEXT, ready=_FLAG)
        return {
            **_answers("it judges", found),
            **refusals(404),
            503: answer("starting, stopping or broken", {**found, **_object(error=_TEXT)}),
        }

    def infer(self) -> Responses:
        """SUSPICIOUS is an answer, not an error: 200."""
        found = answer("a value a row in each output", _INFERRED)
        found["content"]["application/octet-stream"] = {
            "schema": {"type": "string", "format": "binary"}
        }
        return {200: found, **refusals(404, *INPUT_REFUSED)}

    def path(self, path: str) -> Json:
        """The parameters of a path."""
        return {"parameters": self._of_path(path)}

    def _of_path(self, path: str) -> list[Json]:
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        return [
            {"name": n, "in": "path", "required": True, "schema": {"enum": self.names[n]}}
            for n in names
        ]

    def request(self, path: str) -> Json:
        """The parameters and bodies of POST .../infer."""
        image = " or image files, datatype BYTES, shape [n]" if self.spec.is_image else ""
        shape = ", ".join(map(str, self.spec.shape))
        what = f"numbers, shape [n, {shape}],{image}"
        if self.spec.text:
            what = "texts, datatype BYTES, shape [n]"
        columns = () if self.table is None else self.table.names
        named = f"; or one input a column: {', '.join(columns)}" if columns else ""
        inputs: Json = {
            "type": "array",
            "items": {
                **_TENSOR,
                "properties": {**_TENSOR["properties"], "name": {"enum": [INPUT, *columns]}},
            },
            "minItems": 1,
            "maxItems": max(1, len(columns)),
            "description": f'one tensor, "{INPUT}": {what}; n up to {self.max_rows}{named}',
        }
        output = {**_object(name=_TEXT, parameters=_PARAMETERS), "required": ["name"]}
        body = _object(
            id=_TEXT,
            parameters=_PARAMETERS,
            inputs=inputs,
            outputs={"type": "array", "items": output},
        )
        return {
            "parameters": [*self._of_path(path), _LENGTH],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {**body, "required": ["inputs"]},
                        "example": self._example(),
                    },
                    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
                },
            },
        }

    def _example(self) -> Json:
        """One row that is accepted as it stands: for an image a file, since it is shorter."""
        if self.spec.text:
            return wire.infer_request({INPUT: np.array(["a text"], object)}).head
        row = torch.full((1, *self.spec.shape), sum(self.spec.box) / 2)
        if not self.spec.is_image:
            return wire.infer_request({INPUT: row.numpy()}).head
        return wire.infer_request({INPUT: np.array([self.spec.encode(row[0])], object)}).head


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _answers(description: str, schema: Json) -> Responses:
    return {200: answer(description, schema), **refusals(500)}
