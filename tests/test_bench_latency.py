"""`parfocal bench latency` and `growth`: stages that add up, ratios, and what a machine does not tell."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fake_machine import Computer
from oracle import Parfocal

from edge import card as cards
from edge import model as models
from edge.bench import board, compared, float_twin, growth, stages
from edge.bench.figures import network_of
from edge.bench.focus import Plan
from edge.config import Config, override
from edge.errors import InputError, ModelError
from edge.model import Model
from edge.rig import simulated_rig
from firmware_iface.clock import RealClock, VirtualClock

CALIBRATED = override(Config(), "test", stage={"compensation": "on-reversal"})
STAGES = [*stages.LOOK, *stages.MOVE]
SHORT = ("--looks", 3, "--warm-up", 1, "--sustained", 0.3, "--threads", "1", "--move-um", 1)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The JSON and the picture of a short run, and what it printed."""
    import contextlib
    import io

    from edge import cli

    folder = tmp_path_factory.mktemp("latency")
    out, picture, said = folder / "a.json", folder / "a.png", io.StringIO()
    words = ["bench", "latency", *map(str, SHORT), "--out", str(out), "--plot", str(picture)]
    with contextlib.redirect_stdout(said):
        assert cli.main(words) == 0
    return out, picture, said.getvalue()


class TestStages:
    def test_each_takes_what_the_rig_takes(self) -> None:
        """In virtual time camera and motor take exactly what they are said to, and computing nothing."""
        clock = VirtualClock()
        config = override(CALIBRATED, "test", stage={"settle_s": 0.25}, simulator={"latency_frames": 1})
        with simulated_rig(config, start_defocus_um=0.0, clock=clock) as rig:
            taken = stages.measure(rig, models.load("default"), config, looks=4, warm_up=1, step_um=5.0)
            assert rig.stage.position_um == 0
        assert list(taken) == STAGES
        assert all(len(times) == 4 for times in taken.values())
        period_s = config.camera.frame_period_s
        assert max(taken["wait"]) <= period_s + 1e-9
        assert all(times == pytest.approx(2 * period_s, abs=period_s) for times in taken["capture"])
        assert taken["settle"] == pytest.approx([0.25] * 4)
        # 80 steps, and 200 of slack at each reversal, at no more than 1000 a second.
        assert all(0.28 < motion < 0.6 for motion in taken["motion"])
        for computing in ("checks", "tiles", "inference", "belief", "command"):
            assert all(0 < seconds < 1 for seconds in taken[computing])

    def test_the_stage_may_stand(self) -> None:
        with simulated_rig(CALIBRATED, start_defocus_um=0.0) as rig:
            taken = stages.measure(rig, models.load("default"), CALIBRATED, looks=2, warm_up=0, step_um=0.0)
            assert rig.stage.position_um == 0
        assert list(taken) == list(stages.LOOK)

    def test_the_instruments_are_taken_off_again(self) -> None:
        model = models.load("default")
        with simulated_rig(CALIBRATED, start_defocus_um=0.0) as rig:
            before = rig.stage._axis.start_move
            stages.measure(rig, model, CALIBRATED, looks=1, warm_up=0, step_um=2.0)
            assert rig.stage._axis.start_move == before
        assert type(model) is Model

    def test_a_timed_model_says_the_same(self) -> None:
        model = models.load("default")
        lap: stages.Lap = defaultdict(float)
        timed = stages.TimedModel(model, lap)
        with simulated_rig(CALIBRATED, start_defocus_um=3.0) as rig:
            frame = rig.camera.capture(0.0).image
            plain, watched = (m.look(frame, rig.optics, most_tiles=4) for m in (model, timed))
        assert np.array_equal(plain.log_probabilities, watched.log_probabilities)
        assert 0 < lap["inference"] < 5
        assert 0 < lap["tiles"] < 5


