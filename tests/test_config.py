"""The configuration: defaults, one clear line for each mistake, and a manual that cannot go stale."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edge import config_reference
from edge.config import Config, as_toml, load_config, override, parse_config
from edge.errors import ConfigError, one_line
from edge.optics import Objective
from edge.section import keys_of
from edge.settings import OpticsConfig, StageConfig

ROOT = Path(__file__).resolve().parent.parent
HUGE = "9" * 400

BAD_TEXT = {
    # sections and keys
    "[stages]\nx = 1": "unknown section [stages]; allowed: [optics], [stage], [gpio], [serial], ",
    "threads = 4": "key 'threads' in no section; allowed: [optics], ",
    "stage = 4": "stage = 4: a section, written [stage] on a line of its own, is allowed",
    "[[stage]]\nsettle_s = 1": "stage = [{'settle_s': 1}]: a section",
    "[camera]\nfps = 30": "unknown key 'fps' in [camera]; allowed: driver, device, ",
    "[model]\nthread = 1": "unknown key 'thread' in [model]; allowed: path, threads, tiles",
    "[stage.x]\ny = 1": "unknown key 'x' in [stage]; allowed: driver, ",
    '[model]\n"a\\nb" = 1': "unknown key 'a b' in [model]",
    # types
    '[stage]\num_per_step = "0.1"': '[stage] um_per_step = "0.1": a number from 1e-05 to 100 is allowed',
    "[stage]\nbacklash_steps = 1.5": "[stage] backlash_steps = 1.5: a whole number from 0 to 100000 is",
    "[stage]\nsettle_s = true": "[stage] settle_s = true: a number from 0 to 60 is allowed",
    "[model]\nthreads = true": "[model] threads = true: a whole number from 1 to 64 is allowed",
    "[model]\nthreads = [1]": "[model] threads = [1]: a whole number",
    "[focus]\nsweep = 1": "[focus] sweep = 1: true or false is allowed",
    "[model]\npath = 1979-05-27": "[model] path = 1979-05-27: one line of text, not empty, is allowed",
    '[model]\npath = ""': '[model] path = "": one line of text',
    '[model]\npath = "a\\nb"': '[model] path = "a\\nb": one line of text',
    '[focus]\nspecimen = "stained"': 'specimen = "stained": "auto", "absorbing" or "phase" is allowed',
    '[stage]\napproach = "up"': '[stage] approach = "up": "positive" or "negative" is allowed',
    # range
    "[stage]\num_per_step = 0": "[stage] um_per_step = 0: a number from 1e-05 to 100 is allowed",
    "[stage]\nmax_rate_steps_s = 0.0": "max_rate_steps_s = 0.0: a number above 0 to 1000000 is allowed",
    "[stage]\num_per_step = nan": "[stage] um_per_step = nan: a number from 1e-05 to 100 is allowed",
    "[focus]\nsweep_range_um = inf": "[focus] sweep_range_um = inf: a number above 0 to 200000 is allowed",
    "[focus]\nconfidence = -inf": "[focus] confidence = -inf: a number from 0.5 to 0.999 is allowed",
    "[simulator]\nseed = -1": "[simulator] seed = -1: a whole number from 0 to 4294967295 is allowed",
    f"[simulator]\nseed = {HUGE}": "[simulator] seed = a huge number: a whole number from",
    f"[camera]\nframe_period_s = {HUGE}": "frame_period_s = a huge number: a number from 0.0005 to 60",
    # the objective
    '[optics]\nobjective = "20 times"': '[optics] objective = "20 times": write magnification and NA',
    '[optics]\nobjective = "900x0.4"': '"900x0.4": magnification = 900.0: 0.5 to 250 is allowed',
    '[optics]\nobjective = "20x1.6"': '[optics] objective = "20x1.6": NA = 1.6: 0.01 up to',
    '[optics]\nobjective = "60x1.2"\nimmersion_index = 1.1': "immersion_index = 1.1: NA = 1.2: 0.01 up",
    # keys that contradict each other
    "[stage]\nlimit_low_um = 200": "[stage] limit_low_um = 200: a number below limit_high_um = 150 is",
    "[stage]\nbacklash_steps = 5000": "[stage] backlash_steps = 5000: fewer than the 4838 steps between",
    "[stage]\nmax_rate_steps_s = 100": "start_rate_steps_s = 200: at most max_rate_steps_s = 100 is allowed",
    "[stage]\nlimit_low_um = 0.1\nlimit_high_um = 0.2\num_per_step = 1": "fewer than the 0 steps",
    # several at once: the first, and how many more
    "[model]\nthreads = 0\ntiles = 0": "threads = 0: a whole number from 1 to 64 is allowed (and 1 more)",
    # not TOML
    "objective: 20x": "not TOML: ",
    "[stage]\nsettle_s = 1\nsettle_s = 2": "not TOML: ",
    "x = " + "[" * 5000: "not TOML: ",
    "x = " + "9" * 5000: "not TOML: ",
}


@pytest.mark.parametrize(("text", "says"), BAD_TEXT.items(), ids=range(len(BAD_TEXT)))
def test_mistakes_in_the_text(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "p.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert says in line, f"{line!r}\ndoes not say\n{says!r}"
    assert line.isprintable()
    assert len(line) < 500


class TestFiles:
    def test_what_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"no\.toml: no such file$"):
            load_config(tmp_path / "no.toml")
        with pytest.raises(ConfigError, match="is a folder"):
            load_config(tmp_path)
        with pytest.raises(ConfigError, match="not a usable file name"):
            load_config("a\0b")
        (tmp_path / "f").write_bytes(b"")
        with pytest.raises(ConfigError, match="cannot be read: not a directory"):
            load_config(tmp_path / "f" / "p.toml")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
    def test_no_permission(self, tmp_path: Path) -> None:
        (tmp_path / "p.toml").write_bytes(b"")
        (tmp_path / "p.toml").chmod(0)
        with pytest.raises(ConfigError, match="cannot be read: permission denied"):
            load_config(tmp_path / "p.toml")

    def test_what_is_no_text(self, tmp_path: Path) -> None:
        path = tmp_path / "p.toml"
        path.write_bytes(b"# \xe9")
        with pytest.raises(ConfigError, match=r"not UTF-8 text \(byte 2\)"):
            load_config(path)
        path.write_bytes(b"#" * (1 << 20) + b"\n")
        with pytest.raises(ConfigError, match="larger than 1 MiB"):
            load_config(path)
        with pytest.raises(ConfigError, match="larger than 1 MiB"):
            load_config("/dev/zero")

    def test_byte_order_mark_and_windows_line_ends(self, tmp_path: Path) -> None:
        (tmp_path / "p.toml").write_bytes("\ufeff[model]\r\nthreads = 3\r\n".encode())
        assert load_config(tmp_path / "p.toml").model.threads == 3


class TestValues:
    def test_defaults(self) -> None:
        config = load_config()
        assert config == Config() == parse_config("", source="nothing")
        optics = config.optics.optics()
        assert optics.objective == Objective(20.0, 0.40)
        assert optics.pixel_um == pytest.approx(1.55 / 20)
        assert config.stage.limits_steps == (-2419, 2419)
        assert config.stage.approach_sign == 1
        assert StageConfig(approach="negative").approach_sign == -1

    def test_whole_numbers_stand_for_numbers(self) -> None:
        settle_s = parse_config("[stage]\nsettle_s = 1", source="t").stage.settle_s
        assert settle_s == 1.0
        assert isinstance(settle_s, float)

    def test_optics_from_the_keys(self) -> None:
        assert OpticsConfig(objective="100x1.25").optics().objective.immersion_index == 1.515
        assert (
            OpticsConfig(objective="60x1.0", immersion_index=1.33).optics().objective.immersion_index == 1.33
        )
        assert OpticsConfig(pixel_um=0.5).optics().pixel_um == 0.5

    def test_a_limit_on_a_step_counts(self) -> None:
        stage = StageConfig(um_per_step=0.1, limit_low_um=-0.3, limit_high_um=0.3, backlash_steps=0)
        assert stage.limits_steps == (-3, 3), "0.3 / 0.1 falls just short of 3 in binary"

    def test_frozen(self) -> None:
        with pytest.raises(AttributeError, match="immutable"):
            Config().stage.settle_s = 1.0  # type: ignore[misc]

    def test_a_name_is_one_line_to_its_end(self) -> None:
        with pytest.raises(ConfigError, match="one line of text"):
            parse_config('[model]\npath = "a.tflite\\n"', source="t")

    def test_override(self) -> None:
        config = parse_config("[simulator]\nspecimen = 'blood'", source="t")
        changed = override(config, "command line", simulator={"seed": 3}, focus={"sweep": False})
        assert (changed.simulator.seed, changed.simulator.specimen, changed.focus.sweep) == (
            3,
            "blood",
            False,
        )
        assert config.simulator.seed == 0
        with pytest.raises(ConfigError, match=r"^command line: \[simulator\] seed = -1: a whole number"):
            override(config, "command line", simulator={"seed": -1})
        with pytest.raises(ConfigError, match=r"unknown section \[sim\]"):
            override(config, "command line", sim={"seed": 1})

    @pytest.mark.parametrize(
        ("value", "text"),
        [(True, "true"), (1.0, "1.0"), ('a"b', '"a\\"b"'), (-3, "-3"), ("x" * 99, '"' + "x" * 58 + "…")],
    )
    def test_as_toml(self, value: object, text: str) -> None:
        assert as_toml(value) == text


class TestManual:
    def test_default_file_is_the_default(self) -> None:
        assert load_config(ROOT / "edge" / "default.toml") == Config()

    @pytest.mark.parametrize("kind", ["markdown", "toml"])
    def test_committed_files_are_current(self, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert config_reference.main([kind]) == 0
        committed = config_reference.TARGETS[kind].read_text(encoding="utf-8")
        assert committed == capsys.readouterr().out, "stale: run `python -m edge.config_reference --write`"

    def test_every_key_is_documented(self) -> None:
        manual = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
        default = (ROOT / "edge" / "default.toml").read_text(encoding="utf-8")
        for name, section in config_reference.sections():
            assert f"## [{name}]" in manual
            assert f"\n[{name}]\n" in default
            meaning = config_reference.descriptions(type(section))
            for key in keys_of(type(section)):
                assert meaning[key].strip(), f"[{name}] {key} has no docstring"
                assert f"**`{key}`**" in manual, f"{key} is not in docs/config.md"
                assert f"\n{key} = " in default or f"\n# {key} =\n" in default, (
                    f"{key} is not in default.toml"
                )

    def test_every_number_is_bounded(self) -> None:
        for name, section in config_reference.sections():
            for key, kind in keys_of(type(section)).items():
                words = config_reference.allowed_values(kind)
                if "number" in words:
                    assert words.count(" from ") + words.count(" above ") == 1, f"[{name}] {key}: {words}"
                    assert words.count(" to ") == 1, f"[{name}] {key}: {words}"

    def test_write(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        targets = {"markdown": tmp_path / "config.md", "toml": tmp_path / "default.toml"}
        monkeypatch.setattr(config_reference, "TARGETS", targets)
        assert config_reference.main(["--write"]) == 0
        assert load_config(targets["toml"]) == Config()
        assert targets["markdown"].read_text(encoding="utf-8").startswith("# Configuration")

    def test_usage(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(sys, "argv", ["config_reference", "html"])
        assert config_reference.main() == 2
        assert "usage" in capsys.readouterr().err


def test_one_line() -> None:
    assert one_line("a\n\tb\x1b[31m\u2028c") == "a b [31m c"
    assert one_line("x" * 30, limit=10) == "x" * 9 + "…"
