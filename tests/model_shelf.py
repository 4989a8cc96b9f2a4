"""Model files whose networks work, or fail in one way each, and a runtime that knows them."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_model import BINS, FLATBUFFER, FakeInterpreter, card

from edge import model as models
from edge.card import attach


def _sees(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(-0.05 * (np.array(BINS) - 5 * pixels.mean()) ** 2)


def _flat(pixels: np.ndarray) -> np.ndarray:
    return np.full(len(BINS), 0.7)


def _blind(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(-0.05 * np.array(BINS) ** 2)


def _nan(pixels: np.ndarray) -> np.ndarray:
    return np.full(len(BINS), np.nan)


def _far_out(pixels: np.ndarray) -> np.ndarray:
    return np.asarray(100 * np.sign(np.array(BINS) - 5 * pixels.mean()))


def _raises(pixels: np.ndarray) -> np.ndarray:
    raise RuntimeError("Node number 7 (CONV_2D)\nfailed to invoke")


def _dies(pixels: np.ndarray) -> np.ndarray:
    os.kill(os.getpid(), signal.SIGKILL)
    return _sees(pixels)


def _hangs(pixels: np.ndarray) -> np.ndarray:
    time.sleep(60)
    return _sees(pixels)


NETWORKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sees": _sees,
    "flat": _flat,
    "blind": _blind,
    "nan": _nan,
    "far-out": _far_out,
    "raises": _raises,
    "dies": _dies,
    "hangs": _hangs,
}


def write(path: Path, kind: str = "sees", *, number: int = 0, int8: bool = False) -> Path:
    """A model file at ``path``; another ``number`` gives other bytes."""
    flatbuffer = FLATBUFFER + f"/{kind}/{int8:d}/{number}".encode()
    digest = hashlib.sha256(flatbuffer).hexdigest()
    path.write_bytes(attach(flatbuffer, card(flatbuffer_sha256=digest, name=f"{kind} {number}")))
    return path


def install(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make the fake runtime the only one, and a model of ``folder`` the shipped one."""

    def interpreter(*, model_content: bytes, num_threads: int) -> FakeInterpreter:
        kind, int8, _ = model_content.removeprefix(FLATBUFFER + b"/").decode().split("/")
        made = {"network": staticmethod(NETWORKS[kind]), "dtype": np.int8 if int8 == "1" else np.float32}
        kind_of = type("Interpreter", (FakeInterpreter,), made)
        return kind_of(model_content=FLATBUFFER, num_threads=num_threads)

    module = types.ModuleType("fake_runtime")
    module.Interpreter = interpreter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "fake_runtime", module)
    monkeypatch.setattr(models, "RUNTIMES", (("fake_runtime", "Interpreter"),))
    folder.mkdir(parents=True)
    monkeypatch.setattr(models, "DEFAULT_PATH", write(folder / "default.tflite", number=1000))
