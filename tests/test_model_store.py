"""The models of a device: chosen, taken back, fallen back from; and whenever the power goes, whole."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import model_shelf
import msgspec
import numpy as np
import oracle
import pytest
from oracle import Parfocal

from edge import cli, model, model_command, model_store, rig
from edge.card import Adapted
from edge.config import Config, override
from edge.errors import ModelError
from edge.model_store import KEPT, Pointer, Store, open_chosen, open_model
from edge.model_trial import Trial
from edge.record import plain
from edge.self_check import pictures, self_check

SAYS = {
    "flat": "each defocus is as likely to it as the others",
    "blind": "it says the same of different pictures",
    "nan": "its output is not finite",
    "raises": "fake_runtime fails on a tile: Node number 7 (CONV_2D) failed to invoke",
}


@pytest.fixture
def shelf(tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for model files, and a runtime that runs them."""
    model_shelf.install(monkeypatch, tmp_path / "shipped")
    folder = tmp_path / "shelf"
    folder.mkdir()
    return folder


def chosen(state: Path) -> tuple[str, str | None]:
    pointer = Store(state / "models").pointer()
    return pointer.current, pointer.previous


def content(state: Path) -> dict[str, bytes]:
    """The files of the store by name."""
    return {path.name: path.read_bytes() for path in (state / "models").glob("*")}


def use(parfocal: Parfocal, file: object) -> str:
    """`parfocal model use`; the name that is then the current one."""
    code, out, err = parfocal("model", "use", file)
    assert code == 0, err
    assert out.startswith("in use: ")
    return Store().pointer().current


class TestSelfCheck:
    def test_pictures_are_always_the_same_and_differ(self) -> None:
        first, second = pictures(32), pictures(32)
        assert first.tobytes() == second.tobytes()
        assert first.shape == (3, 32, 32, 3)
        assert first.dtype == np.float32
        assert -1 <= first.min() < -0.5 < 0.5 < first.max() <= 1
        assert all(np.abs(first[a] - first[b]).mean() > 0.05 for a, b in ((0, 1), (1, 2), (0, 2)))
        assert np.ptp(first, axis=3).max() > 0.05, "grey"

    @pytest.mark.parametrize("int8", [False, True])
    def test_a_network_that_sees(self, shelf: Path, int8: bool) -> None:
        loaded = model.load(model_shelf.write(shelf / "m.tflite", int8=int8))
        ticks = iter(np.arange(0, 10, 0.25))
        assert self_check(loaded, clock=lambda: float(next(ticks))) == 0.25

    @pytest.mark.parametrize(("kind", "said"), SAYS.items())
    def test_a_network_that_does_not(self, shelf: Path, kind: str, said: str) -> None:
        path = model_shelf.write(shelf / "m.tflite", kind)
        with pytest.raises(ModelError) as caught:
            self_check(model.load(path))
        assert str(caught.value) == f"{path}: fails its self-check: {said}"

    def test_outputs_that_are_all_at_an_end_of_int8(self, shelf: Path) -> None:
        self_check(model.load(model_shelf.write(shelf / "f.tflite", "far-out")))
        loaded = model.load(model_shelf.write(shelf / "m.tflite", "far-out", int8=True))
        assert loaded.logit_range == pytest.approx((-13.1, 12.4))
        with pytest.raises(ModelError, match="each of its outputs is at an end of int8"):
            self_check(loaded)

    def test_the_fastest_tile_counts(self, shelf: Path) -> None:
        loaded = model.load(model_shelf.write(shelf / "m.tflite"))
        times = [0.0, 9.0, 9.0, 9.5, 9.5, 15.0]
        ticks = iter(times)
        assert self_check(loaded, clock=lambda: next(ticks)) == 0.5
        ticks = iter([0.0, 9.0, 9.0, 10.5, 10.5, 15.0])
        with pytest.raises(ModelError, match=r"1\.5 s a tile, at most 1 s is allowed"):
            self_check(loaded, clock=lambda: next(ticks))

    def test_the_shipped_network(self) -> None:
        pytest.importorskip("ai_edge_litert", reason="no ai-edge-litert")
        assert 0 < self_check(model.load("default")) < 1


