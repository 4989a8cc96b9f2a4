"""`parfocal train` at work on images of the disk: whole runs, killed ones, several machines, a full disk."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from oracle import Parfocal

from edge import model as models
from edge.cli import main
from edge.optics import Objective, Optics
from edge.simulator.jiang import Plan, write_jiang
from train import data as datasets
from train.assumed import Assumed
from train.pool import Pool
from train.recipe import load_recipe
from train.run_folder import read_log, read_run

pytestmark = [
    pytest.mark.train,
    pytest.mark.timeout(400),
    pytest.mark.skipif(find_spec("keras") is None, reason="needs the train extra (TensorFlow)"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

ALL_WRITTEN = {
    *("calibration.npy", "data.json", "data.png", "log.csv", "model.keras", "recipe.json", "run.json"),
    *("split.json", "test.npz", "test_diff.npz", "test_same.npz", "val.npz"),
}
_PATIENCE_S = 180


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny simulated data set in the Jiang layout: three slides of six planes, one tile each."""
    folder = tmp_path_factory.mktemp("jiang") / "data"
    write_jiang(Plan(slides=3, locations=1, planes=6, step_nm=1500, size_px=224, seed=1), folder)
    return folder


@dataclass(frozen=True)
class Done:
    """A run of the command line."""

    folder: Path
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def shipped(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Done]:
    """One epoch of each recipe that ships, on small tiles."""
    runs = {}
    for name in ("paper", "parfocal"):
        folder = tmp_path_factory.mktemp("shipped") / name
        words = ("--labels", "jiang41", "--allow-empty-classes", "--epochs", 1, "--size", 48)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("train.pool.default_processes", lambda: 1)
            out, err = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main(_words(data, folder, Path(name), *words))
        runs[name] = Done(folder, code, out.getvalue(), err.getvalue())
    return runs


def _recipe(folder: Path, **fit: Any) -> Path:
    return tiny.write_recipe(folder / "r.toml", network={"bin_range_dof": 5.0}, fit={"batch": 8, **fit})


def _words(data: Path, out: Path, recipe: Path, *more: object) -> list[str]:
    return [str(w) for w in ("train", data, "--out", out, "--recipe", recipe, "--weights", "scratch", *more)]


def _loss(out: Path) -> float:
    return read_log(out)[-1]["loss"]