class TestResult:
    def test_document(self, result: tuple[Path, Path, str]) -> None:
        found = json.loads(result[0].read_text())
        assert network_of("default").items() <= found["model"].items()
        assert list(found["stages_ms"]) == STAGES
        for of in (*found["stages_ms"].values(), found["look_ms"]):
            assert 0 <= of["p50"] <= of["p95"] <= of["p99"] <= of["max"]
        assert found["simulated"] is True
        assert found["machine"]["libraries"]["numpy"] == np.__version__
        assert set(found["networks"]) == {"int8", "float"}
        assert all(by["1"]["inference_ms"]["p50"] > 0 for by in found["networks"].values())
        assert found["around_invoke"]["median"] > 0
        assert found["sustained"]["slower"] > 0
        assert found["memory_mb"]["resident"] > 10
        assert found["warm_up"] == 1

    def test_said_and_drawn(self, result: tuple[Path, Path, str]) -> None:
        _, picture, said = result
        for words in (
            "SIMULATED",
            "inference",
            "computing but the network's own",
            "int8, 1 thread",
            "without a rest",
            "memory",
        ):
            assert words in said
        assert cv2.imread(str(picture)).shape[1] > 1000

    def test_against_itself(self, result: tuple[Path, Path, str], parfocal: Parfocal) -> None:
        code, out, _ = parfocal("bench", "latency", "--compare", result[0], result[0], "--json")
        ratios = json.loads(out)["ratios"]
        assert code == 0
        assert {"look", "inference", "int8, threads: 1"} <= set(ratios)
        assert all(of["b_over_a"] == 1 for of in ratios.values() if of["a_ms"])

    def test_against_a_slower_one(
        self, result: tuple[Path, Path, str], parfocal: Parfocal, tmp_path: Path
    ) -> None:
        slower = json.loads(result[0].read_text())
        slower["machine"]["board"] = "a slower board"
        slower["stages_ms"]["inference"]["p50"] *= 3
        other, picture = tmp_path / "b.json", tmp_path / "both.png"
        other.write_text(json.dumps(slower))
        code, out, _ = parfocal("bench", "latency", "--compare", result[0], other, "--plot", picture)
        assert code == 0
        assert "a slower board" in out
        assert next(line.split()[-2] for line in out.splitlines() if "inference" in line) == "3.00"
        assert picture.stat().st_size > 10_000

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"machine": 3}', "\xff"])
    def test_other_files_are_refused(self, text: str, tmp_path: Path, parfocal: Parfocal) -> None:
        file = tmp_path / "x.json"
        file.write_bytes(text.encode("latin-1"))
        code, out, err = parfocal("bench", "latency", "--compare", file, file)
        assert (code, out) == (2, "")
        assert "is no result of" in err
        with pytest.raises(InputError, match="cannot be read"):
            compared.read(str(tmp_path / "none.json"))

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--looks", 0), "--looks 0: 1 to"),
            (("--move-um", 51), "--move-um 51: 0 to 50"),
            (("--threads", "1,x"), "--threads 'x': numbers from 1"),
            (("--sustained", -1), "--sustained -1: 0 to"),
            (("--model", "/none.tflite"), "/none.tflite"),
            (("--rig", "hardware"), "[stage]"),
            (("--out", "x.txt"), "a name that ends in .json"),
            (("--compare", "/a.json", "/b.json"), "/a.json: cannot be read"),
        ],
    )
    def test_bad_input(self, words: tuple[object, ...], said: str, parfocal: Parfocal) -> None:
        code, out, err = parfocal("bench", "latency", *words)
        assert (code, out) == (2, "")
        assert said in err

    def test_a_field_without_a_specimen_is_refused(self, parfocal: Parfocal, tmp_path: Path) -> None:
        config = tmp_path / "empty.toml"
        config.write_text('[simulator]\nspecimen = "empty"\n')
        code, _, err = parfocal("bench", "latency", *SHORT, "--config", config)
        assert code == 2
        assert "no specimen" in err
        assert "stages of a look" not in err, "nothing has moved"


