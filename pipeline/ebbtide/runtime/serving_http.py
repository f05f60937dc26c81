"""The HTTP application of `ebb serve`: what `ebbtide.runtime.wire` describes, and ``GET /v1/bundle``.

It keeps nothing of what it is sent. It knows no users and no encryption: beyond this machine it belongs behind a proxy
that does. Imported only where something is served: it needs the packages of the extra `serve`.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from ebbtide.errors import EbbtideError
from ebbtide.runtime.serving import Remainders
from ebbtide.runtime.wire import DIGEST_HEADER, MEDIA_TYPE, most_bytes

_STATUS = {"runtime.other_bundle": 409, "runtime.configuration": 404, "runtime.wire": 422, "runtime.output": 422}


def application(served: Remainders) -> FastAPI:
    """The application that serves these."""
    app = FastAPI(title=f"Ebbtide: {served.name} {served.sequence}", docs_url=None, redoc_url=None)

    @app.get("/v1/bundle")
    def bundle() -> dict[str, Any]:
        """What is served."""
        facts = {"name": served.name, "sequence": served.sequence, "digest": served.digest}
        return facts | {"configurations": list(served.configurations)}

    @app.post("/v1/bundles/{digest}/configurations/{configuration_id}", response_class=Response)
    async def run(digest: str, configuration_id: str, request: Request) -> Response:
        """A feature map in; probabilities, confidence, logits and where the path was left out."""
        try:
            question = await _body(request, most_bytes(served.question(digest, configuration_id)))
            answer = await run_in_threadpool(served.answer, configuration_id, question)
        except EbbtideError as error:
            return JSONResponse({"error": error.as_dict()}, status_code=_STATUS.get(error.code, 500))
        return Response(answer, media_type=MEDIA_TYPE, headers={DIGEST_HEADER: served.digest})

    return app


async def _body(request: Request, most: int) -> bytes:
    """The body, read no further than what it may have and the piece that goes beyond."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            break
    return bytes(body)
