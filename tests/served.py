"""A folder behind a server of files like any other."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def server(folder: Path, types: dict[str, str] | None = None) -> ThreadingHTTPServer:
    """A server of files like any other, or one that calls some endings something else."""

    class Quiet(SimpleHTTPRequestHandler):
        extensions_map = {
            **SimpleHTTPRequestHandler.extensions_map,
            ".wasm": "application/wasm",
            **(types or {}),
        }

        def log_message(self, *arguments: object) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))


@contextmanager
def served(folder: Path, types: dict[str, str] | None = None) -> Iterator[str]:
    with server(folder, types) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{running.server_port}"
        finally:
            running.shutdown()
