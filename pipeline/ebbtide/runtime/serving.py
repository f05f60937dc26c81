"""Serving a bundle: the last steps of its configurations, for devices that hold the same bundle."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import numpy as np

from ebbtide.bundle.manifest import ConfigurationEntry, MethodEntry
from ebbtide.engine import Engine
from ebbtide.errors import EbbtideError
from ebbtide.runtime.configuration import Configuration, Visit, advance, bind, method_entries, programs_of
from ebbtide.runtime.residency import Residency, Source, check_engine
from ebbtide.runtime.wire import MAP, Shapes, digest_of, map_shapes, pack, unpack

_BACKLOG = 128


class Remainders:
    """The last steps of a bundle's configurations, loaded and warm. May be used from any thread.

    Args:
        source: an opened bundle.
        engine: what runs the programs.
        warm_up: as for a session.

    Raises:
        EbbtideError: ``runtime.serve`` if no configuration leaves anything to a server, ``runtime.engine`` or
            ``bundle.runtime_version`` if the bundle is not for this engine, and what loading raises.
    """

    def __init__(self, source: Source, engine: Engine, *, warm_up: int = 1) -> None:
        manifest = source.manifest
        check_engine(manifest.runtime, engine)
        entries = [entry for entry in manifest.configurations if any(step.at is not None for step in entry.path)]
        if not entries:
            raise EbbtideError(
                "runtime.serve",
                f"No configuration of {manifest.name} {manifest.sequence} leaves anything to a server.",
                expected="a path whose last steps have at: server",
                hint="build the bundle for a device profile with a server",
                place="$.configurations",
            )
        self.name, self.sequence = manifest.name, manifest.sequence
        self.digest = digest_of(source)
        self._programs = Residency(source, engine, warm_up)
        self._programs.load(program for entry in entries for program in programs_of(entry))
        bound = [bind(manifest, entry, self._programs.loaded, reason="server") for entry in entries]
        self._configurations = {one.id: one for one in bound}
        methods = method_entries(manifest)
        self._shapes = {one.id: _taken(one, entry, methods) for one, entry in zip(bound, entries, strict=True)}

    @property
    def configurations(self) -> tuple[str, ...]:
        """The ids of those that leave something to a server."""
        return tuple(self._configurations)

    def question(self, digest: str, configuration_id: str) -> Shapes:
        """What a question about a configuration holds.

        Raises:
            EbbtideError: ``runtime.other_bundle``, ``runtime.configuration``.
        """
        if digest != self.digest:
            raise EbbtideError(
                "runtime.other_bundle",
                f"The server holds {self.name} {self.sequence}, another bundle.",
                expected=self.digest,
                found=digest[:64],
                hint="serve the bundle that the device has installed",
            )
        if configuration_id not in self._shapes:
            raise EbbtideError(
                "runtime.configuration",
                "The bundle leaves nothing of this configuration to a server.",
                expected=f"one of {', '.join(self._shapes)}",
                found=ascii(configuration_id)[:80],
            )
        return self._shapes[configuration_id]

    def answer(self, configuration_id: str, question: bytes) -> bytes:
        """Run what is left of a configuration on the feature map of a question.

        Raises:
            EbbtideError: ``runtime.wire``, ``runtime.output``, ``engine.failed``.
        """
        tensor = unpack(question, self._shapes[configuration_id])[MAP]
        configuration = self._configurations[configuration_id]
        steps = configuration.steps
        visit = advance(steps[configuration.handover :], tensor, [])
        if not isinstance(visit, Visit):
            raise EbbtideError("runtime.configuration", "A path ended without a head.", place=configuration_id)
        return pack(
            {
                "probabilities": visit.probabilities,
                "confidence": np.array([visit.confidence], dtype=np.float32),
                "logits": visit.logits,
                "step": np.array([steps.index(visit.step)], dtype=np.int64),
            }
        )

    def close(self) -> None:
        """Free the programs; nothing may be running in them."""
        self._programs.keep_only(())


def serve(
    served: Remainders, host: str, port: int, *, most_at_once: int = 64, ready: Callable[[str], None] = lambda _: None
) -> None:
    """Serve until the process is told to stop (Ctrl-C, SIGTERM); what is being answered then is finished.

    Args:
        served: what to serve; the caller closes it.
        host: an address of this machine; ``127.0.0.1`` is reached from this machine only.
        port: 0 for any that is free.
        most_at_once: connections at one time, idle ones (for 5 s) among them; what comes beyond is refused at once
            (503), and the device goes on alone.
        ready: called with the address once questions are taken.

    Raises:
        EbbtideError: ``runtime.serve`` if the address cannot be had.
    """
    try:
        import uvicorn

        from ebbtide.runtime.serving_http import application
    except ImportError as error:
        raise EbbtideError(
            "runtime.serve", f"Nothing can be served: {error}.", hint="pip install 'ebbtide[serve]'", found=error.name
        ) from error
    app = application(served)
    # Whoever reads the address may say stop at once, before uvicorn listens to signals.
    with listening(host, port) as listener, _told_to_stop():
        ready(address_of(listener))
        config = uvicorn.Config(app, log_config=None, access_log=False, limit_concurrency=most_at_once)
        uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def _told_to_stop() -> Iterator[None]:
    """Both ways of being told end the block, and whatever is around it is tidied up.

    uvicorn catches the signals, finishes its answers and then raises them again for the handlers before its own.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        EbbtideError: ``runtime.serve``.
    """
    try:
        if not 0 <= port <= 65_535:
            raise OverflowError("ports are 0 to 65535")
        kind, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        made = socket.create_server(where[:2], family=kind, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise EbbtideError(
            "runtime.serve",
            f"Nothing can be served at {host}, port {port}: {error}.",
            hint="choose another --port (0 for any that is free) or --host",
            place=f"{host}:{port}",
        ) from error
    return made


def address_of(listener: socket.socket) -> str:
    """What a device is told: ``http://127.0.0.1:8017``."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _taken(configuration: Configuration, entry: ConfigurationEntry, methods: Mapping[str, MethodEntry]) -> Shapes:
    """What the first of the steps for a server takes."""
    return map_shapes(methods[entry.path[configuration.handover or 0].method].inputs[0].shape)