class TestFloatTwin:
    def test_says_nearly_the_same(self) -> None:
        flatbuffer, card = cards.read(models.DEFAULT_PATH)
        tiles = np.random.default_rng(0).uniform(-1, 1, (6, card.tile_px, card.tile_px, 3)).astype(np.float32)
        int8 = Model(flatbuffer, card, name="int8").infer(tiles)[0]
        twin = Model(float_twin.float_twin(flatbuffer), card, name="float")
        assert twin._input["dtype"] is np.float32
        floats = twin.infer(tiles)[0]
        assert np.corrcoef(int8.ravel(), floats.ravel())[0, 1] > 0.99
        assert not np.array_equal(int8, floats)

    def test_without_a_schema(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(float_twin, "_SCHEMAS", ("no_such_module",))
        with pytest.raises(ModelError, match="no schema"):
            float_twin.float_twin(b"")


class TestBoard:
    def test_a_pi(self, tmp_path: Path) -> None:
        computer = Computer(tmp_path, "Raspberry Pi 4 Model B Rev 1.5")
        computer.put("/sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
        computer.put("/sys/class/thermal/thermal_zone0/temp", "61500\n")
        for cpu, clock in enumerate((600000, 1800000)):
            computer.put(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq", f"{clock}\n")
        computer.answer("vcgencmd get_throttled", "throttled=0x50004\n")
        found = board.health(computer.machine())
        assert found == {"temperature_c": 61.5, "clock_mhz": 1800.0, "throttled": ["throttled"]}
        assert "Raspberry Pi 4" in board.about(computer.machine())["board"]

    def test_what_is_not_told_is_not_made_up(self, tmp_path: Path) -> None:
        machine = Computer(tmp_path).machine()
        assert board.health(machine) == {"temperature_c": None, "clock_mhz": None, "throttled": None}
        assert board.memory_mb(machine) == {"resident": None, "most": None}


class TestGrowth:
    def test_small(self, parfocal: Parfocal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(growth, "STARTS_DOF", (1.0, 8.0))
        monkeypatch.setattr(growth, "RANGES_DOF", (6.0,))
        monkeypatch.setattr(growth, "_JOBS", 1)
        monkeypatch.setattr(growth, "_FRAMES_A_JOB", 2)
        words = ("bench", "growth", "--runs", 1, "--strategies", "oracle", "--workers", 1)
        code, out, _ = parfocal(*words, "--json", "--plot", tmp_path / "g.png")
        assert code == 0
        found: dict[str, Any] = json.loads(out)
        near, far = (found["by_start_dof"][at]["oracle"]["seconds_median"] for at in ("1", "8"))
        assert near < far
        assert found["by_range_dof"]["6"]["oracle"]["runs"] == 1
        assert found["model"] == network_of("default")
        times = [of["p50"] for of in found["inference_by_tiles"].values()]
        assert times[0] < times[-1]
        assert found["simulator_by_processes"]["1"]["against_one"] == 1
        assert (tmp_path / "g.png").stat().st_size > 10_000

    def test_starts_of_a_point_are_all_as_far(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[Plan] = []

        def runs(plan: Plan, config: Config, *, workers: int | None) -> list[Any]:
            seen.append(plan)
            raise InputError("enough")

        monkeypatch.setattr(growth.focus, "runs", runs)
        plan = Plan(count=1, seed=1, fields=1)
        with pytest.raises(InputError, match="enough"):
            growth.measure(Config(), plan, workers=1, progress=lambda what: None)
        assert seen[0].exactly
        assert seen[0].range_dof == pytest.approx(1.2 * seen[0].start_dof)

    def test_bad_input(self, parfocal: Parfocal) -> None:
        code, out, err = parfocal("bench", "growth", "--runs", 0)
        assert (code, out) == (2, "")
        assert "--runs 0: 1 to" in err


def test_the_real_clock_is_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from edge.bench import latency_command

    args = SimpleNamespace(rig=None)
    rig, kind = latency_command._rig(args, Config())  # type: ignore[arg-type]
    assert kind == "simulated"
    assert isinstance(rig.clock, RealClock)
