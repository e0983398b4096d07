"""buckler serve: verdicts over HTTP."""

from pathlib import Path
from typing import Annotated

import typer

from buckler.cli import show


def serve(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder.")],
    host: Annotated[str | None, typer.Option(help="Other than loopback needs --keys.")] = None,
    port: Annotated[int | None, typer.Option(help="0: any free one; default 8080.")] = None,
    keys: Annotated[Path | None, typer.Option(help="A file by buckler key new.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default 1.")] = None,
    store: Annotated[
        str | None, typer.Option(help="sqlite:///FOLDER/store.db, or a URL; needs keys.")
    ] = None,
    inputs: Annotated[
        str | None, typer.Option(help="Where inputs are kept, if not beside the store.")
    ] = None,
    digest: Annotated[str | None, typer.Option(help="Refuse any other bundle.")] = None,
    factory: Annotated[
        list[str] | None, typer.Option(help="module:function that may build a member.")
    ] = None,
) -> None:
    """Serve the bundle: POST /v1/classify, the V2 protocol at /v2, /metrics; all of it at /docs.

    What is not given here is read from the environment: BUCKLER_PORT, BUCKLER_DIGEST, ...
    """
    from buckler.serve import Settings
    from buckler.serve import serve as run_gateway

    settings = Settings.read(
        host=host,
        port=port,
        keys_file=keys,
        workers=workers,
        store=store,
        inputs=inputs,
        digest=digest,
        factories=tuple(factory) if factory else None,
    )
    run_gateway(bundle, settings, on_ready=lambda url: show.line(f"serving {bundle} at {url}"))
