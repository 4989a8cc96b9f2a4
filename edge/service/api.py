"""The HTTP interface: requests to the service, what it tells, the live picture, and the page.

Everything here runs in one thread of its own, beside that of the service; no handler touches camera or motor.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path as FilePath
from typing import Annotated, Any

import uvicorn
from fastapi import Body, FastAPI, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from edge.collect_plan import Plan
from edge.errors import InputError, one_line
from edge.service.door import COOKIE, Door, cookie_of
from edge.service.feed import Feed
from edge.service.messages import (
    Accepted,
    Collect,
    HoldOn,
    HoldStatus,
    Jog,
    Login,
    Problem,
    Run,
    Status,
    Stopped,
)
from edge.service.service import Busy, Service
from firmware_iface.errors import LimitError

__all__ = ["Server", "Streams", "create_app"]

log = logging.getLogger(__name__)

WEB = FilePath(__file__).parent / "web"
_PAGE = {
    "/": ("index.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/style.css": ("style.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_MOST_STREAMS = 16
_POLL_S = 0.04
_SILENCE_S = 15.0
_FIRST_PICTURE_S = 3.0
_A_YEAR_S = 31_536_000
_Answers = dict[int | str, dict[str, Any]]
_BUSY: _Answers = {409: {"model": Problem, "description": "Something else is going on"}}
_WRONG: _Answers = {
    400: {"model": Problem, "description": "Not text"},
    422: {"model": Problem, "description": "Not allowed"},
}


class Streams:
    """How many listen; and that they end when the server does."""

    def __init__(self) -> None:
        self._count = 0
        self.ending = False

    def check(self) -> None:
        """Refuse one more where there are too many."""
        if self._count >= _MOST_STREAMS or self.ending:
            raise HTTPException(503, f"{_MOST_STREAMS} listen already")

    async def counted(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """``parts``, as long as they are listened to."""
        self._count += 1
        try:
            async for part in parts:
                yield part
        finally:
            self._count -= 1


def create_app(service: Service, streams: Streams, *, token: str | None, names: frozenset[str]) -> Door:
    """The application behind its door. ``token`` None: nobody is asked for one."""
    app = FastAPI(
        title="Parfocal",
        description="Focus, jog, z-stacks, stop, status, history and live picture of one microscope.",
        version="1",
        docs_url=None,  # these pages load their scripts from outside
        redoc_url=None,
        openapi_url="/api/openapi.json",
        responses={
            401: {"model": Problem, "description": "The token is missing or wrong"},
            403: {"model": Problem, "description": "Another host or origin"},
        },
    )
    door = Door(app, token=token, names=names)
    _add_errors(app)
    _add_requests(app, service)
    _add_tellings(app, service)
    _add_streams(app, service, streams)
    _add_page(app, door, token)
    return door


def _add_errors(app: FastAPI) -> None:
    def problem(status: int, text: object) -> JSONResponse:
        return JSONResponse({"error": one_line(text)}, status_code=status)

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> JSONResponse:
        return problem(409, error)

    @app.exception_handler(InputError)
    @app.exception_handler(LimitError)
    async def not_allowed(request: Request, error: InputError | LimitError) -> JSONResponse:
        return problem(422, error)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        answer = problem(error.status_code, error.detail)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "json_invalid":
            return problem(422, f"{place}: not JSON: {first['ctx']['error']}")
        kind = request.headers.get("content-type", "none")
        if place == "body" and isinstance(first.get("input"), bytes) and "json" not in kind:
            return problem(422, f"body: JSON with 'Content-Type: application/json' is needed, not {kind}")
        return problem(422, f"{place}: {first['msg']}")


def _add_requests(app: FastAPI, service: Service) -> None:
    @app.post("/api/focus", status_code=202, responses=_BUSY)
    async def focus() -> Accepted:
        """Bring the specimen into focus. MOVES the stage, within its limits."""
        service.focus("page")
        return Accepted()

    @app.post("/api/jog", status_code=202, responses=_BUSY | _WRONG)
    async def jog(body: Jog) -> Accepted:
        """Move the stage by a distance. What would end beyond the limits is refused, and nothing moves."""
        service.jog(body.um, "page")
        return Accepted()

    @app.post("/api/collect", status_code=202, responses=_BUSY | _WRONG)
    async def collect(body: Collect) -> Accepted:
        """Record one more field of a slide: focus, then a z-stack about it, which `collect` in the status
        follows. MOVES the stage, within its limits."""
        service.collect(body.slide, Plan(body.planes, body.step_dof), "page")
        return Accepted()

    @app.post("/api/stop")
    async def stop() -> Stopped:
        """Stop the motor and end what is under way, on the spot; always allowed."""
        return Stopped(stopped=service.stop("page"))

    @app.post("/api/hold", responses=_WRONG)
    async def hold(body: HoldOn) -> HoldStatus:
        """Hold focus through drift after the next focus that succeeds, or no longer."""
        service.hold(body.on)
        return HoldStatus.model_validate(service.status()["hold"])


def _add_tellings(app: FastAPI, service: Service) -> None:
    @app.get("/api/status")
    async def status() -> Status:
        """What is going on."""
        return Status.model_validate(service.status())

    @app.get("/api/runs", responses=_WRONG)
    def runs(count: Annotated[int, Query(ge=1, le=500)] = 20) -> list[Run]:
        """The newest focus runs, newest first."""
        return [Run.model_validate(run) for run in service.runs.newest(count)]

    @app.get(
        "/api/runs/{number}",
        responses=_WRONG | {404: {"model": Problem, "description": "No such run is kept"}},
    )
    def run(number: Annotated[int, Path(ge=1, le=10**12)]) -> dict[str, Any]:
        """The whole trace of one run, as `parfocal focus --trace` writes it."""
        found = service.runs.read(number)
        if found is None:
            raise HTTPException(404, f"run {number}: none is kept under this number")
        return found


def _add_streams(app: FastAPI, service: Service, streams: Streams) -> None:
    feed = service.feed
    full: _Answers = {503: {"model": Problem, "description": "Too many listen, or there is no picture"}}

    @app.get(
        "/api/frame.jpg",
        response_class=Response,
        responses=full | {200: {"content": {"image/jpeg": {}}, "description": "The newest picture"}},
    )
    async def frame() -> Response:
        """The newest picture. Waits up to 3 s for one."""
        after = feed.picture()
        last = 0 if after is None else after.number
        for _ in range(int(_FIRST_PICTURE_S / _POLL_S)):
            if (picture := feed.picture(last)) is not None:
                return Response(picture.jpeg, media_type="image/jpeg")
            await asyncio.sleep(_POLL_S)
        raise HTTPException(503, "no picture: the camera is not running, or busy")

    @app.get(
        "/api/preview.mjpg",
        response_class=StreamingResponse,
        responses=full | {200: {"content": {"multipart/x-mixed-replace": {}}, "description": "Live picture"}},
    )
    async def preview() -> StreamingResponse:
        """The live picture (MJPEG). A slow reader misses pictures and holds up nobody."""
        streams.check()
        return StreamingResponse(
            streams.counted(_pictures(feed, streams)), media_type="multipart/x-mixed-replace; boundary=frame"
        )

    @app.get(
        "/api/events",
        response_class=StreamingResponse,
        responses=full | {200: {"content": {"text/event-stream": {}}, "description": "Events"}},
    )
    async def events(last_event_id: Annotated[str | None, Header()] = None) -> StreamingResponse:
        """What happens, as it happens (server-sent events): `status`, `look` for each frame, `run`."""
        streams.check()
        text = last_event_id or ""
        after = int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None
        return StreamingResponse(
            streams.counted(_events(service, after, streams)), media_type="text/event-stream"
        )


async def _pictures(feed: Feed, streams: Streams) -> AsyncIterator[bytes]:
    last = 0
    while not streams.ending:
        picture = feed.picture(last)
        if picture is None:
            await asyncio.sleep(_POLL_S)
            continue
        last = picture.number
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture.jpeg)}\r\n\r\n"
        yield head.encode() + picture.jpeg + b"\r\n"


async def _events(service: Service, after: int | None, streams: Streams) -> AsyncIterator[bytes]:
    """From event ``after`` on; without it, the status now and what follows."""
    feed = service.feed
    last = feed.last if after is None else min(after, feed.last)
    if after is None:
        yield _sse(last, "status", service.status())
    silent = 0.0
    while not streams.ending:
        for event in feed.since(last):
            last, silent = event.number, 0.0
            yield _sse(event.number, event.kind, event.data)
        await asyncio.sleep(_POLL_S)
        silent += _POLL_S
        if silent >= _SILENCE_S:
            silent = 0.0
            yield b": still here\n\n"


def _sse(number: int, kind: str, data: dict[str, Any]) -> bytes:
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(data, allow_nan=False)}\n\n".encode()


def _add_page(app: FastAPI, door: Door, token: str | None) -> None:
    @app.post("/api/login", responses=_WRONG)
    async def login(body: Annotated[Login, Body()], response: Response) -> Accepted:
        """A cookie for the token, which a browser's pictures and events need."""
        if not door.right_token(body.token):
            raise HTTPException(401, "this is not the token")
        if token is not None:
            response.set_cookie(
                COOKIE, cookie_of(token), max_age=_A_YEAR_S, httponly=True, samesite="strict", path="/"
            )
        return Accepted()

    def served(path: str, name: str, kind: str) -> None:
        @app.get(path, include_in_schema=False)
        async def page() -> FileResponse:
            return FileResponse(WEB / name, media_type=kind)

    for path, (name, kind) in _PAGE.items():
        served(path, name, kind)


class Server:
    """The application on ``listening``, a socket that is bound already, in a thread of its own."""

    def __init__(self, app: Door, listening: socket.socket, streams: Streams) -> None:
        settings = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=64,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=1,
        )
        self._server, self._streams = uvicorn.Server(settings), streams
        self._thread = threading.Thread(
            target=self._server.run, args=([listening],), name="http", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """End all streams and the thread. BLOCKS, as a rule for a tenth of a second, for 5 at most."""
        self._streams.ending = True
        self._server.should_exit = True
        self._thread.join(5.0)
