"""A proxy on this machine that cuts off its clients in the middle of their work."""

import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any, Literal

Moment = Literal["request", "answer"]
Afterwards = Literal["refuse", "reset", "silent"]

HOST = "127.0.0.1"
NEVER = 10**9
POLL_S = 0.02
CHUNK_BYTES = 2**16
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
ASKS_FIRST = re.compile(rb"\r\nexpect: *100-continue", re.IGNORECASE)
CONNECTION = re.compile(rb"\r\nconnection: *[^\r]*", re.IGNORECASE)


class CutProxy:
    """Passes requests on, one a connection, until it cuts one; then nobody comes through.

    Args:
        port: Of an HTTP server on this machine.

    Attributes:
        requests: First lines of those that have come since the last `cut_at` or `restore`.
        is_cut: Whether the cut has happened.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._lock = threading.Lock()
        self._restored = threading.Event()
        self._own_port = 0
        self._arm(NEVER, "request", "refuse")
        self._open()

    @property
    def url(self) -> str:
        """Address for clients."""
        return f"http://{HOST}:{self._own_port}"

    def cut_at(
        self, number: int, *, moment: Moment = "request", afterwards: Afterwards = "refuse"
    ) -> None:
        """Arm the cut.

        Args:
            number: The request that is cut; the next is 1.
            moment: Half of it has gone through, of its body if it has one; or half of its answer.
            afterwards: New connections are refused, reset, or never answered.
        """
        self._arm(number, moment, afterwards)

    def restore(self) -> None:
        """Let everybody through again, at the same address."""
        was_closed = self.is_cut and self._afterwards == "refuse"
        self._restored.set()
        self._restored = threading.Event()
        self._arm(NEVER, "request", "refuse")
        if was_closed:
            self._open()

    def close(self) -> None:
        """Let nobody in any more."""
        self._restored.set()
        self._shut()

    def _arm(self, number: int, moment: Moment, afterwards: Afterwards) -> None:
        self._number, self._moment, self._afterwards = number, moment, afterwards
        self.requests: list[str] = []
        self.is_cut = False

    def _open(self) -> None:
        self._door = _Door((HOST, self._own_port), self._relay)
        self._own_port = self._door.server_address[1]
        threading.Thread(target=self._door.serve_forever, args=(POLL_S,), daemon=True).start()

    def _shut(self) -> None:
        self._door.shutdown()
        self._door.server_close()

    def _cut(self) -> None:
        self.is_cut = True
        if self._afterwards == "refuse":
            self._shut()

    def _relay(self, client: socket.socket) -> None:
        if self.is_cut:
            if self._afterwards == "silent":
                self._restored.wait()
            return
        head, body = _read_request(client)
        with self._lock:
            self.requests.append(head.partition(b"\r\n")[0].decode())
            moment = self._moment if len(self.requests) == self._number else ""
        with socket.create_connection((HOST, self._server_port)) as server:
            if moment == "request":
                server.sendall(head + body[: len(body) // 2] if body else head[: len(head) // 2])
                self._cut()
                return
            server.sendall(head + body)
            answer = b"".join(iter(lambda: server.recv(CHUNK_BYTES), b""))
        if moment == "answer":
            client.sendall(answer[: len(answer) // 2])
            self._cut()
        elif not self.is_cut:
            client.sendall(answer)
            _reset_on_close(client, False)


class _Door(ThreadingTCPServer):
    """Gives each connection a thread, and resets those left without a whole answer."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], relay: Callable[[socket.socket], None]) -> None:
        super().__init__(address, BaseRequestHandler)
        self._relay = relay

    def finish_request(self, request: Any, client_address: Any) -> None:
        _reset_on_close(request, True)
        with suppress(OSError):
            self._relay(request)

    def shutdown_request(self, request: Any) -> None:
        request.close()


def _reset_on_close(client: socket.socket, is_on: bool) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", is_on, 0))


def _read_request(client: socket.socket) -> tuple[bytes, bytes]:
    """Read a request: its head with the empty line, and its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(client)
    head, end, body = data.partition(b"\r\n\r\n")
    length = LENGTH.search(head)
    head, asks_first = ASKS_FIRST.subn(b"", head)
    if asks_first:
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    while length is not None and len(body) < int(length[1]):
        body += _receive(client)
    return CONNECTION.sub(b"", head) + b"\r\nConnection: close" + end, body


def _receive(client: socket.socket) -> bytes:
    data = client.recv(CHUNK_BYTES)
    if not data:
        raise ConnectionError("the client has gone")
    return data


@contextmanager
def cutting_proxy(port: int) -> Iterator[CutProxy]:
    """Run a proxy before a server."""
    proxy = CutProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
