"""GET /docs: the contract as a page, made here: no script, nothing from another host."""

import json
from importlib.resources import files
from typing import Any, Final

import jinja2
from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse

from buckler.look import stylesheet

DOCS: Final = "/docs"
STYLE: Final = "/docs/style.css"
_MAY_LOAD: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
}


def add_docs(app: FastAPI) -> None:
    """The page and its stylesheet; the contract does not list them."""
    made: list[str] = []

    @app.get(DOCS, include_in_schema=False)
    async def docs() -> HTMLResponse:
        if not made:
            made.append(page(app.openapi()))
        return HTMLResponse(made[0], headers=_MAY_LOAD)

    @app.get(STYLE, include_in_schema=False)
    async def style() -> Response:
        return Response(stylesheet() + _source("docs.css"), media_type="text/css")


def page(contract: dict[str, Any]) -> str:
    """The contract, an OpenAPI object, as HTML."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.ChainableUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    return environment.from_string(_source("docs.html")).render(contract=contract, style=STYLE)


def _source(name: str) -> str:
    return files("buckler.serve").joinpath("pages", name).read_text()
