"""HTTP connections that can't be held by clients who are slow, endless or too many."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from skmars.serving.service._schemas import Error, ErrorAnswer, encode

HEAD_SECONDS = 10.0  # for a request to arrive up to the end of its headers
MAX_HEAD = 2**16  # bytes without progress: headers, trailers, extensions of chunks
MAX_CONNECTIONS = 1_000  # of a process


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits: of connections, of time for headers and of their bytes.

    (uvicorn limits how long a connection idles between requests, and the routes how long a body
    takes; but a client might send its headers forever, or nothing at all.)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._unparsed = 0  # bytes since the parser last came to an end of something
        self._in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            self._refuse(503, "too_many_connections", "Too many connections. Try again later.")
        else:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():  # what a refused client still sends
            return
        self._unparsed += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._unparsed > MAX_HEAD:
            self._refuse(431, "head_too_large", f"The headers exceed {MAX_HEAD} bytes.")
        elif self.cycle is None or self.cycle.response_complete:
            self._start_timer()

    def on_message_begin(self) -> None:
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # else a trailer, which nobody reads
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._stop_timer()
        self._in_head, self._unparsed = False, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unparsed = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "no_http", msg)

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():  # an answer that nobody reads
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def _start_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        if not self.transport.is_closing():
            self._refuse(408, "too_slow", f"No request came within {HEAD_SECONDS:.0f} seconds.")
        # Whoever sends nothing may read nothing, either.
        self.loop.call_later(1.0, self.transport.abort)

    def _refuse(self, status: int, code: str, message: str) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()  # an earlier request is still being answered
            return
        body = encode(ErrorAnswer(error=Error(code=code, message=message)))
        head = (
            b"content-type: application/json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n" % len(body)
        )
        self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()
