"""One check, kept from stopping the others: in a process of its own, for a limited time.

A camera library may hang in the kernel and an extension module built for another NumPy may abort; neither
can be caught in the process that it happens in. The child is forked, so it starts at once and with
everything imported.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import IO

from edge.doctor.finding import Finding, error

__all__ = ["Guard", "isolated", "told"]

#: Runs a check for at most so many seconds and gives what it found, or what became of it.
Guard = Callable[[Callable[[], Finding], float], Finding]

_GRACE_S = 1.0
"""Time to close a camera or give pins back, once asked to end."""
_STUCK = "something hangs: unplug what is checked here and plug it in again, or restart the computer"
_BROKEN = "a library is broken, or was built for another version of NumPy: see the line `packages`"
_NOBODY_EXPECTED = "report this, with the output of `parfocal doctor --json`"


def isolated(check: Callable[[], Finding], limit_s: float) -> Finding:
    """``check()`` in a child process. BLOCKS up to ``limit_s`` and 2 s. An error for one that hangs, crashes
    or raises.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryFile() as said, receiver:
        child = context.Process(target=_in_child, args=(check, sender, said), daemon=True)
        with warnings.catch_warnings():
            # Python 3.12 warns of threads, which NumPy's linear algebra has; nothing here waits for them.
            warnings.simplefilter("ignore", DeprecationWarning)
            child.start()
        try:
            sender.close()
            if receiver.poll(limit_s):
                finding: Finding = receiver.recv()
                return finding
            child.terminate()
            return error(f"no answer in {limit_s:g} s", _STUCK)
        except EOFError:
            child.join(_GRACE_S)
            return error(f"it took its process down{_signal(child.exitcode)}{_last_line(said)}", _BROKEN)
        except BaseException:  # Ctrl-C: whoever is in there gives back what it holds
            child.terminate()
            raise
        finally:
            child.join(_GRACE_S)
            if child.is_alive():
                child.kill()
                child.join(_GRACE_S)


def told(check: Callable[[], Finding]) -> Finding:
    """``check()``, or an error that says what it raised."""
    try:
        return check()
    except Exception as problem:  # noqa: BLE001 - whatever it is, it is a finding, and the others go on
        return error(f"{type(problem).__name__}: {problem}", _NOBODY_EXPECTED)


def _in_child(check: Callable[[], Finding], sender: Connection, said: IO[bytes]) -> None:
    # Camera libraries talk on both; the parent shows the last line where there is nothing better.
    os.dup2(said.fileno(), 1)
    os.dup2(said.fileno(), 2)
    with contextlib.suppress(KeyboardInterrupt):  # SIGTERM, by way of `edge.cli`: every `finally` has run
        sender.send(told(check))


def _signal(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return ""
    return f" ({signal.Signals(-exitcode).name})"


def _last_line(said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read().decode("utf-8", "replace").strip().splitlines()
    return f": {lines[-1].strip()}" if lines else ""
