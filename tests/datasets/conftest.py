"""A web server on this machine that knows Range, and can break off."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        body = server.files.get(self.path.lstrip("/"))
        if body is None:
            self.send_error(404)
            return
        begin = 0
        wanted = self.headers.get("Range")
        if wanted and server.knows_range:
            begin = int(wanted.removeprefix("bytes=").rstrip("-"))
            if begin >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(body) - begin))
        self.end_headers()
        # Breaks off after so many bytes of one answer, as long as there are failures left.
        end = len(body)
        if server.n_failures:
            server.n_failures -= 1
            end = min(end, begin + server.break_after)
        self.wfile.write(body[begin:end])

    def log_message(self, *args):
        pass


@contextmanager
def _serve(files, *, n_failures=0, break_after=0, knows_range=True):
    """Serve `files` (name to bytes); yields the server, with `url` and `requests`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.requests = dict(files), []
    server.n_failures, server.break_after, server.knows_range = n_failures, break_after, knows_range
    server.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def serve(monkeypatch):
    """Return a context manager: ``serve(files, ...)`` runs a server and yields it."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return _serve
