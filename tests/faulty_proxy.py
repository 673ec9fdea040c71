"""A proxy on loopback before an Ollama, real or stand-in, or a registry, that spoils what it is told to: the way to a server, with its faults."""

from __future__ import annotations

import http.client
import socket
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

PIECE = 65536


@dataclass
class Fault:
    """What befalls the next requests for a path."""

    path: str  # as it begins: /api/create
    method: str = "POST"
    times: int = 1
    delay: float = 0  # seconds before the request goes on
    status: int | None = None  # the proxy's own answer, instead of the server's
    body: bytes = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
    sends: int | None = None  # bytes of the request's body that get to the server; then both sides are cut off
    answers: int | None = None  # bytes of the answer's body that get to us; then we are cut off
    closes: bool = False  # an answer that is cut off ends as if it were whole
    silent: bool = False  # the request goes nowhere, and no answer comes
    before: Callable[[], None] | None = None  # called before the request goes on
    then: Callable[[], None] | None = None  # called when it has come to its point: it is silent, or cut off


class FaultyProxy:
    """Listens at `host`; a context."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.faults: list[Fault] = []
        self.asked: list[tuple[str, str]] = []  # method and path
        self.ended = threading.Event()
        self._http = QuietServer(("127.0.0.1", 0), type("_Bound", (_Handler,), {"proxy": self}))
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def __enter__(self) -> FaultyProxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.ended.set()
        self._http.shutdown()
        self._http.server_close()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._http.server_port}"

    def fault(self, method: str, path: str) -> Fault | None:
        """The fault that befalls this request; it is counted."""
        for fault in self.faults:
            if fault.times and fault.method == method and path.startswith(fault.path):
                fault.times -= 1
                return fault
        return None


class QuietServer(ThreadingHTTPServer):
    """Tells nobody that a client has gone."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def _reset(connection: socket.socket) -> None:
    """Close it at once, as a process that was killed does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultyProxy  # set by each
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def handle_any(self) -> None:
        self.proxy.asked.append((self.command, self.path))
        fault = self.proxy.fault(self.command, self.path) or Fault("")
        self.proxy.ended.wait(fault.delay)
        if fault.before:
            fault.before()
        if fault.silent:
            if fault.then:
                fault.then()
            self.proxy.ended.wait()
            return
        length = int(self.headers.get("Content-Length") or 0)
        if fault.status is not None:
            self.take(length)
            self.send_response(fault.status)
            self.send_header("Content-Length", str(len(fault.body)))
            self.end_headers()
            self.wfile.write(fault.body)
            return
        upstream = http.client.HTTPConnection(self.proxy.upstream)
        try:
            self.pass_on(upstream, fault, length)
        except (OSError, http.client.HTTPException):  # the server is gone, or we are
            self.cut_off()
        finally:
            upstream.close()

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = handle_any  # noqa: N815 - http.server's names

    def cut_off(self) -> None:
        self.close_connection = True
        _reset(self.connection)

    def take(self, length: int) -> bytes:
        return self.rfile.read(length)

    def pass_on(self, upstream: http.client.HTTPConnection, fault: Fault, length: int) -> None:
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            upstream.putheader(name, value)
        upstream.endheaders()
        sent = 0
        while sent < length:
            most = length if fault.sends is None else fault.sends
            piece = self.take(min(PIECE, length - sent, most - sent))
            if not piece:
                if fault.then:
                    fault.then()
                _reset(upstream.sock)
                self.cut_off()
                return
            upstream.send(piece)
            sent += len(piece)
        self.answer(upstream.getresponse(), fault)

    def answer(self, response: http.client.HTTPResponse, fault: Fault) -> None:
        self.send_response(response.status)
        whole = response.getheader("Content-Length")
        for name in ("Content-Type", "Content-Length", "Location", "Range"):
            if (value := response.getheader(name)) is not None and not (fault.closes and name == "Content-Length"):
                self.send_header(name, value)
        chunked = whole is None and not fault.closes
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        left = fault.answers
        while (left is None or left > 0) and (piece := response.read1(PIECE if left is None else min(PIECE, left))):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            left = None if left is None else left - len(piece)
        if left == 0 and fault.answers is not None:
            if fault.then:
                fault.then()
            if not fault.closes:
                self.cut_off()
        elif chunked:
            self.wfile.write(b"0\r\n\r\n")

    def end_headers(self) -> None:
        self.send_header("Connection", "close")
        self.close_connection = True
        super().end_headers()
