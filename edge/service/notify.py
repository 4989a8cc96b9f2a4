"""What systemd is told: ready, alive, stopping. Without systemd every call does nothing.

The protocol is sd_notify(3): one datagram to the socket that $NOTIFY_SOCKET names. The watchdog is fed by
whoever has just done good work, never by a timer: a loop that hangs must be noticed.
"""

from __future__ import annotations

import contextlib
import os
import socket

from firmware_iface.clock import Clock

__all__ = ["Watchdog", "notify"]


def notify(*assignments: str) -> bool:
    """Send ``assignments`` such as ``READY=1`` and ``STATUS=...``; whether there was anybody to send them to.

    Does not block for longer than a full socket of systemd's makes it, and never raises.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):  # Linux' abstract names begin with a zero byte
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.connect(address)
        link.sendall("\n".join(assignments).encode())
        return True
    return False


class Watchdog:
    """Says that work goes on, `fed` after each piece of it, but not more than a few times per interval."""

    def __init__(self, clock: Clock) -> None:
        usec = os.environ.get("WATCHDOG_USEC", "")
        self._interval_s = int(usec) / 1e6 / 4 if usec.isdecimal() else None
        self._clock, self._last_s = clock, -float("inf")

    def fed(self) -> None:
        """Good work was done just now. Cheap enough for every poll of a move."""
        now_s = self._clock.now_s()
        if self._interval_s is not None and now_s - self._last_s >= self._interval_s:
            self._last_s = now_s
            notify("WATCHDOG=1")
