"""Writes every vector that the languages share: ``make vectors``, or ``python tests/vectors/generate.py``.

A kind of vectors is a folder beside this file with a ``generate.py``, whose ``files()`` gives the content of each JSON
file of that folder by name, ``schema.json`` among them. Files that have not changed are not touched.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def kinds() -> list[str]:
    """The names of all kinds, sorted."""
    return sorted(path.parent.name for path in HERE.glob("*/generate.py"))


def files(kind: str) -> dict[str, bytes]:
    """The files of a kind as they must be, by name."""
    name = f"vectors_{kind}"  # every generator has the same file name
    spec = importlib.util.spec_from_file_location(name, HERE / kind / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    made: dict[str, bytes] = module.files()
    return made


def stale(kind: str) -> dict[str, bytes | None]:
    """What must change in a kind's folder: the new content by name, None for a JSON file that nothing makes."""
    folder, made = HERE / kind, files(kind)
    changed: dict[str, bytes | None] = {
        name: content
        for name, content in made.items()
        if not (folder / name).is_file() or (folder / name).read_bytes() != content
    }
    return changed | {path.name: None for path in folder.glob("*.json") if path.name not in made}


def main() -> None:
    """Write what is stale, and say so."""
    written = 0
    for kind in kinds():
        for name, content in stale(kind).items():
            if content is None:
                print(f"nothing makes {kind}/{name}: delete it")
                continue
            (HERE / kind / name).write_bytes(content)
            print(f"wrote {kind}/{name}")
            written += 1
    print(f"{written} files written; kinds: {', '.join(kinds())}")


if __name__ == "__main__":
    main()
