"""A server that speaks S3, on this machine."""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest

from tests.ports import free_port


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Start a server of objects in memory; give its address."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto")
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(address, timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        server.terminate()
        server.wait()