class TestWhole:
    @pytest.mark.parametrize("name", ["paper", "parfocal"])
    def test_a_shipped_recipe_from_names_to_run_folder(self, shipped: dict[str, Done], name: str) -> None:
        done = shipped[name]
        assert done.code == 0, done.err
        assert {path.name for path in done.folder.iterdir()} == ALL_WRITTEN
        read = read_run(done.folder)
        assert set(read.tests) == {"test", "test_same", "test_diff"}
        assert {side: len(names) for side, names in read.groups.items()} == {"train": 1, "val": 1, "test": 1}
        assert (read.recipe.name.startswith(name), read.recipe.network.labels) == (True, "jiang41")
        assert read.recipe.network.input == ("raw" if name == "paper" else "normalised")
        assert read.record.counts == {"train": 6, "val": 6, "test": 6, "test_same": 6, "test_diff": 6}
        assert len(read.log) == 1
        assert done.out.count("epoch ") == 1
        assert "no image trains" in done.err
        assert json.loads((done.folder / "data.json").read_text("utf-8"))["train"]["slides"] == 1

    def test_the_loss_falls_through_the_reader(self, parfocal: Parfocal, data: Path, tmp_path: Path) -> None:
        out, recipe = tmp_path / "run", _recipe(tmp_path, epochs=6, learning_rate=0.02, augment="none")
        code, _, err = parfocal(*_words(data, out, recipe))
        assert code == 0, err
        losses = [row["loss"] for row in read_log(out)]
        assert losses[-1] < 0.8 * losses[0], losses

    def test_the_split_of_another_run(self, parfocal: Parfocal, data: Path, tmp_path: Path) -> None:
        recipe = _recipe(tmp_path)
        assert parfocal(*_words(data, tmp_path / "a", recipe))[0] == 0
        more = ("--seed", 9, "--split", tmp_path / "a" / "split.json")
        assert parfocal(*_words(data, tmp_path / "b", recipe, *more))[0] == 0
        groups = [json.loads((tmp_path / k / "split.json").read_text("utf-8"))["groups"] for k in ("a", "b")]
        assert groups[0] == groups[1]

    def test_the_paper_s_model_runs_on_the_device(
        self, parfocal: Parfocal, shipped: dict[str, Done], tmp_path: Path
    ) -> None:
        code, _, err = parfocal("convert", shipped["paper"].folder, "--out", tmp_path / "m.tflite")
        assert code == 0, err
        model = models.load(tmp_path / "m.tflite")
        assert (model.card.unit, model.card.input, len(model.bin_centres)) == ("um", "raw", 41)
        optics = Optics(Objective(20, 0.75), 0.55 / 0.75 / 4)
        look = model.look(tiny.frame(1, 448), optics, most_tiles=9)
        assert look.tiles == 4, "448 pixels hold two published tiles in each direction"
        np.testing.assert_allclose(look.bin_centres_dof[-1], 12.19625 / optics.dof_um)

    def test_its_data_may_be_prepared_by_a_dask_scheduler(self, data: Path, tmp_path: Path) -> None:
        """In a process of its own: Dask leaves threads behind. The tiles are those made here."""
        program = (
            "import sys\n"
            "from distributed import LocalCluster\n"
            "from edge.cli import main\n"
            "if __name__ == '__main__':\n"
            "    with LocalCluster(n_workers=1, processes=False, dashboard_address=':0') as cluster:\n"
            "        sys.exit(main([*sys.argv[1:], '--scheduler', cluster.scheduler_address]))\n"
        )
        out, recipe = tmp_path / "run", _recipe(tmp_path)
        words = [sys.executable, "-c", program, *_words(data, out, recipe)]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        planned = datasets.plan([str(data)], load_recipe(recipe), assumed=Assumed())
        here = datasets.prepare(planned, load_recipe(recipe), Pool()).sides["test"]
        np.testing.assert_array_equal(read_run(out).test.pixels, here.pixels)


