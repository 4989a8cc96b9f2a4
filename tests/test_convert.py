"""From a recipe to a model file and its figures: the desktop's commands at work, on a network of seconds.

The network is trained once for all of them. What it is given to learn is too little for it to be any good.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import tiny
from oracle import Parfocal

from edge import card as cards
from edge import model as models
from edge.errors import ModelError
from edge.optics import Objective, Optics, natural_pixel_um
from edge.simulator.stacks import Plan, write_stacks
from train import evaluate, saved_network, tile_data
from train.labels import Bins

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(find_spec("keras") is None, reason="needs the train extra (TensorFlow)"),
    # TensorFlow's variables do not know NumPy 2's way to ask for an array.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

FIGURES = {
    "mae_dof",
    "median_dof",
    "p95_dof",
    "median_dof_within_3",
    "wrong_direction",
    "ece",
    "interval_90",
    "n",
}
RUNTIMES = [module for module, _ in models.RUNTIMES]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.toml, the run folder ``run`` that it gave, and ``m.tflite`` converted from that."""
    from convert import commands as convert_commands
    from train import train_command

    folder = tmp_path_factory.mktemp("line")
    recipe = tiny.write_recipe(folder / "tiny.toml", fit={"epochs": 2})
    parser = argparse.ArgumentParser()
    train_command.add_arguments("train", parser)
    words = ["synthetic", "--recipe", str(recipe), "--weights", "scratch", "--out", str(folder / "run")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.cpu_count", lambda: 1)  # starting processes would take longer than their work
        assert train_command.run("train", parser.parse_args(words)) == 0
    parser = argparse.ArgumentParser()
    convert_commands.add_arguments("convert", parser)
    words = [str(folder / "run"), "--out", str(folder / "m.tflite")]
    assert convert_commands.run("convert", parser.parse_args(words)) == 0
    return folder


@pytest.fixture(scope="module")
def flatbuffers(workshop: Path) -> tuple[bytes, bytes]:
    """The run in int8, as it was converted, and in float32."""
    from convert import quantize

    network = saved_network.load(workshop / "run", tiny.recipe().network)
    return cards.read(workshop / "m.tflite")[0], quantize.to_tflite(network, None)


class TestTheFile:
    def test_the_card_says_what_it_is(self, workshop: Path) -> None:
        flatbuffer, card = cards.read(workshop / "m.tflite")
        assert card.flatbuffer_sha256 == hashlib.sha256(flatbuffer).hexdigest()
        assert (card.schema_version, card.name, card.unit, card.tile_px) == (1, "tiny", "dof", 32)
        np.testing.assert_allclose(card.bin_centres, np.linspace(-1.5, 1.5, 7), atol=1e-12)
        assert card.trained_on == "synthetic (seed 1), starting from scratch"
        assert card.recipe["fit"]["epochs"] == 2
        assert set(card.metrics) == {"float", "int8"}
        named = {f"{part}_{figure}" for part in ("tile", "frame") for figure in FIGURES}
        assert named <= set(card.metrics["float"])
        assert set(card.metrics["int8"]) - set(card.metrics["float"]) == {
            "median_from_float_dof",
            "p95_from_float_dof",
        }

    def test_input_and_outputs_are_int8(self, workshop: Path) -> None:
        model = models.load(workshop / "m.tflite")
        assert model._input["dtype"] is np.int8
        assert model._logits["dtype"] is np.int8
        scale, zero = model._input["quantization"]
        assert (127 - zero) * scale == pytest.approx(1, abs=0.02)
        assert (-128 - zero) * scale == pytest.approx(-1, abs=0.02)

    @pytest.mark.parametrize("runtime", RUNTIMES)
    def test_every_runtime_is_close_to_float(
        self, workshop: Path, flatbuffers: tuple[bytes, bytes], runtime: str
    ) -> None:
        if runtime not in models.available_runtimes():
            pytest.skip(f"{runtime} is not installed")
        int8 = models.load(workshop / "m.tflite", runtime=runtime)
        assert int8.runtime == runtime
        float32 = models.Model(flatbuffers[1], int8.card, name="float", runtime=runtime)
        val = tile_data.load(workshop / "run" / "val.npz", tile_px=32)
        logits = [evaluate.infer(model, val) for model in (int8, float32)]
        guesses = [evaluate.estimate(models.log_softmax(part), int8.bin_centres)[0] for part in logits]
        assert np.median(np.abs(guesses[0] - guesses[1])) < 0.1
        assert np.abs(logits[0] - logits[1]).mean() < 0.1 * np.ptp(logits[1])

    def test_the_float_reference_is_the_keras_network(
        self, workshop: Path, flatbuffers: tuple[bytes, bytes]
    ) -> None:

        network = saved_network.load(workshop / "run", tiny.recipe().network)
        card = cards.read(workshop / "m.tflite")[1]
        tiles = tiny.tile_data(3).pixels / np.float32(127)
        logits, features = models.Model(flatbuffers[1], card, name="float").infer(tiles)
        ours = network(tiles, training=False)
        np.testing.assert_allclose(logits, np.asarray(ours["logits"]), atol=1e-3)
        np.testing.assert_allclose(features, np.asarray(ours["features"]), atol=1e-3)

    def test_it_looks_at_frames(self, workshop: Path) -> None:
        model = models.load(workshop / "m.tflite")
        objective = Objective(20, 0.4)
        optics = Optics(objective, natural_pixel_um(objective))
        look = model.look(tiny.frame(1, 96), optics, most_tiles=4)
        assert look.tiles == 4
        assert look.log_likelihood is not None
        assert np.exp(look.log_likelihood).sum() == pytest.approx(1)
        logits, features = model.read(tiny.frame(1, 96), optics, most_tiles=4)
        assert len(logits) == 4
        assert features.shape == (4, 256)
        assert model.look(np.full((96, 96, 3), 200, np.uint8), optics, most_tiles=4).log_likelihood is None

    def test_the_same_run_gives_the_same_file(
        self, parfocal: Parfocal, workshop: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "again.tflite"
        code, text, err = parfocal("convert", workshop / "run", "--out", out)
        assert (code, err) == (0, "")
        assert text.startswith(f"{out}: verified, ")
        assert " of the frames' mean error" in text
        assert cards.read(out) == cards.read(workshop / "m.tflite")


class TestVerify:
    def test_a_file_against_its_run(self, parfocal: Parfocal, workshop: Path) -> None:
        before = sorted(p.name for p in workshop.iterdir())
        code, out, err = parfocal("convert", workshop / "run", "--verify", workshop / "m.tflite")
        assert (code, err) == (0, "")
        assert "CONV_2D" in out
        for runtime in models.available_runtimes():
            assert f"{runtime.split('.')[0]} from float" in out
        assert "XNNPACK from built-in kernels" in out
        assert "times as fast" in out
        assert sorted(p.name for p in workshop.iterdir()) == before

    def test_a_file_of_another_run(self, parfocal: Parfocal, workshop: Path) -> None:
        code, out, err = parfocal("convert", workshop / "run", "--verify", models.DEFAULT_PATH)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "made from another run" in err

    @pytest.mark.parametrize("option", ["--out", "--verify"])
    def test_what_is_too_far_from_float_is_refused(
        self, parfocal: Parfocal, workshop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
    ) -> None:
        from convert import verify

        monkeypatch.setattr(verify, "MEDIAN_BOUND_DOF", 1e-9)
        path = tmp_path / "new.tflite" if option == "--out" else workshop / "m.tflite"
        code, out, err = parfocal("convert", workshop / "run", option, path)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "dof from float (median); 1e-09 is allowed" in err
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("words", [(), ("--out", "a.tflite", "--verify", "b.tflite")])
    def test_either_out_or_verify(self, parfocal: Parfocal, workshop: Path, words: tuple[str, ...]) -> None:
        code, out, _ = parfocal("convert", workshop / "run", *words)
        assert (code, out) == (2, "")

    def test_operators_that_are_not_built_in(self, flatbuffers: tuple[bytes, bytes]) -> None:
        from convert import verify

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(verify, "_operators", lambda flatbuffer: {"CONV_2D": 3, "custom FlexErf": 1})
            with pytest.raises(ModelError, match=r"operator custom FlexErf: built-in operators are needed"):
                verify.check_integer(flatbuffers[0])

    def test_a_custom_operator_is_seen(self) -> None:
        import tensorflow as tf

        from convert import verify

        concrete = tf.function(
            tf.math.betainc, input_signature=[tf.TensorSpec((1,), tf.float32)] * 3
        ).get_concrete_function()
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
        converter.allow_custom_ops = True
        assert verify._operators(converter.convert()) == {"custom Betainc": 1}

    def test_integers_pass_and_floats_do_not(self, flatbuffers: tuple[bytes, bytes]) -> None:
        from convert.verify import check_integer

        check_integer(flatbuffers[0])
        with pytest.raises(ModelError, match=r"is float32, int8 is needed"):
            check_integer(flatbuffers[1])

    def test_floats_within_are_found(self, workshop: Path) -> None:
        import tensorflow as tf

        from convert.verify import check_integer

        network = saved_network.load(workshop / "run", tiny.recipe().network)
        tile = tf.TensorSpec((1, 32, 32, 3), tf.int8)

        def mixed(pixels: Any) -> Any:
            logits = network(tf.cast(pixels, tf.float32) / 127)["logits"]
            return tf.cast(logits, tf.int8)

        concrete = tf.function(mixed, input_signature=[tile]).get_concrete_function()
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
        with pytest.raises(ModelError, match=r"is float32, integers are needed"):
            check_integer(converter.convert())

    def test_what_no_runtime_takes(self, flatbuffers: tuple[bytes, bytes]) -> None:
        from convert.verify import check_integer

        with pytest.raises(ModelError, match=r"cannot run it: "):
            check_integer(flatbuffers[0][:64])

    def test_a_file_too_far_from_float_is_refused(self) -> None:
        from convert.verify import bounded

        centres = np.linspace(-6, 6, 25)
        bins = Bins.of_centres(centres, "dof")
        logits = -20 * (centres[None] - np.linspace(-4, 4, 40)[:, None]) ** 2
        apart = bounded(logits, logits, bins)
        assert (apart.median_dof, apart.p95_dof) == (0, 0)
        with pytest.raises(ModelError, match=r"int8 is 0\.50 dof from float \(median\); 0\.25 is allowed"):
            bounded(np.roll(logits, 1, axis=1), logits, bins)


class TestEvaluate:
    def _report(self, parfocal: Parfocal, *words: object) -> dict[str, Any]:
        code, out, err = parfocal("evaluate", *words, "--json")
        assert (code, err) == (0, "")
        value: dict[str, Any] = json.loads(out)
        return value

    def test_synthetic_gives_the_figures_of_the_card(self, parfocal: Parfocal, workshop: Path) -> None:
        model = workshop / "m.tflite"
        out = self._report(parfocal, model, "synthetic", "--recipe", workshop / "tiny.toml")
        assert (out["model"], out["runtime"]) == (str(model), models.available_runtimes()[0])
        for part in ("tiles", "frames"):
            assert set(out[part]) >= FIGURES
        assert 0 < out["frames"]["n"] < out["tiles"]["n"]
        assert set(out["frames_by_kind"]) <= {"tissue", "debris"}
        metrics = cards.read(model)[1].metrics["int8"]
        assert {k: metrics[f"tile_{k}"] for k in FIGURES} == pytest.approx(
            {k: out["tiles"][k] for k in FIGURES}
        )
        assert metrics["frame_mae_dof"] == pytest.approx(out["frames"]["mae_dof"])

    def test_fixed_optics_are_other_fields(self, parfocal: Parfocal, workshop: Path, tmp_path: Path) -> None:
        words = (workshop / "m.tflite", "synthetic", "--recipe", workshop / "tiny.toml")
        fixed = self._report(parfocal, *words, "--optics", "fixed")
        random = self._report(parfocal, *words, "--optics", "random")
        assert fixed == self._report(parfocal, *words), "the recipe's own"
        assert fixed["tiles"]["mae_dof"] != random["tiles"]["mae_dof"]
        write_stacks(Plan(stacks=1, planes=3, range_dof=2, size_px=64), tmp_path / "s")
        code, out, err = parfocal("evaluate", words[0], tmp_path / "s", "--optics", "fixed")
        assert (code, out) == (2, "")
        assert "--optics has a meaning for synthetic data only" in err

    def test_stacks_need_no_split(self, parfocal: Parfocal, workshop: Path, tmp_path: Path) -> None:
        write_stacks(Plan(stacks=2, planes=3, range_dof=2, size_px=64), tmp_path / "s")
        out = self._report(parfocal, workshop / "m.tflite", tmp_path / "s")
        assert out["frames"]["n"] == 6
        assert set(out["frames_by_kind"]) == {"tissue", "blood"}

    def test_as_a_table(self, parfocal: Parfocal, workshop: Path, tmp_path: Path) -> None:
        write_stacks(Plan(stacks=1, planes=3, range_dof=2, size_px=64), tmp_path / "s")
        code, out, err = parfocal("evaluate", workshop / "m.tflite", tmp_path / "s" / "stack000")
        assert (code, err) == (0, "")
        title, header, *rows = out.splitlines()
        assert title.endswith("tiles of 3 frames")
        assert set(header.split()) >= FIGURES
        assert [row.split()[0] for row in rows] == ["tiles", "frames", "tissue"]
        assert len({len(row) for row in (header, *rows)}) == 1, out

    def test_a_model_that_speaks_of_micrometres_gives_both_units(
        self, parfocal: Parfocal, workshop: Path, tmp_path: Path
    ) -> None:
        flatbuffer, card = cards.read(workshop / "m.tflite")
        path = tmp_path / "other.tflite"
        path.write_bytes(cards.attach(flatbuffer, msgspec.structs.replace(card, unit="um")))
        write_stacks(Plan(stacks=1, planes=3, range_dof=2, size_px=64), tmp_path / "s")
        tiles = self._report(parfocal, path, tmp_path / "s")["tiles"]
        assert tiles["mae_um"] == pytest.approx(tiles["mae_dof"] * 0.55 / 0.4**2)
        code, out, err = parfocal("evaluate", path, "synthetic", "--recipe", workshop / "tiny.toml")
        assert (code, out) == (2, "")
        assert "gives defocus in depths of field only" in err

    def test_a_stack_without_labels_is_refused(
        self, parfocal: Parfocal, workshop: Path, tmp_path: Path
    ) -> None:
        tiny.write_stack(tmp_path / "s", {"focus_z": 0.0})
        code, out, err = parfocal("evaluate", workshop / "m.tflite", tmp_path / "s", "--json")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "about.json does not state them: give --objective and --pixel-um" in err


class TestDamage:
    def test_a_run_without_a_readable_network_is_refused(
        self, parfocal: Parfocal, workshop: Path, tmp_path: Path
    ) -> None:
        run, out = tmp_path / "run", tmp_path / "m.tflite"
        shutil.copytree(workshop / "run", run)
        path = run / "model.keras"
        whole = path.read_bytes()
        for content in (None, b"", b"model", whole[: len(whole) // 2], whole[:-9]):
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)
            code, text, err = parfocal("convert", run, "--out", out)
            assert (code, text, err.count("\n")) == (2, "", 1), err
            assert "model.keras" in err
            assert not out.exists()

    def test_a_damaged_network_is_one_line(self, workshop: Path, tmp_path: Path) -> None:

        path = tmp_path / "model.keras"
        whole = (workshop / "run" / "model.keras").read_bytes()
        refused = 0
        for k in np.random.default_rng(0).integers(0, len(whole), 12):
            path.write_bytes(whole[:k] + bytes([whole[k] ^ 0xFF]) + whole[k + 1 :])
            line = tiny.input_error(lambda: saved_network.load(tmp_path, tiny.recipe().network))
            if line is not None:
                refused += 1
                assert line.startswith(f"{path}: not a readable Keras model: ")
        assert refused >= 10

    def test_a_run_of_another_recipe_is_refused(
        self, parfocal: Parfocal, workshop: Path, tmp_path: Path
    ) -> None:
        run, out = tmp_path / "run", tmp_path / "m.tflite"
        shutil.copytree(workshop / "run", run)
        other = tiny.recipe(network={"bin_count": 9})
        (run / "recipe.json").write_text(other.model_dump_json(), "utf-8")
        code, text, err = parfocal("convert", run, "--out", out)
        assert (code, text) == (2, "")
        assert "the recipe asks for (32, 32, 3) and 9" in err
        assert not out.exists()

    def test_a_truncated_model_file_is_one_line(self, workshop: Path, tmp_path: Path) -> None:
        whole, path = (workshop / "m.tflite").read_bytes(), tmp_path / "m.tflite"
        for length in np.linspace(0, len(whole) - 1, 500).astype(int):
            path.write_bytes(whole[:length])
            line = tiny.input_error(lambda: models.load(path))
            assert line is not None
            assert line.startswith(f"{path}: ")

    def test_a_flipped_byte_is_one_line_or_harmless(self, workshop: Path, tmp_path: Path) -> None:
        """Harmless: the date of the zip and the like. Never another network or another card."""
        whole, path = (workshop / "m.tflite").read_bytes(), tmp_path / "m.tflite"
        length, good = len(whole), cards.read(workshop / "m.tflite")
        rng = np.random.default_rng(0)
        flatbuffer = len(good[0])
        places = [*rng.integers(0, flatbuffer, 500), *rng.integers(flatbuffer, length, 420)]
        harmless = 0
        for k in [*places, *range(length - 80, length)]:
            path.write_bytes(whole[:k] + bytes([whole[k] ^ int(rng.integers(1, 256))]) + whole[k + 1 :])
            line = tiny.input_error(lambda: models.load(path))
            if line is None:
                harmless += 1
                assert cards.read(path) == good
            else:
                assert line.startswith(f"{path}: ")
        assert harmless < 100
