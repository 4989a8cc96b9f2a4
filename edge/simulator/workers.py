"""Work spread over processes, which an interrupt ends soon and without a word from the processes.

A job says by itself what it does: the number of processes, and which of them takes it, must not matter.

Ctrl-C in a terminal reaches every process of the group. The workers never see it: they are started while
it is blocked, and a new process inherits that. This process hears it, asks the workers to stop, and waits
for them, so that nobody writes any more into a folder that is about to be removed. A job that takes long
asks `asked_to_stop` now and then.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from typing import TypeVar

__all__ = ["asked_to_stop", "spread"]

Job = TypeVar("Job")
Result = TypeVar("Result")

#: In a worker: what this process's parent sets when the work is to end. Empty in every other process.
_stop: list[Event] = []


def spread(
    work: Callable[[Job], Result], jobs: Sequence[Job], processes: int
) -> Generator[Result, None, None]:
    """The results of ``work``, a function of a module, as they are done: in no order.

    With one process it runs in this one, in order. What ends the iteration early ends the work (close the
    generator!): jobs not begun are dropped, those begun are waited for. Raises what ``work`` raises,
    ChildProcessError where a worker died (killed for its memory, say), ValueError for fewer than one process.
    """
    if processes < 1:
        raise ValueError(f"processes = {processes}: 1 or more is allowed")
    processes = min(processes, len(jobs))
    if processes <= 1:
        yield from map(work, jobs)
        return
    context = get_context(
        "spawn"
    )  # a fork would copy the threads' locks of the libraries without the threads
    stop = context.Event()
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_listen, initargs=(stop,))
    try:
        with _ctrl_c_held_back():
            running = [pool.submit(work, job) for job in jobs]
        for done in as_completed(running):
            yield done.result()
    except BrokenProcessPool as error:
        raise ChildProcessError("a worker process died; for lack of memory, perhaps") from error
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def asked_to_stop() -> bool:
    """In a worker: whether the rest of the job is of no use any more. False in any other process."""
    return any(event.is_set() for event in _stop)


def _listen(stop: Event) -> None:
    _stop.append(stop)


@contextlib.contextmanager
def _ctrl_c_held_back() -> Iterator[None]:
    """Ctrl-C comes after the block, to this thread; a process or thread started within never gets it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