class TestRefused:
    def _refused(self, parfocal: Parfocal, *words: str) -> str:
        code, _, err = parfocal(*words)
        assert (code, err.strip().splitlines()[-1][:9]) == (2, "parfocal:"), err
        return err.splitlines()[-1]

    def test_classes_that_no_image_trains(self, parfocal: Parfocal, data: Path, tmp_path: Path) -> None:
        out = tmp_path / "run"
        line = self._refused(parfocal, *_words(data, out, _recipe(tmp_path), "--labels", "jiang41"))
        assert "no image would train 35 of 41 classes: 0 (-12.20)" in line
        assert "other --labels, or --allow-empty-classes" in line
        assert not out.exists()

    def test_a_slide_on_both_sides(self, parfocal: Parfocal, data: Path, tmp_path: Path) -> None:
        split = tmp_path / "split.json"
        groups = {"train": ["s1", "s2"], "val": ["s3"], "test": ["s1"]}
        split.write_text(json.dumps({"by": "slide", "groups": groups}), "utf-8")
        words = _words(data, tmp_path / "run", _recipe(tmp_path), "--split", split)
        line = self._refused(parfocal, *words)
        assert line == f"parfocal: {split}: slide s1 is on both sides of the split: train and test"

    def test_weights_of_another_shape(self, parfocal: Parfocal, data: Path, tmp_path: Path) -> None:
        np.savez(tmp_path / "w.npz", **{"Conv1/kernel": np.zeros((3, 3, 3, 16), np.float32)})
        words = _words(data, tmp_path / "run", _recipe(tmp_path))
        words[words.index("scratch")] = str(tmp_path / "w.npz")
        line = self._refused(parfocal, *words)
        assert "w.npz: weights of another network: MobileNetV2 1.00 without top is needed" in line
        assert "(Conv1/kernel is (3, 3, 3, 16), not (3, 3, 3, 32))" in line

    def test_resuming_what_was_never_begun_or_is_done(
        self, parfocal: Parfocal, data: Path, tmp_path: Path
    ) -> None:
        out, recipe = tmp_path / "run", _recipe(tmp_path)
        line = self._refused(parfocal, *_words(data, out, recipe, "--resume"))
        assert line == f"parfocal: {out}: no run to resume: it has no recipe.json"
        assert parfocal(*_words(data, out, recipe))[0] == 0
        code, text, _ = parfocal(*_words(data, out, recipe, "--resume"))
        assert (code, text) == (0, f"{out}: is trained already; now: parfocal report {out}\n")
        line = self._refused(parfocal, *_words(data, out, recipe))
        assert "exists and is not an empty folder; nothing was overwritten" in line

    @pytest.mark.parametrize(
        ("backend", "said"),
        [
            ("jax", "KERAS_BACKEND=jax: jax is not installed here"),
            ("abacus", "KERAS_BACKEND=abacus: tensorflow, jax or torch is allowed"),
        ],
    )
    def test_a_keras_backend_that_is_not_there(
        self, data: Path, tmp_path: Path, backend: str, said: str
    ) -> None:
        if backend == "jax" and find_spec("jax") is not None:
            pytest.skip("jax is installed here")
        words = _words(data, tmp_path / "run", _recipe(tmp_path))
        environment = _environment(KERAS_BACKEND=backend)
        done = subprocess.run(_command(*words), capture_output=True, text=True, env=environment)
        assert (done.returncode, done.stderr.splitlines()[-1]) == (2, f"parfocal: {said}")

    def test_no_scheduler_answers(self, parfocal: Parfocal, data: Path, tmp_path: Path) -> None:
        """In a process of its own: Dask leaves threads behind."""
        words = _words(data, tmp_path / "run", _recipe(tmp_path), "--scheduler", "nonsense://x")
        done = subprocess.run(_command(*words), capture_output=True, text=True, env=_environment())
        assert done.returncode == 2, done.stderr
        assert "--scheduler nonsense://x: no Dask scheduler answers" in done.stderr.splitlines()[-1]

    def test_a_cluster_that_is_none(
        self, parfocal: Parfocal, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = _words(data, tmp_path / "run", _recipe(tmp_path))
        two = ["127.0.0.1:1", "127.0.0.1:2"]
        for config, said in (
            ("{", '{"cluster": {"worker"'),
            (json.dumps({"cluster": {"worker": two}, "task": {"type": "worker", "index": 2}}), "0 to 1"),
            (json.dumps({"cluster": {"worker": two}, "task": {"type": "ps", "index": 0}}), "workers alone"),
        ):
            monkeypatch.setenv("TF_CONFIG", config)
            line = self._refused(parfocal, *words)
            assert line.startswith("parfocal: TF_CONFIG: ")
            assert said in line


def _command(*words: str) -> list[str]:
    return [sys.executable, "-m", "edge.cli", *words]


def _environment(**more: str) -> dict[str, str]:
    return {**os.environ, **more}


@contextlib.contextmanager
def _running(words: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        process = subprocess.Popen(
            _command(*words), stdout=file, stderr=subprocess.STDOUT, env=_environment(**environment)
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _wait_for_epochs(out: Path, count: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the log has ``count`` rows."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while len(read_log(out)) < count:
        assert process.poll() is None, log.read_text("utf-8")
        assert time.monotonic() < deadline_s, log.read_text("utf-8")
        time.sleep(0.01)


class TestKilled:
    def test_at_most_one_epoch_is_lost(self, parfocal: Parfocal, data: Path, tmp_path: Path) -> None:
        out, recipe = tmp_path / "run", _recipe(tmp_path, epochs=30)
        log = tmp_path / "log"
        with _running(_words(data, out, recipe), log) as process:
            _wait_for_epochs(out, 2, process, log)
            process.send_signal(signal.SIGKILL)
            process.wait()
        before = read_log(out)
        assert 2 <= len(before) < 30
        code, text, err = parfocal(*_words(data, out, recipe, "--resume"))
        assert code == 0, err
        after = read_log(out)
        assert after[: len(before)] == before
        assert len(after) == 30
        assert text.count("epoch ") <= 31 - len(before), "one that was whole was done again"
        assert {path.name for path in out.iterdir()} == ALL_WRITTEN

    def test_a_full_disk(self, data: Path, tmp_path: Path) -> None:
        """A real one: a file system of its own, which the second checkpoint does not fit on."""
        disk, out = tmp_path / "disk", tmp_path / "disk" / "run"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)]
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("no file system can be mounted here: not root, or a container")
        try:
            recipe, log = _recipe(tmp_path, epochs=400), tmp_path / "log"
            with _running(_words(data, out, recipe), log) as process:
                _wait_for_epochs(out, 1, process, log)
                (disk / "filler").write_bytes(bytes(_free(disk) - 4096))
                assert process.wait(_PATIENCE_S) == 2, log.read_text("utf-8")
            line = log.read_text("utf-8").splitlines()[-1]
            kept = len(read_log(out))
            assert line == (
                f"parfocal: {out}: epoch {kept + 1} cannot be saved: the disk is full; epoch {kept} is kept:"
                " make room, then --resume"
            )
            (disk / "filler").unlink()
            with _running(_words(data, out, recipe, "--resume"), log) as process:
                _wait_for_epochs(out, kept + 1, process, log)
        finally:
            subprocess.run(["umount", str(disk)], check=True)


def _free(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


class TestCluster:
    def _config(self, ports: list[int], index: int) -> str:
        workers = [f"127.0.0.1:{port}" for port in ports]
        return json.dumps({"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}})

    def _ports(self) -> list[int]:
        with contextlib.ExitStack() as opened:
            sockets = [opened.enter_context(socket.socket()) for _ in range(2)]
            for one in sockets:
                one.bind(("127.0.0.1", 0))
            return [int(one.getsockname()[1]) for one in sockets]

    def test_two_workers_reach_what_one_does_and_one_that_is_killed_ends_the_other(
        self, parfocal: Parfocal, data: Path, tmp_path: Path
    ) -> None:
        alone, both = tmp_path / "alone", tmp_path / "both"
        settings = {"epochs": 40, "batch": 6, "augment": "none", "patience": 0}
        recipe = _recipe(tmp_path, **settings)
        assert parfocal(*_words(data, alone, recipe))[0] == 0

        def workers(opened: contextlib.ExitStack, *more: object) -> list[subprocess.Popen[bytes]]:
            ports = self._ports()
            words = _words(data, both, recipe, *more)
            return [
                opened.enter_context(_running(words, tmp_path / f"log{k}", TF_CONFIG=self._config(ports, k)))
                for k in range(2)
            ]

        with contextlib.ExitStack() as opened:
            chief, other = workers(opened)
            _wait_for_epochs(both, 2, chief, tmp_path / "log0")
            other.kill()
            assert chief.wait(_PATIENCE_S) == 4, (tmp_path / "log0").read_text("utf-8")
        line = (tmp_path / "log0").read_text("utf-8").splitlines()[-1]
        assert line.startswith("parfocal: another worker is gone, so the run stops")
        assert line.endswith("start every worker again with --resume")
        before = read_log(both)
        with contextlib.ExitStack() as opened:
            for process in workers(opened, "--resume"):
                assert process.wait(_PATIENCE_S) == 0, (tmp_path / "log0").read_text("utf-8")
        after = read_log(both)
        assert after[: len(before)] == before
        assert len(after) == 40
        assert {path.name for path in both.iterdir()} == ALL_WRITTEN
        first, last = read_log(alone)[0]["loss"], _loss(alone)
        assert _loss(both) - last < 0.25 * (first - last), "one worker reached less"
