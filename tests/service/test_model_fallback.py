"""The service where the chosen model fails: it runs with the one before, and says so."""

from __future__ import annotations

import logging
from pathlib import Path

import model_shelf
import pytest
from service_bench import Bench, config, started
from test_serve_command import PATIENCE_S, serving, until

from edge import model
from edge.config import Config
from edge.model_store import Pointer, Store
from edge.service import command
from edge.service.messages import Status
from firmware_iface.clock import VirtualClock


@pytest.fixture
def shelf(tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    model_shelf.install(monkeypatch, tmp_path / "shelf")
    return tmp_path / "shelf"


def test_what_fell_back_is_logged_with_fields(shelf: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    bad = [store.add(model_shelf.write(shelf / "bad.tflite", kind)) for kind in ("nan", "blind")]
    store.point(Pointer(current=bad[0], previous=bad[1]))
    network, note = command._network(Config())
    assert network.name == str(model.DEFAULT_PATH)
    first, second = caplog.records
    assert note == f"{first.getMessage()}; {second.getMessage()}"
    assert first.getMessage() == (f"{store.path(bad[0])}: fails its self-check: its output is not finite")
    assert second.getMessage().endswith("of different pictures; the shipped model is used instead")
    for record in (first, second):
        assert record.levelno == logging.WARNING
        assert vars(record)["fields"] == {"EVENT": "model", "MODEL": network.name}


def test_nothing_is_said_where_the_chosen_one_runs(shelf: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    name = store.add(model_shelf.write(shelf / "good.tflite"))
    store.point(Pointer(current=name, previous="default"))
    network, note = command._network(Config())
    assert (network.name, note, caplog.records) == (str(store.path(name)), None, [])


@pytest.mark.parametrize("note", [None, "m.tflite: damaged; the shipped model is used instead"])
def test_the_status_says_it(tmp_path: Path, note: str | None) -> None:
    bench = Bench(tmp_path, config(service={"boot_focus": False}), VirtualClock(), model_note=note)
    with started(bench):
        status = Status.model_validate(bench.until("ready"))
    assert (status.model, status.model_note) == ("oracle", note)


def test_a_process_whose_chosen_model_is_cut_short(tmp_path: Path) -> None:
    """With the real runtime and the shipped model, also as the previous one by its own name."""
    pytest.importorskip("ai_edge_litert", reason="no ai-edge-litert")
    store = Store(tmp_path / "state" / "models")
    previous = store.add(model.DEFAULT_PATH)
    cut = "cut-0123456789ab.tflite"
    (store.folder / cut).write_bytes(model.DEFAULT_PATH.read_bytes()[:-1000])
    store.point(Pointer(current=cut, previous=previous))
    with serving(tmp_path, text="[service]\nboot_focus = false\n") as (process, port):
        status = until(port, "ready")
        assert status["model"] == str(store.path(previous))
        assert status["model_note"].startswith(f"{store.path(cut)}: damaged")
        assert status["model_note"].endswith(f"; {previous} is used instead")
        process.terminate()
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert err.startswith(f"{status['model_note']}\n") or f"\n{status['model_note']}\n" in err
    assert store.pointer().current == cut, "left as it was chosen"
