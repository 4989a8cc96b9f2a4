"""Work spread over processes with Dask: those of this machine, or any scheduler by its address."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from edge.errors import InputError, one_line

Job = TypeVar("Job")
Result = TypeVar("Result")
#: Jobs handed out per process ahead of the one that is waited for; results beyond it would fill the memory.
_AHEAD = 4
_PATIENCE_S = 10
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
#: Of each process here; without Dask's own MALLOC_TRIM_THRESHOLD_, which gives every freed image back to the
#: system, page by page: the simulator then takes two to three times as long.
_ENVIRONMENT = dict.fromkeys(_ONE_THREAD, 1)


class Pool:
    """``map`` gives results in the order of the jobs; the number of processes does not change them."""

    def __init__(self, client: Any = None) -> None:
        self._client = client

    def map(self, function: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """``function`` of each job. An error of a job is raised here, with the type it had there."""
        if self._client is None:
            yield from map(function, jobs)
            return
        waiting: deque[Any] = deque()
        most = _AHEAD * max(1, len(self._client.ncores()))
        try:
            for job in jobs:
                waiting.append(self._client.submit(function, job, pure=False))
                if len(waiting) >= most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            self._client.cancel(list(waiting))


def default_processes() -> int:
    """As many as there are processors."""
    return os.cpu_count() or 1


@contextlib.contextmanager
def opened(scheduler: str | None = None, *, processes: int | None = None) -> Iterator[Pool]:
    """A pool on a Dask ``scheduler`` (such as ``tcp://host:8786``), else on ``processes`` of this machine.

    Where ``processes`` is None there are as many as processors; 1 works in this process. Raises InputError
    where no scheduler answers.
    """
    count = processes or default_processes()
    if scheduler is None and count == 1:
        yield Pool()
        return
    import dask
    import distributed

    make: Any = distributed  # it has no type information for these two

    # Nothing listens but on this machine, and a worker that dies takes its job to another one.
    settings = {
        "distributed.logging.distributed": "error",
        "distributed.worker.daemon": True,
        "distributed.nanny.pre-spawn-environ": _ENVIRONMENT,
    }
    with dask.config.set(settings), contextlib.ExitStack() as until_done:
        if scheduler is None:
            local = make.LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                silence_logs=50,
            )
            client = make.Client(until_done.enter_context(local))
        else:
            try:
                client = make.Client(scheduler, timeout=_PATIENCE_S)
            except (OSError, TimeoutError, ValueError) as error:
                raise InputError(
                    f"--scheduler {scheduler}: no Dask scheduler answers: {one_line(error)}"
                ) from error
        yield Pool(until_done.enter_context(client))
