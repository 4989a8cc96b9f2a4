"""A thread that must be on time among threads and programs that need not.

A thread of Python wakes up twice: the system has to give it a processor, and whoever runs Python code at the
moment has to give it the interpreter, which by default takes 5 ms. So a neighbour that computes in Python
would make a motor thread late by 5 ms and more at every step, and a limit switch seen as much too late.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH_INTERVAL_S = 0.0001
"""After how long (s) a thread that runs Python code has to let an urgent one have the interpreter."""

_log = logging.getLogger(__name__)
_lock = threading.Lock()
_urgent_threads = 0
_usual_interval_s = 0.0


@contextmanager
def urgent() -> Iterator[None]:
    """Within the block the calling thread comes first, as far as this process is permitted; never fails.

    For all threads of the process, until the last such block ends: the interpreter changes hands every
    ``SWITCH_INTERVAL_S``. For the calling thread, on Linux with the right to it (root, CAP_SYS_NICE, or a
    limit for real-time priority of at least 1): scheduling policy FIFO at its lowest priority, before every
    ordinary thread of the machine. So the block must mostly sleep.
    """
    _enter()
    try:
        first = _come_first()
        try:
            yield
        finally:
            if first:
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    finally:
        _leave()


def _enter() -> None:
    global _urgent_threads, _usual_interval_s
    with _lock:
        if _urgent_threads == 0:
            _usual_interval_s = sys.getswitchinterval()
            sys.setswitchinterval(min(_usual_interval_s, SWITCH_INTERVAL_S))
        _urgent_threads += 1


def _leave() -> None:
    global _urgent_threads
    with _lock:
        _urgent_threads -= 1
        if _urgent_threads == 0:
            sys.setswitchinterval(_usual_interval_s)


def _come_first() -> bool:
    """Whether the calling thread was ordinary and is a real-time one now."""
    try:
        # 0 is the calling thread. One that its owner has put under another policy is left alone.
        if os.sched_getscheduler(0) != os.SCHED_OTHER:
            return False
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(os.sched_get_priority_min(os.SCHED_FIFO)))
    except (AttributeError, OSError) as error:
        _log.debug("no real-time priority: %s", error)
        return False
    return True
