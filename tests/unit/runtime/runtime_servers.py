"""Bundles that leave something to a server, and servers for them: the real one, and ones that misbehave."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import uvicorn
from runtime_bundles import Folder, all_modules, manifest

from ebbtide.bundle.manifest import Manifest
from ebbtide.engine import EagerEngine
from ebbtide.runtime.serving import Remainders, address_of, listening
from ebbtide.runtime.serving_http import application

AWAY = ("stage1", "head")


def shared(sequence: int = 3) -> Manifest:
    """The bundle of `runtime_bundles`, whose configurations leave stage1 and the head to a server."""
    whole = manifest()
    return whole.model_copy(
        update={
            "sequence": sequence,
            "configurations": tuple(
                entry.model_copy(
                    update={
                        "path": tuple(
                            step.model_copy(update={"at": "server"}) if step.method.endswith(AWAY) else step
                            for step in entry.path
                        )
                    }
                )
                for entry in whole.configurations
            ),
        }
    )


@contextmanager
def serving(bundle: Manifest | None = None) -> Iterator[tuple[str, Remainders]]:
    """The real server, in a thread: its address and what it serves."""
    served = Remainders(Folder(bundle or shared()), EagerEngine(all_modules()))
    with listening("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(application(served), log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            deadline = time.monotonic() + 20
            while not server.started and time.monotonic() < deadline:
                time.sleep(0.005)
            yield address_of(listener), served
        finally:
            server.should_exit = True
            thread.join(20)
            served.close()
    assert not thread.is_alive()


@contextmanager
def misbehaving(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[tuple[str, list[str]]]:
    """A server that does whatever `answer` does: its address, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            try:
                answer(self)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def says(body: bytes, *, status: int = 200, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """An answer of these bytes."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def unused_port() -> int:
    with listening("127.0.0.1", 0) as listener:
        return int(listener.getsockname()[1])
