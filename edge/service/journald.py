"""Log records to the systemd journal, with their fields; to stderr where a terminal or a file is listening.

The journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): a datagram of ``FIELD=value`` lines; a
value with a line break is sent with its length before it. So `journalctl -u parfocal -o json` and
`journalctl PARFOCAL_EVENT=run` work without reading text.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import sys
from pathlib import Path

__all__ = ["JournalHandler", "begin", "listened_to"]

SOCKET = Path("/run/systemd/journal/socket")
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG = 7


def begin(level: int = logging.INFO) -> None:
    """Send all log records of this process to the journal, where it listens, and else to stderr."""
    handler: logging.Handler = JournalHandler() if listened_to() else logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def listened_to() -> bool:
    """Whether this process's stderr is the journal: systemd then says which stream it is."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        state = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return (device, inode) == (str(state.st_dev), str(state.st_ino))


class JournalHandler(logging.Handler):
    """``log.info("text", extra={"fields": {"EVENT": "run"}})`` becomes MESSAGE and PARFOCAL_EVENT.

    What the journal does not take (it is down, the datagram too large) goes to stderr, which is the journal
    too, line by line.
    """

    def __init__(self, path: Path = SOCKET) -> None:
        super().__init__()
        self._path = path
        self._link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            fields = {
                "MESSAGE": text,
                "PRIORITY": str(next((p for level, p in _PRIORITIES if record.levelno >= level), _DEBUG)),
                "SYSLOG_IDENTIFIER": "parfocal",
                "LOGGER": record.name,
                "CODE_FILE": record.pathname,
                "CODE_LINE": str(record.lineno),
                "CODE_FUNC": record.funcName or "",
            }
            own = getattr(record, "fields", {})
            fields |= {f"PARFOCAL_{name}": str(value) for name, value in own.items() if value is not None}
            try:
                self._link.sendto(encoded(fields), str(self._path))
            except OSError:
                print(text, file=sys.stderr, flush=True)
        except Exception:  # noqa: BLE001 - logging must not end what it tells of
            self.handleError(record)

    def close(self) -> None:
        self._link.close()
        super().close()


def encoded(fields: dict[str, str]) -> bytes:
    """One entry in the journal's native form."""
    parts = []
    for name, value in fields.items():
        data = value.encode("utf-8", "replace")
        if b"\n" in data:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(name.encode() + b"=" + data + b"\n")
    return b"".join(parts)
