"""What every test gets: a virtual clock, the command line, and the promise that no test leaves a thread."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import oracle
import pytest
from fake_machine import Computer
from hypothesis import settings
from oracle import Oracle, Parfocal

from edge import cli
from edge.simulator.stacks import Plan, write_stacks
from firmware_iface.clock import VirtualClock

# The same examples in every run, so that a red run is about the change and not about luck.
# HYPOTHESIS_PROFILE=explore draws new ones, and many more of them.
settings.register_profile("same", deadline=None, derandomize=True, max_examples=100)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# A shell that runs the tests in the background has them ignore Ctrl-C, and every program they start, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

_PATIENCE_S = 1.0


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Fail the test that leaves a Python thread running, daemon or not; one about to end may do so."""
    before = set(threading.enumerate())
    yield
    deadline_s = time.monotonic() + _PATIENCE_S
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(max(0.0, deadline_s - time.monotonic()))
    alive = [thread.name for thread in left if thread.is_alive()]
    assert not alive, f"this test left threads running: {', '.join(alive)}"


@pytest.fixture(scope="session", autouse=True)
def cache_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Simulated fields are computed once a session, and the user's own cache is left alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARFOCAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def state_of_this_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The models that the user of this computer has chosen for it are left alone, and are not used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data is prepared in this process: starting others takes longer, and Dask leaves threads behind."""
    monkeypatch.setattr("train.pool.default_processes", lambda: 1)


@pytest.fixture
def clock() -> VirtualClock:
    """A virtual clock at 0 s."""
    return VirtualClock()


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where journals go."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    """A Raspberry Pi 4, for `parfocal doctor`."""
    return Computer(tmp_path / "root", "Raspberry Pi 4 Model B Rev 1.5")


@pytest.fixture
def parfocal(capsys: pytest.CaptureFixture[str]) -> Parfocal:
    """The command line in this process."""

    def run(*words: object) -> tuple[int, str, str]:
        code = cli.main([str(word) for word in words])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Oracle:
    """An oracle where the commands would load a model."""
    return oracle.install(monkeypatch)


@pytest.fixture(scope="session")
def one_stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated z-stack, not to be changed: nine planes a depth of field apart, focus on plane 4."""
    folder = tmp_path_factory.mktemp("stacks") / "made"
    write_stacks(Plan(stacks=1, planes=9, range_dof=4, size_px=128, seed=4), folder)
    return folder / "stack000"


@pytest.fixture
def stack(one_stack: Path, tmp_path: Path) -> Path:
    """A copy of `one_stack` that a test may spoil."""
    return Path(shutil.copytree(one_stack, tmp_path / "stack"))
