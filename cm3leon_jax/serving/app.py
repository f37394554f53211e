"""The web application: a page, its assets, and one call that streams an answer as lines of JSON."""

from __future__ import annotations

import asyncio
import base64
import json
import pathlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import anyio.to_thread
import numpy as np
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.requests import Request as WebRequest
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cm3leon_jax.data.sources.images import UnreadableImage, decode_image, fit_image
from cm3leon_jax.runtime.errors import UserError
from cm3leon_jax.sampling.requests import Request, RequestReader
from cm3leon_jax.serving.scheduler import Busy, Event, Scheduler

ASSETS = pathlib.Path(__file__).parent / "assets"
_MOST_PIXELS = 30_000_000  # of an upload: 90 MB while it is decoded
_FORMATS = ("PNG", "JPEG", "WEBP")  # that browsers make; Pillow knows others that start programs
_READ_AT_ONCE = 2  # requests: each may hold an image while it is read
_LOOKS_AFTER = 0.5  # seconds without news, after which it is seen whether the visitor is still there
_HEADERS = {
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cache-control": b"no-store",
}


def make_app(
    scheduler: Scheduler,
    reader: RequestReader,
    facts: dict[str, Any],
    *,
    most_bytes: int,
    most_samples: int,
    hosts: list[str],
) -> Starlette:
    """GET / is the page; GET /api/model says `facts`; POST /api/answer takes a request (`sampling/requests.py`, images
    as data URLs) and streams events (`scheduler.Event`), a line each. A visitor who leaves has given up.

    `most_bytes` of a request's body; `hosts`: names by which the server may be called, so that no page elsewhere can
    reach it by a name of its own.
    """
    reading = anyio.CapacityLimiter(_READ_AT_ONCE)

    async def page(_: WebRequest) -> Response:
        return FileResponse(ASSETS / "index.html")

    async def model(_: WebRequest) -> Response:
        return JSONResponse(facts)

    async def answer(web: WebRequest) -> Response:
        # A page elsewhere cannot send this type without asking first.
        if web.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _refused(415, "send a request as application/json")
        try:
            body = await _body(web, most_bytes)
        except ClientDisconnect:
            return Response(status_code=499)
        if body is None:
            return _refused(413, f"the request has more than {most_bytes / 2**20:.0f} MiB; send a smaller picture")
        try:
            request = await anyio.to_thread.run_sync(_read, reader, body, most_samples, limiter=reading)
        except UserError as error:
            return _refused(400, str(error))
        events: asyncio.Queue[Event] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        try:
            ticket = scheduler.submit(request, _from_thread(loop, events))
        except Busy:
            return _refused(503, "many others wait; try again in a moment")
        return StreamingResponse(_lines(web, events, ticket.cancel), media_type="application/x-ndjson")

    return Starlette(
        routes=[
            Route("/", page),
            Route("/api/model", model),
            Route("/api/answer", answer, methods=["POST"]),
            Mount("/assets", StaticFiles(directory=ASSETS)),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts), Middleware(_WithHeaders)],
    )


async def _body(web: WebRequest, most_bytes: int) -> bytes | None:
    """None where there are more; they are not read."""
    found = bytearray()
    async for chunk in web.stream():
        found += chunk
        if len(found) > most_bytes:
            return None
    return bytes(found)


def _read(reader: RequestReader, body: bytes, most_samples: int) -> Request:
    try:
        row = json.loads(body)
    except (ValueError, RecursionError):
        raise UserError("the request is not JSON") from None
    request = reader.read(row)
    if request.samples > most_samples:
        raise UserError(f"samples is {request.samples}; at most {most_samples} are drawn for a request")
    return request


async def _lines(web: WebRequest, events: asyncio.Queue[Event], give_up: Callable[[], None]) -> AsyncIterator[bytes]:
    try:
        while True:
            try:
                event = await asyncio.wait_for(events.get(), _LOOKS_AFTER)
            except TimeoutError:
                if await web.is_disconnected():
                    return
                continue
            yield json.dumps(event).encode() + b"\n"
            if event["event"] in ("done", "error"):
                return
    finally:
        give_up()


def _from_thread(loop: asyncio.AbstractEventLoop, events: asyncio.Queue[Event]) -> Callable[[Event], None]:
    def tell(event: Event) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(events.put_nowait, event)

    return tell


def _refused(status: int, message: str) -> Response:
    return JSONResponse({"event": "error", "message": message}, status_code=status)


def read_data_url(url: str, resolution: int) -> np.ndarray:
    """A picture as a data URL -> uint8 [resolution, resolution, 3]; `UserError` where it is none that is read."""
    head, comma, data = url.partition(",")
    try:
        if not (head.startswith("data:") and head.endswith(";base64") and comma):
            raise UnreadableImage("it is no data URL")
        decoded = decode_image(base64.b64decode(data, validate=True), most_pixels=_MOST_PIXELS, formats=_FORMATS)
        return fit_image(decoded, resolution)
    except (UnreadableImage, ValueError) as error:  # of base64, too
        raise UserError(f"the picture cannot be used ({error}); upload a PNG, JPEG or WebP file") from None


class _WithHeaders:
    """Says in every answer what the browser is not to do with it."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS.items()]
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)
