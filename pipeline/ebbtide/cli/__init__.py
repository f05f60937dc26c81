"""The command ``ebb``: parses, calls `ebbtide.api`, prints. Nothing heavy is imported before it is needed."""

from __future__ import annotations


def main() -> None:
    """Run the command line; exit status 0, 2 for bad input, 3 for a failed check, 1 for a defect, 130 if stopped."""
    from ebbtide.cli.app import app

    app()
