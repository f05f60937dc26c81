"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeFile = Annotated[Path, typer.Argument(help="The recipe (YAML).", show_default=False)]
BundleFolder = Annotated[Path, typer.Argument(help="The bundle's folder.", show_default=False)]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="A.B=C", help="Override a value of the recipe; may be repeated.")
]
NoCode = Annotated[
    bool, typer.Option("--no-code", help="Refuse to run the recipe's own Python files and .pt2 programs.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Result as JSON on stdout, progress as JSON lines on stderr.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Cache = Annotated[
    Path | None, typer.Option("--cache", help="Where finished steps are kept. [default: the user's cache folder]")
]
Trusted = Annotated[
    list[Path] | None,
    typer.Option("--key", help="Trusted public key (PEM); may be repeated. [default: this machine's development key]"),
]
MinimumSequence = Annotated[int, typer.Option("--minimum-sequence", min=0, help="Refuse bundles older than this.")]
Configuration = Annotated[
    str | None, typer.Option("--configuration", "-c", help="Configuration to run. [default: tier 0]")
]
