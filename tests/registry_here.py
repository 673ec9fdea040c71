"""A registry of models that lets nobody in whose namespace it is not, which a real one without a service of tokens can't be made to do."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler

from faulty_proxy import QuietServer

DENIED = {"errors": [{"code": "DENIED", "message": "requested access to the resource is denied"}]}


class RefusingRegistry:
    def __init__(self) -> None:
        self._http = QuietServer(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        """It has no blob."""
        self.send_response(404)
        self.end_headers()

    def do_POST(self) -> None:
        """Nobody may begin to send one."""
        self.send_response(403)
        self.end_headers()
        self.wfile.write(json.dumps(DENIED).encode())
