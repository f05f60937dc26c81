"""``ebb serve``: run the last steps of a bundle's configurations for devices that hold the same bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ebbtide.steps import Progress, silent


def serve(
    bundle: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8017,
    trusted: Sequence[Path] | None = None,
    ready: Callable[[dict[str, Any]], None] = lambda _: None,
    progress: Progress = silent,
) -> None:
    """Verify a bundle and serve it until the process is told to stop (Ctrl-C, SIGTERM).

    Args:
        bundle: a bundle's folder; a packed one is unpacked to a passing place.
        host: the address to listen at; the default is reached from this machine only.
        port: 0 for any that is free.
        trusted: public keys, any one of which may have signed; by default this machine's development key.
        ready: called once questions are taken, with address, name, sequence, digest and configurations.
        progress: told what is being done.

    Raises:
        EbbtideError: ``runtime.serve`` if the bundle leaves nothing to a server or the address cannot be had, and what
            opening and loading raise.
    """
    from ebbtide.api import _trusted
    from ebbtide.build.programs import open_engine
    from ebbtide.bundle import open_unpacked
    from ebbtide.runtime import serving

    with open_unpacked(bundle, _trusted(trusted)) as opened:
        with progress.task(f"loading {opened.manifest.name}"):
            served = serving.Remainders(opened, open_engine())
        facts = {"name": served.name, "sequence": served.sequence, "digest": served.digest}
        facts |= {"configurations": list(served.configurations)}
        try:
            serving.serve(served, host, port, ready=lambda address: ready({"address": address, **facts}))
        finally:
            served.close()
