"""A port that nobody uses just now."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A free TCP port of the loopback address."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])
