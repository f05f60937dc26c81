"""``ebb serve``."""

from __future__ import annotations

from typing import Annotated

import typer

from ebbtide.cli.arguments import AsJson, BundleFolder, Quiet, Trusted
from ebbtide.cli.surface import speaking


def serve(
    bundle: BundleFolder,
    host: Annotated[
        str, typer.Option("--host", help="Where to listen; the default is this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 for any that is free.")] = 8017,
    trusted: Trusted = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run what a bundle leaves to a server, for devices that hold the same bundle. Ends with Ctrl-C."""
    with speaking(as_json=as_json, quiet=quiet) as surface:
        from ebbtide import api
        from ebbtide.cli import tables

        api.serve(
            bundle,
            host=host,
            port=port,
            trusted=trusted,
            ready=lambda facts: surface.result(facts, lambda: tables.serving(facts), flush=True),
            progress=surface.progress,
        )
