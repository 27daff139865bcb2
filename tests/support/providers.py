"""A conference service of the outside world: a real HTTP server on a loopback port, as good or as bad as a test wants."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Received:
    """One request to the service."""

    headers: dict[str, str]
    body: dict[str, Any]


def good(received: Received) -> tuple[int, bytes]:
    """A link that names the booking."""
    return 200, json.dumps({"url": f"https://calls.example.com/{received.body['bookingId']}"}).encode()


class ProviderServer:
    """Answers each POST with what `behaviour` makes of it: a status and a body, `None` for a cut connection."""

    def __init__(self, behaviour: Callable[[Received], tuple[int, bytes] | None] = good) -> None:
        self.requests: list[Received] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                received = Received(dict(self.headers), json.loads(self.rfile.read(length)))
                outer.requests.append(received)
                answer = behaviour(received)
                if answer is None:
                    self.connection.close()
                    return
                status, body = answer
                self.send_response(status)
                if status in {301, 302, 307}:
                    self.send_header("Location", "https://calls.example.com/elsewhere")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                return

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/links"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
