"""What tests on other machines, emulated or in a container, share: skips without tools, trees built once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest


def need(what: str, lacks: Sequence[str], variable: str = "PARFOCAL_VM") -> None:
    """Skip the test where something is lacking, saying what; fail it where ``variable`` is "require"."""
    if not lacks:
        return
    reason = f"no {what} without {', '.join(lacks)}"
    if os.environ.get(variable) == "require":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def built_once(name: str, recipe: str, build: Callable[[Path], None]) -> Path:
    """A folder under the user's cache that ``build`` has filled, one for each ``recipe``. BLOCKS.

    ``build`` is given a path where nothing is; what it leaves there takes its name only when it returns. One
    process builds at a time.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    made = cache / "parfocal" / f"{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:16]}"
    made.parent.mkdir(parents=True, exist_ok=True)
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            unfinished = made.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            build(unfinished)
            unfinished.rename(made)
    return made
