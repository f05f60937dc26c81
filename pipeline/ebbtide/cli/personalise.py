"""``ebb personalise``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ebbtide.cli.arguments import AsJson, Cache, NoCode, Overrides, Quiet
from ebbtide.cli.surface import speaking


class PatternName(StrEnum):
    """How the model is made smaller."""

    channels = "channels"
    hybrid = "hybrid"


def personalise(
    source: Annotated[
        Path,
        typer.Argument(
            help="The universal model: its recipe, the output folder of its build, or a bundle in there.",
            show_default=False,
        ),
    ],
    classes: Annotated[
        str,
        typer.Option(
            "--classes", help="The user's classes, with commas between; numbers are indices.", metavar="A,B,C"
        ),
    ],
    max_drop_points: Annotated[
        float | None,
        typer.Option(
            "--max-drop-points",
            min=0.0,
            max=100.0,
            help="Find the cheapest model that loses at most so many points of accuracy. [default: 1]",
        ),
    ] = None,
    macs: Annotated[
        float | None, typer.Option("--macs", min=0.0, max=1.0, help="Or keep this share of the multiply-accumulates.")
    ] = None,
    pattern: Annotated[
        PatternName | None, typer.Option("--pattern", help="Take out channels, or mask blocks and N:M.")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A first bundle soon: one removal to a target (half the MACs), few passes."),
    ] = False,
    name: Annotated[
        str | None, typer.Option("--name", help="Of the bundle. [default: the recipe's, with the classes]")
    ] = None,
    overrides: Overrides = [],  # noqa: B006 - typer copies defaults
    no_code: NoCode = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where bundles and report go. [default: build/NAME]")
    ] = None,
    cache: Cache = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Build a smaller model for one user's classes from a universal model. Continues after a kill."""
    with speaking(as_json=as_json, quiet=quiet) as surface:
        from ebbtide import api
        from ebbtide.cli import tables

        built = api.personalise(
            source,
            api.parse_classes(classes),
            request=api.Request(
                pattern=pattern.value if pattern else None, max_drop_points=max_drop_points, macs=macs, quick=quick
            ),
            name=name,
            overrides=overrides,
            allow_code=not no_code,
            cache=cache,
            output=output,
            progress=surface.progress,
        )
        surface.result({**built.as_dict(), "tried": []}, lambda: tables.built(built, []))
