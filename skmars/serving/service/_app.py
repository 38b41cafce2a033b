"""The routes of the service: what they accept, answer and refuse."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import skmars
from skmars.serving.service import _schemas as schemas
from skmars.serving.service._metrics import Metrics
from skmars.serving.service._refusal import Refusal
from skmars.serving.service._service import Service

log = logging.getLogger(__name__)

BODY_SECONDS = 10.0  # for a body to arrive
JSON = "application/json"
ROUTES = ("/score", "/recommend", "/events", "/health", "/ready", "/metrics")

REASONS = {
    400: "The body is no JSON.",
    401: "The bearer token lacks, or is another.",
    408: "The body came too slowly.",
    413: f"The body exceeds {schemas.MAX_BODY} bytes.",
    415: f"The body is not declared as {JSON}.",
    422: "The body does not follow the schema, or the model can't use it: `field` tells where.",
    429: "Too many requests wait. `Retry-After` says in how many seconds to try again.",
    503: "No model is loaded yet, or the store does not answer.",
    507: "The store's disk is full: nothing of the request was kept.",
}


def make_app(service: Service, metrics: Metrics, token: str | None = None) -> FastAPI:
    """Return the ASGI application of the service.

    Parameters
    ----------
    service : Service
        It is started and closed with the application.
    metrics : Metrics
    token : str, default=None
        Bearer token that all requests but ``/health`` need. None: none is needed.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.start)
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="skmars",
        version=skmars.__version__,
        description="Probabilities of clicks, from the events that the service was told.",
        lifespan=lifespan,
        redirect_slashes=False,
        redoc_url=None,
    )
    app.router.route_class = _Route
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _refused_by_router)
    app.add_exception_handler(Exception, _failed)

    @app.post("/score", **_documented(schemas.ScoreRequest, schemas.ScoreAnswer))
    async def score(request: Request) -> Response:
        """Return the probability of a click for each candidate of each user."""
        wanted = schemas.decode(await _body(request), schemas.ScoreRequest)
        return _answer(await service.score(wanted))

    @app.post("/recommend", **_documented(schemas.RecommendRequest, schemas.RecommendAnswer))
    async def recommend(request: Request) -> Response:
        """Return the items that a user clicks most probably."""
        wanted = schemas.decode(await _body(request), schemas.RecommendRequest)
        return _answer(await service.recommend(wanted))

    @app.post("/events", **_documented(schemas.EventsRequest, schemas.EventsAnswer, 507))
    async def events(request: Request) -> Response:
        """Keep events: they are durable before this answers, and the next score sees them."""
        wanted = schemas.decode(await _body(request), schemas.EventsRequest)
        return _answer(await service.keep(wanted))

    @app.get("/health", **_documented(None, schemas.Health))
    async def health(_request: Request) -> Response:
        """Tell that the process lives."""
        return _answer(schemas.Health(status="alive"))

    @app.get("/ready", **_documented(None, schemas.Health, 401, 503))
    async def ready(_request: Request) -> Response:
        """Tell whether a model is loaded and the store answers."""
        versions = await asyncio.to_thread(service.ready)
        return _answer(schemas.Health(status="ready", versions=versions))

    @app.get(
        "/metrics",
        responses={200: {"description": "Text of Prometheus", "content": {"text/plain": {}}}},
        response_class=Response,
    )
    async def metrics_(_request: Request) -> Response:
        """Return counts and latencies of all processes, in the text format of Prometheus."""
        text = await asyncio.to_thread(metrics.text)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            made = app.openapi_schema.setdefault("components", {})
            made["schemas"] = schemas.components()
            made["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            app.openapi_schema["security"] = [{"token": []}] if token else []
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    app.add_middleware(_Door, metrics=metrics, token=token)
    return app


class _Route(APIRoute):
    """Calls its function with the request alone: there is nothing else that FastAPI could find."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return self.endpoint


# --- documentation ----------------------------------------------------------------------------


def _ref(kind: type) -> dict[str, Any]:
    return {"content": {JSON: {"schema": {"$ref": schemas.REF.format(name=kind.__name__)}}}}


def _documented(body: type | None, answer: type, *further: int) -> dict[str, Any]:
    """Return what FastAPI needs to document a route whose bodies it does not read itself."""
    refusals = (400, 401, 408, 413, 415, 422, 429, 503, *further) if body else further
    responses: dict[int | str, dict[str, Any]] = {200: {"description": "OK", **_ref(answer)}}
    for status in refusals:
        responses[status] = {"description": REASONS[status], **_ref(schemas.ErrorAnswer)}
    extra = {"requestBody": {"required": True, **_ref(body)}} if body else None
    return {"responses": responses, "openapi_extra": extra, "response_class": Response}


# --- bodies -----------------------------------------------------------------------------------


async def _body(request: Request) -> bytes | bytearray:
    """Return the body of a request, if it is declared as JSON, in time and small enough."""
    declared = request.headers.get("content-type", "")
    if declared.partition(";")[0].strip().lower() != JSON:
        raise Refusal(415, "no_json_type", f"Send JSON, with the header content-type: {JSON}.")
    if _length(request) > schemas.MAX_BODY:
        raise _too_large()
    body: bytes | bytearray = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise Refusal(400, "disconnected", "The body ended before its end.")
                body = body + message.get("body", b"") if body else message.get("body", b"")
                if len(body) > schemas.MAX_BODY:
                    raise _too_large()
                if not message.get("more_body", False):
                    return body
    except TimeoutError:
        raise Refusal(
            408,
            "too_slow",
            f"The body did not arrive within {BODY_SECONDS:.0f} seconds.",
            headers={"connection": "close"},
        ) from None


def _length(request: Request) -> int:
    length = request.headers.get("content-length", "0")
    return int(length) if length.isdecimal() and len(length) < 20 else 0


def _too_large() -> Refusal:
    message = f"The body exceeds {schemas.MAX_BODY} bytes. Send several smaller requests."
    return Refusal(413, "too_large", message)


def _answer(body: Any) -> Response:
    return Response(schemas.encode(body), media_type=JSON)


# --- refusals ---------------------------------------------------------------------------------


def _error(refusal: Refusal) -> Response:
    error = schemas.Error(code=refusal.code, message=refusal.message, field=refusal.field)
    body = schemas.encode(schemas.ErrorAnswer(error=error))
    return Response(body, refusal.status, refusal.headers, media_type=JSON)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    request.scope["skmars.refusal"] = error.code
    return _error(error)


async def _refused_by_router(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path, method = request.url.path, request.method
    told = {
        404: ("not_found", f"There is no {path}. The routes are {', '.join(ROUTES)}; see /docs."),
        405: ("wrong_method", f"{path} does not take {method}. See /docs."),
    }
    code, message = told.get(error.status_code, ("refused", str(error.detail)))
    request.scope["skmars.refusal"] = code
    return _error(Refusal(error.status_code, code, message, headers=error.headers))


async def _failed(request: Request, error: Exception) -> Response:
    # Starlette raises the error again, and uvicorn logs it.
    request.scope["skmars.refusal"] = "internal"
    message = "The service failed to answer this request. Its log tells why."
    return _error(Refusal(500, "internal", message))


class _Door:
    """Asks for the token, and counts what comes in and goes out."""

    def __init__(self, app: ASGIApp, metrics: Metrics, token: str | None) -> None:
        self.app, self.metrics = app, metrics
        self.token = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500
        path = scope["path"]

        async def counting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            if self.token is None or path == "/health" or self._knows_token(scope):
                await self.app(scope, receive, counting)
            else:
                scope["skmars.refusal"] = "no_token"
                refusal = Refusal(
                    401,
                    "no_token",
                    "Send the header authorization: Bearer TOKEN, with the service's token.",
                    headers={"www-authenticate": "Bearer"},
                )
                await _error(refusal)(scope, receive, counting)
        finally:
            route = path if path in ROUTES else "other"
            self.metrics.answered(route, status, time.perf_counter() - start)
            if "skmars.refusal" in scope:
                self.metrics.refusals.labels(scope["skmars.refusal"]).inc()

    def _knows_token(self, scope: Scope) -> bool:
        assert self.token is not None
        for name, value in scope["headers"]:
            if name == b"authorization":
                return hmac.compare_digest(value, self.token)
        return False