class TestUse:
    def test_use_and_rollback(self, parfocal: Parfocal, shelf: Path, state: Path) -> None:
        first = use(parfocal, model_shelf.write(shelf / "my slides.tflite", number=1))
        assert first.startswith("my-slides-")
        assert chosen(state) == (first, "default")
        second = use(parfocal, model_shelf.write(shelf / "b.tflite", number=2))
        assert chosen(state) == (second, first)
        code, out, err = parfocal("model", "rollback")
        assert (code, out) == (0, f"in use: {first} (sees 1, 2025-01-01); before: {second}\n")
        assert "systemctl restart parfocal" in err
        assert chosen(state) == (first, second)
        assert use(parfocal, "default") == "default"
        assert chosen(state) == ("default", first)
        assert use(parfocal, second) == second, "by the name that `list` prints"
        assert content(state)[second] == (shelf / "b.tflite").read_bytes()

    def test_the_same_again_changes_nothing(self, parfocal: Parfocal, shelf: Path, state: Path) -> None:
        path = model_shelf.write(shelf / "a.tflite")
        first = use(parfocal, path)
        before = content(state)
        assert use(parfocal, path) == first
        assert use(parfocal, path.rename(shelf / "other.tflite")) == first
        assert use(parfocal, first) == first
        assert content(state) == before

    def test_a_damaged_copy_is_made_anew(self, parfocal: Parfocal, shelf: Path, state: Path) -> None:
        path = model_shelf.write(shelf / "a.tflite")
        name = use(parfocal, path)
        (state / "models" / name).write_bytes(b"rot")
        code, _, err = parfocal("model", "use", name)
        assert (code, err) == (
            2,
            f"parfocal: {state / 'models' / name}: damaged: not the file that was stored (SHA-256 differs)\n",
        )
        assert use(parfocal, path) == name
        assert content(state)[name] == path.read_bytes()

    @pytest.mark.parametrize("kind", [*SAYS, "far-out", "dies", "hangs"])
    def test_one_that_fails_is_refused(
        self,
        kind: str,
        parfocal: Parfocal,
        shelf: Path,
        state: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(model_command, "_CHECK_S", 0.5 if kind == "hangs" else 20.0)
        said = {
            **SAYS,
            "far-out": "each of its outputs is at an end of int8: the network was quantized badly",
            "dies": "it took its process down (SIGKILL)",
            "hangs": "no answer in 0.5 s",
        }[kind]
        use(parfocal, model_shelf.write(shelf / "a.tflite"))
        before = content(state)
        path = model_shelf.write(shelf / "bad.tflite", kind, int8=kind == "far-out")
        code, out, err = parfocal("model", "use", path)
        assert (code, out) == (2, "")
        assert err.startswith(f"parfocal: {path}: fails its self-check: {said}")
        assert err.count("\n") == 1
        assert content(state) == before

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (b"no", "not a TFLite file"),
            (None, "no such model file"),
            ("half", "no card: truncated"),
            ("flipped", "damaged"),
        ],
    )
    def test_one_that_is_no_model(
        self, data: object, said: str, parfocal: Parfocal, shelf: Path, state: Path
    ) -> None:
        path = model_shelf.write(shelf / "a.tflite")
        whole = path.read_bytes()
        path.unlink()
        flipped = whole[:40] + bytes([whole[40] ^ 1]) + whole[41:]
        made = {"half": whole[: len(whole) // 2], "flipped": flipped}.get(str(data), data)
        if isinstance(made, bytes):
            path.write_bytes(made)
        code, out, err = parfocal("model", "use", path)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"parfocal: {path}: " in err
        assert said in err
        assert not (state / "models").exists()

    def test_a_name_that_is_none(self, parfocal: Parfocal, shelf: Path, state: Path) -> None:
        name = use(parfocal, model_shelf.write(shelf / "a.tflite"))
        code, out, err = parfocal("model", "use", "nope")
        assert (code, out) == (2, "")
        assert err == f"parfocal: nope: neither a model file nor one of {name}, default\n"

    def test_a_file_that_changes_while_it_is_copied(
        self, parfocal: Parfocal, shelf: Path, state: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = model_shelf.write(shelf / "a.tflite")
        add = Store.add

        def late(store: Store, source: Path) -> str:
            model_shelf.write(source, "nan")
            return add(store, source)

        monkeypatch.setattr(Store, "add", late)
        code, _, err = parfocal("model", "use", path)
        assert code == 2
        assert "was changed while it was copied" in err
        assert chosen(state) == ("default", None)

    def test_old_files_go_but_not_those_in_use(self, parfocal: Parfocal, shelf: Path, state: Path) -> None:
        first = use(parfocal, model_shelf.write(shelf / "first.tflite", number=99))
        os.utime(state / "models" / first, (1, 1))
        store = Store()
        added = []
        for number in range(KEPT + 4):
            added.append(store.add(model_shelf.write(shelf / f"m{number}.tflite", number=number)))
            os.utime(state / "models" / added[-1], (10 + number, 10 + number))
        (state / "models" / "notes.tflite").write_text("not of this store")
        second = use(parfocal, model_shelf.write(shelf / "second.tflite", number=98))
        kept = {name for name in content(state) if name.endswith(".tflite")}
        assert kept == {first, second, "notes.tflite", *added[-KEPT:]}

    def test_a_folder_that_cannot_be(self, parfocal: Parfocal, shelf: Path, state: Path) -> None:
        state.mkdir()
        (state / "models").write_text("a file")
        code, _, err = parfocal("model", "use", model_shelf.write(shelf / "a.tflite"))
        assert (code, err.count("\n")) == (2, 1)
        assert f"{state / 'models'}" in err

    def test_a_folder_that_takes_no_file(self, parfocal: Parfocal, shelf: Path, state: Path) -> None:
        (state / "models" / "lock").mkdir(parents=True)
        code, out, err = parfocal("model", "use", model_shelf.write(shelf / "a.tflite"))
        assert (code, out) == (2, "")
        assert err == f"parfocal: {state / 'models'}: cannot be written to: Is a directory\n"
        assert chosen(state) == ("default", None)

    def test_what_a_power_cut_left_is_swept_up(self, parfocal: Parfocal, shelf: Path, state: Path) -> None:
        folder = state / "models"
        folder.mkdir(parents=True)
        (folder / ".new-0123456789ab.tflite.0123456789ab.tmp").write_bytes(b"half")
        name = use(parfocal, model_shelf.write(shelf / "a.tflite"))
        assert set(content(state)) == {name, "chosen.json", "lock"}

    def test_a_configuration_that_names_a_file(self, parfocal: Parfocal, shelf: Path, tmp_path: Path) -> None:
        own = model_shelf.write(shelf / "own.tflite", number=5)
        config = tmp_path / "scope.toml"
        config.write_text(f'[model]\npath = "{own}"\n')
        other = model_shelf.write(shelf / "a.tflite")
        code, _, err = parfocal("model", "use", other, "--config", config)
        assert code == 0
        assert f'[model] path = "{own}" in {config} comes first' in err
        loaded, notes = open_model(override(Config(), "test", model={"path": str(own)}))
        assert (loaded.name, notes) == (str(own), [])

    def test_the_file_of_what_is_named(self, parfocal: Parfocal, shelf: Path, state: Path) -> None:
        def named(path: str) -> Path:
            return model_store.path_of(override(Config(), "test", model={"path": path}))

        assert named("chosen") == named("default") == model.DEFAULT_PATH
        name = use(parfocal, model_shelf.write(shelf / "own.tflite"))
        assert named("chosen") == state / "models" / name
        assert named("default") == model.DEFAULT_PATH
        assert named("other.tflite") == Path("other.tflite")
        (state / "models" / "chosen.json").write_text("{")
        with pytest.raises(ModelError, match=r"chosen\.json: damaged"):
            named("chosen")


class TestRollback:
    def test_without_a_previous_one(self, parfocal: Parfocal, shelf: Path) -> None:
        assert parfocal("model", "rollback") == (
            2,
            "",
            "parfocal: there is no model to go back to: none was used before\n",
        )

    def test_to_one_that_fails(self, parfocal: Parfocal, shelf: Path, state: Path) -> None:
        bad = Store().add(model_shelf.write(shelf / "bad.tflite", "nan"))
        good = use(parfocal, model_shelf.write(shelf / "good.tflite"))
        Store().point(Pointer(current=good, previous=bad))
        code, out, err = parfocal("model", "rollback")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "its output is not finite" in err
        assert chosen(state) == (good, bad)


class TestList:
    def test_as_text(self, parfocal: Parfocal, shelf: Path) -> None:
        name = use(parfocal, model_shelf.write(shelf / "a.tflite", number=3))
        bad = Store().add(model_shelf.write(shelf / "b.tflite", number=4))
        (Store().folder / bad).write_bytes(b"rot")
        code, out, err = parfocal("model", "list")
        assert (code, err) == (0, "")
        lines = out.splitlines()
        assert lines[0] == "current  " + name
        size_kb = Store().path(name).stat().st_size / 1000
        about = "sees 3, 2025-01-01, held out: mean error 0.5 depths of field"
        assert lines[1] == f"         {size_kb:.0f} kB, {about}"
        assert lines[2] == "         nothing"
        assert "previous default" in lines
        assert f"         {bad}" in lines
        assert lines[-1].strip().startswith(str(Store().folder / bad) + ": damaged")

    def test_as_json(self, parfocal: Parfocal, shelf: Path) -> None:
        name = use(parfocal, model_shelf.write(shelf / "a.tflite", number=3))
        found = json.loads(parfocal("model", "list", "--json")[1])
        assert (found["current"], found["previous"], found["problem"]) == (name, "default", None)
        by_name = {about["name"]: about for about in found["models"]}
        assert set(by_name) == {name, "default"}
        about = by_name[name]
        assert about["mark"] == "current"
        assert about["bytes"] == Path(about["file"]).stat().st_size
        said = [about[key] for key in ("card", "trained_on", "trained_at", "adapted")]
        assert said == ["sees 3", "nothing", "2025-01-01", None]
        assert about["metrics"] == {"int8": {"mae_dof": 0.5}}
        assert by_name["default"]["file"] == str(model.DEFAULT_PATH)

    def test_a_card_that_says_what_was_adapted(self, shelf: Path) -> None:
        about = model_command._about(Store(), "default", Pointer())
        assert not [line for line in model_command._lines(about) if "adapted" in line]
        stack = {"name": "one", "sha256": "b" * 64, "planes": 21, "focus_um": 1.0, "focus_measured": False}
        record = msgspec.convert(
            {
                "parent": "parfocal-default", "parent_sha256": "a" * 64, "at": "2026-01-01",
                "stacks": [stack], "held_out": "half", "fields": 2, "frames": 42, "tiles": 300,
                "strength": 2.5,
                "before": {"median_dof": 1.5, "wrong_direction": 0.25},
                "after": {"median_dof": 0.5, "wrong_direction": 0.0},
            },
            Adapted,
        )  # fmt: skip
        about["adapted"] = plain(record)
        assert model_command._lines(about)[-1].strip() == (
            "adapted from parfocal-default (aaaaaaaaaaaa); on 42 frames left out: median error 1.50 to 0.50"
            " depths of field, wrong direction 25.0 to 0.0 %"
        )

    def test_before_anything_was_chosen(self, parfocal: Parfocal, shelf: Path, state: Path) -> None:
        code, out, _ = parfocal("model", "list")
        assert code == 0
        assert out.startswith("current  default\n         shipped, ")
        assert not state.exists(), "looking makes nothing"


class TestOpen:
    def test_the_shipped_one_until_another_is_chosen(self, parfocal: Parfocal, shelf: Path) -> None:
        loaded, notes = open_model(Config())
        assert (loaded.name, notes) == (str(model.DEFAULT_PATH), [])
        name = use(parfocal, model_shelf.write(shelf / "a.tflite"))
        loaded, notes = open_model(override(Config(), "test", model={"threads": 3}))
        assert (loaded.name, notes) == (str(Store().path(name)), [])
        assert loaded._interpreter.threads == 3

    def test_default_and_benches_take_the_shipped_one(self, parfocal: Parfocal, shelf: Path) -> None:
        use(parfocal, model_shelf.write(shelf / "a.tflite"))
        shipped = str(model.DEFAULT_PATH)
        assert open_model(override(Config(), "test", model={"path": "default"}))[0].name == shipped
        assert model.load(Config().model.path).name == shipped

    def test_the_previous_one_where_the_current_fails(self, parfocal: Parfocal, shelf: Path) -> None:
        good = use(parfocal, model_shelf.write(shelf / "good.tflite"))
        bad = Store().add(model_shelf.write(shelf / "bad.tflite", "nan"))
        Store().point(Pointer(current=bad, previous=good))
        loaded, notes = open_chosen(Store())
        assert loaded.name == str(Store().path(good))
        assert notes == [
            f"{Store().path(bad)}: fails its self-check: its output is not finite; {good} is used instead"
        ]
        assert Store().pointer().current == bad, "left as it was chosen"

    @pytest.mark.parametrize("harm", ["gone", "cut", "swapped"])
    def test_the_shipped_one_where_both_fail(self, harm: str, parfocal: Parfocal, shelf: Path) -> None:
        names = [use(parfocal, model_shelf.write(shelf / "m.tflite", number=k)) for k in range(2)]
        other = model_shelf.write(shelf / "other.tflite", number=7).read_bytes()
        for path in map(Store().path, names):
            if harm == "gone":
                path.unlink()
            else:
                path.write_bytes(path.read_bytes()[:99] if harm == "cut" else other)
        loaded, notes = open_chosen(Store())
        assert loaded.name == str(model.DEFAULT_PATH)
        assert [note.partition(":")[0] for note in notes] == [str(Store().path(n)) for n in names[::-1]]
        assert notes[1].endswith("; the shipped model is used instead")
        assert all("\n" not in note for note in notes)

    def test_models_that_end_the_process(self, shelf: Path) -> None:
        """Each start gets one further, the shipped one runs in the end, and the next boot tries all again."""
        names = [Store().add(model_shelf.write(shelf / f"{k}.tflite", "dies", number=k)) for k in range(2)]
        Store().point(Pointer(current=names[0], previous=names[1]))
        for _ in range(2):
            assert _ended(lambda: open_chosen(Store())) == signal.SIGKILL
            assert _ended(lambda: open_chosen(Store())) == signal.SIGKILL
            loaded, notes = open_chosen(Store())
            assert loaded.name == str(model.DEFAULT_PATH)
            ended = "the last process that loaded it was ended by that"
            assert notes == [
                f"{names[0]}: {ended}",
                f"{names[1]}: {ended}; the shipped model is used instead",
            ]

    def test_where_no_note_of_loading_can_be_kept(self, parfocal: Parfocal, shelf: Path) -> None:
        name = use(parfocal, model_shelf.write(shelf / "a.tflite"))
        note = Store().folder / "loading"
        with Trial(note) as other:
            other.begin(name)
            assert open_chosen(Store())[1] == [], "another process loads it just now"
        note.unlink()
        note.mkdir()
        assert open_chosen(Store())[1] == []

    def test_nothing_works(self, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(model, "RUNTIMES", ())
        with pytest.raises(ModelError, match="no TFLite runtime"):
            open_chosen(Store())


DAMAGED = {
    b"": "Expecting value",
    b"{": "Expecting property name",
    b"[]": "other keys than schema_version, current and previous",
    b'{"schema_version": 1, "current": "default"}': "other keys than",
    b'{"schema_version": 1, "current": "default", "previous": null, "extra": 1}': "other keys than",
    b'{"schema_version": 2, "current": "default", "previous": null}': "schema_version = 2, this version",
    b'{"schema_version": 1, "current": "../../m-0123456789ab.tflite", "previous": null}': "is not the name",
    b'{"schema_version": 1, "current": "default\\n", "previous": null}': "is not the name of a model",
    b'{"schema_version": 1, "current": null, "previous": null}': "None is not the name of a model",
    b'{"schema_version": 1, "current": "default", "previous": ["default"]}': "is not the name of a model",
    b"\xff\xfe\x00": "codec can't decode",
    b"[" * 70_000: "recursion",
}


class TestDamagedPointer:
    @pytest.mark.parametrize(("data", "said"), DAMAGED.items(), ids=range(len(DAMAGED)))
    def test_a_line_and_the_shipped_model(
        self, data: bytes, said: str, parfocal: Parfocal, shelf: Path, state: Path
    ) -> None:
        pointer = state / "models" / "chosen.json"
        pointer.parent.mkdir(parents=True)
        pointer.write_bytes(data)
        loaded, (note,) = open_chosen(Store())
        assert loaded.name == str(model.DEFAULT_PATH)
        assert note.startswith(f"{pointer}: damaged: ")
        assert said in note
        assert note.endswith("; the shipped model is used instead")
        code, out, err = parfocal("model", "list")
        assert (code, err.count("\n")) == (0, 1)
        assert f"{pointer}: damaged: " in err
        assert out.startswith("current  default")
        code, out, err = parfocal("model", "rollback")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "`parfocal model use` writes it anew" in err
        name = use(parfocal, model_shelf.write(shelf / "a.tflite"))
        assert Store().pointer() == Pointer(current=name, previous="default")

    def test_one_that_cannot_be_read(self, shelf: Path, state: Path) -> None:
        (state / "models" / "chosen.json").mkdir(parents=True)
        loaded, (note,) = open_chosen(Store())
        assert loaded.name == str(model.DEFAULT_PATH)
        assert "chosen.json: cannot be read: Is a directory" in note


def _ended(work: Callable[[], object]) -> int | None:
    """Do ``work`` in a process of its own; the signal that ended it, None for none."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    try:
        work()
    finally:
        os._exit(0)


def _killed_at(event: int, folder: Path, work: Callable[[], object]) -> bool:
    """Do ``work`` in a process that is killed just before its ``event``-th change to ``folder``; whether it
    was.
    """
    seen = 0

    def hook(name: str, given: tuple[Any, ...]) -> None:
        nonlocal seen
        if name in ("open", "os.rename", "os.remove", "os.mkdir") and str(folder) in str(given[0]):
            seen += 1
            if seen == event:
                os.kill(os.getpid(), signal.SIGKILL)

    def watched() -> None:
        sys.addaudithook(hook)
        work()

    return _ended(watched) == signal.SIGKILL


class TestPowerCut:
    def test_killed_before_each_change(self, parfocal: Parfocal, shelf: Path, state: Path) -> None:
        old = use(parfocal, model_shelf.write(shelf / "old.tflite", number=1))
        new_file = model_shelf.write(shelf / "new.tflite", number=2)
        folder = state / "models"
        found = []
        for event in range(1, 100):
            killed = _killed_at(event, folder, lambda: cli.main(["model", "use", str(new_file)]))
            current, previous = chosen(state)
            assert (current, previous) in [(old, "default"), (_new(state), old)], event
            loaded, notes = open_chosen(Store())
            assert (loaded.name, notes) == (str(folder / current), [])
            found.append(current)
            if not killed:
                break
            Store().point(Pointer(current=old, previous="default"))
            if (name := _new(state)) is not None:
                (folder / name).unlink()
        assert not killed
        assert found[0] == old
        assert found[-1] == _new(state)
        copied_and_not_chosen = [k for k, name in enumerate(found) if name == old]
        assert len(copied_and_not_chosen) > 5
        assert use(parfocal, new_file) == _new(state)
        assert not list(folder.glob(".*.tmp")), "what a cut left is swept up"

    @pytest.mark.parametrize("write", range(1, 5))
    def test_a_disk_that_is_full_at_a_write(
        self, write: int, parfocal: Parfocal, shelf: Path, state: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = use(parfocal, model_shelf.write(shelf / "old.tflite", number=1))
        fsync, calls = os.fsync, iter(range(1, 100))

        def full(handle: int) -> None:
            if next(calls) == write:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(handle)

        monkeypatch.setattr("edge.files.os.fsync", full)
        code, out, err = parfocal("model", "use", model_shelf.write(shelf / "new.tflite", number=2))
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert "No space left on device" in err
        # The fourth is that of the folder, after the rename of the pointer.
        assert chosen(state) == ((old, "default") if write < 4 else (_new(state), old))
        assert open_chosen(Store())[1] == []
        assert not list((state / "models").glob(".*.tmp"))

    def test_a_disk_that_is_full(self, parfocal: Parfocal, shelf: Path, state: Path) -> None:
        """A real one: a file system of its own, which a second model does not fit on."""
        state.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(state)]
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("no file system can be mounted here: not root, or a container")
        try:
            old = use(parfocal, model_shelf.write(shelf / "old.tflite", number=1))
            free = os.statvfs(state)
            (state / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize))
            code, _, err = parfocal("model", "use", model_shelf.write(shelf / "new.tflite", number=2))
            assert code in (1, 2)
            assert "o space left on device" in err
            assert chosen(state) == (old, "default")
            assert set(content(state)) == {old, "chosen.json", "lock"}
            (state / "filler").unlink()
            assert use(parfocal, shelf / "new.tflite") != old
        finally:
            subprocess.run(["umount", str(state)], check=True)


def _new(state: Path) -> str | None:
    return next((path.name for path in (state / "models").glob("new-*.tflite")), None)


class TestFocus:
    def test_falls_back_with_a_note(
        self, parfocal: Parfocal, shelf: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rig, "FRAME_PX", oracle.FRAME_PX)
        use(parfocal, model_shelf.write(shelf / "a.tflite"))
        name = Store().pointer().current
        (Store().folder / name).unlink()
        code, out, err = parfocal("focus", "--specimen", "empty", "--json")
        assert code == 3
        assert json.loads(out)["model"] == str(model.DEFAULT_PATH)
        assert err.splitlines()[0] == (
            f"{Store().path(name)}: no such model file; the shipped model is used instead"
        )

    def test_no_output_over_the_store(self, parfocal: Parfocal, shelf: Path) -> None:
        use(parfocal, model_shelf.write(shelf / "a.tflite"))
        before = content(Store().folder.parent)
        code, _, err = parfocal("focus", "--trace", Store().folder / "chosen.json")
        assert code == 2
        assert "is read by this run" in err
        assert {**content(Store().folder.parent), "loading": b""} == {**before, "loading": b""}


def test_asking_needs_neither_a_runtime_nor_opencv() -> None:
    """A start, and `model list`, import no more than they did."""
    code = (
        "import sys, edge.model_store, edge.model_command;"
        "print([name for name in ('cv2', 'ai_edge_litert', 'tensorflow', 'fastapi') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert model_store.SCHEMA == 1
