"""The last steps of a path on a server: asked over HTTP, run here whenever that gives no answer."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

import numpy as np

from ebbtide.bundle.manifest import Manifest
from ebbtide.engine import Array
from ebbtide.errors import EbbtideError
from ebbtide.runtime.breaker import Breaker
from ebbtide.runtime.configuration import Configuration, Visit, Watch, advance
from ebbtide.runtime.result import Served
from ebbtide.runtime.wire import DIGEST_HEADER, MAP, MEDIA_TYPE, Shapes, answer_shapes, most_bytes, pack, unpack

if TYPE_CHECKING:
    from httpx2 import AsyncClient

_clock = time.perf_counter_ns
# How far probabilities may be from a sum of 1: float32 over thousands of classes.
_SUM_TOLERANCE: Final = 1e-3
_NO_SERVER: Final = "the application gave no server"


@dataclass(frozen=True)
class Server:
    """A server that holds the same bundle (`ebb serve`), as the application knows it: no bundle names one.

    Args:
        address: ``http://`` or ``https://``, host, port and perhaps a path. Feature maps of what a user photographs
            travel there: use https beyond this machine.
        timeout_s: from the question to the end of the answer, connecting included, > 0; then the stages run here.
        pause_s: how long a server that failed is not asked again at first, > 0; doubles with each failure in a row.
        longest_pause_s: where that ends, >= `pause_s`.
        headers: sent with every question, ``{"Authorization": "Bearer ..."}`` for example.

    Raises:
        EbbtideError: ``runtime.server``.
    """

    address: str
    timeout_s: float = 0.5
    pause_s: float = 1.0
    longest_pause_s: float = 60.0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.address)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and not (parts.query or parts.fragment)
            _ = parts.port  # raises if it is none
        except ValueError:
            good = False
        if not good:
            raise _invalid("address", self.address, "http://HOST:PORT or https://HOST")
        for name, least in (("timeout_s", 0.0), ("pause_s", 0.0), ("longest_pause_s", self.pause_s)):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0 and value >= least):
                raise _invalid(name, str(value), f"a number of seconds above 0 and at least {least}")


class Link:
    """A session's connection to its server. May be used from any thread.

    A call is given up after the server's time-out as a whole, however slowly bytes come in; a server that failed is
    left alone for a while (`Breaker`). Redirections are not followed and the system's proxies are not used, so a
    feature map goes nowhere else.

    Args:
        server: where and how patiently.
        digest: of the session's bundle.
        manifest: of the same.

    Raises:
        EbbtideError: ``runtime.server`` if the packages of the extra `serve` are not installed.
    """

    def __init__(self, server: Server, digest: str, manifest: Manifest) -> None:
        self._server, self._digest = server, digest
        self._shapes: Shapes = answer_shapes(len(manifest.model.classes))
        self._breaker = Breaker(server.pause_s, server.longest_pause_s)
        try:
            from anyio.from_thread import start_blocking_portal
            from httpx2 import AsyncClient
        except ImportError as error:
            raise EbbtideError(
                "runtime.server",
                f"A server cannot be asked: {error}.",
                hint="pip install 'ebbtide[serve]'",
                place=server.address,
            ) from error
        # An event loop in a thread of its own is what can end a call as a whole: a limit for each read does not.
        self._open = ExitStack()
        self._portal = self._open.enter_context(start_blocking_portal(name="ebbtide-server"))
        self._client: AsyncClient = AsyncClient(
            timeout=None,
            trust_env=False,
            follow_redirects=False,
            headers={"Accept-Encoding": "identity", "Content-Type": MEDIA_TYPE, **server.headers},
        )
        self._open.callback(self._portal.call, self._client.aclose)

    def close(self) -> None:
        """End the connection and its thread; nothing may be asking."""
        self._open.close()

    def ask(self, configuration: Configuration, tensor: Array) -> Visit | Served:
        """Let the server run a configuration's last steps.

        Args:
            configuration: one with a handover.
            tensor: what the step of the handover takes.

        Returns:
            The visit (without the times of steps run here), or why there is none.
        """
        if not np.isfinite(tensor).all():  # no fault of the server
            return Served(False, "the feature map has values that are not finite", 0.0)
        ticket = self._breaker.admit()
        if ticket is None:
            return Served(False, self._breaker.refusal(), 0.0)
        start = _clock()
        try:
            visit = self._checked(configuration, self._portal.call(self._post, configuration.id, pack({MAP: tensor})))
        except BaseException as error:
            why = self._why(error)
            self._breaker.failed(ticket, why)
            if not isinstance(error, Exception):
                raise
            # Whatever a network, a server or the client library does: the stages run here.
            return Served(False, why, (_clock() - start) / 1000)
        self._breaker.succeeded()
        return replace(visit, served=Served(True, None, (_clock() - start) / 1000))

    def _why(self, error: BaseException) -> str:
        if isinstance(error, EbbtideError):
            return error.message.rstrip(".")
        if isinstance(error, TimeoutError):
            return f"no answer within {self._server.timeout_s * 1000:g} ms"
        return f"{type(error).__name__}: {error}".rstrip(": .")[:200]

    async def _post(self, configuration_id: str, question: bytes) -> bytes:
        place = f"/v1/bundles/{self._digest}/configurations/{quote(configuration_id, safe='')}"
        most = most_bytes(self._shapes)
        async with (
            asyncio.timeout(self._server.timeout_s),
            self._client.stream("POST", self._server.address.rstrip("/") + place, content=question) as response,
        ):
            body = b""
            async for block in response.aiter_raw():
                body += block
                if len(body) > most:
                    break
            if response.status_code != 200:
                raise _nonsense(f"status {response.status_code}{_code_in(body)}", response.status_code)
            if response.headers.get(DIGEST_HEADER) != self._digest:
                raise _nonsense("an answer by another bundle", response.status_code)
            return body  # too long a one is refused when it is read

    def _checked(self, configuration: Configuration, body: bytes) -> Visit:
        """The visit that an answer describes, unless it describes none that could be."""
        found = unpack(body, self._shapes)
        index, confidence = int(found["step"][0]), float(found["confidence"][0])
        probabilities, logits = found["probabilities"], found["logits"]
        first = configuration.handover or 0
        if not first <= index < len(configuration.steps) or configuration.steps[index].is_stage:
            raise _nonsense(f"an answer from step {index}, which is no exit or head of its part")
        step = configuration.steps[index]
        if not (np.isfinite(logits).all() and math.isfinite(confidence) and np.isfinite(probabilities).all()):
            raise _nonsense("an answer that is not finite")
        if probabilities.min() < 0 or abs(float(probabilities.sum(dtype=np.float64)) - 1) > _SUM_TOLERANCE:
            raise _nonsense("probabilities that are none")
        if step.threshold is not None and not confidence > step.threshold:
            raise _nonsense(f"an answer from {step.reference} at a confidence that does not leave there")
        return Visit(step, probabilities, confidence, logits, ())


def walk_to_server(configuration: Configuration, tensor: Array, link: Link | None, watch: Watch | None) -> Visit:
    """Run a path whose end a server may run; here, if there is none or it gives no answer. Nothing is run twice.

    Raises:
        EbbtideError: as `ebbtide.runtime.configuration.walk`.
    """
    times: list[int] = []
    reached = advance(configuration.steps[: configuration.handover], tensor, times, watch)
    if isinstance(reached, Visit):
        return reached
    asked = Served(False, _NO_SERVER, 0.0) if link is None else link.ask(configuration, reached)
    if isinstance(asked, Visit):
        return replace(asked, times_ns=tuple(times))
    found = advance(configuration.steps[configuration.handover :], reached, times, watch)
    if not isinstance(found, Visit):
        raise EbbtideError("runtime.configuration", "A path ended without a head.", place=configuration.id)
    return replace(found, served=asked)


def _code_in(body: bytes) -> str:
    """The code of an error that `ebb serve` answers with, in brackets; nothing if there is none."""
    import json

    try:
        code = json.loads(body)["error"]["code"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return f" ({code})" if isinstance(code, str) and code.isascii() and len(code) < 64 else ""


def _nonsense(what: str, status: int | None = None) -> EbbtideError:
    return EbbtideError("runtime.wire", f"The server gave {what}.", found=None if status is None else str(status))


def _invalid(name: str, found: str, expected: str) -> EbbtideError:
    return EbbtideError(
        "runtime.server",
        f"The server's {name} is not valid.",
        expected=expected,
        found=found,
        hint="the application gives the address: Session(..., server=...) or ebb run --server URL",
        place=name,
    )
