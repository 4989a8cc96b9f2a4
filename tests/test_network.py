"""The network: what its weights become when it is narrower than their source, and what is refused."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from numpy.typing import NDArray

from edge.errors import InputError

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(find_spec("keras") is None, reason="needs the train extra (TensorFlow)"),
    # TensorFlow's variables do not know NumPy 2's way to ask for an array.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

#: Blocks whose outputs are added to each other, so that they must keep the same channels.
LINKED = [(1, 2), (3, 4, 5), (6, 7, 8, 9), (10, 11, 12), (13, 14, 15)]


@pytest.fixture(scope="module")
def source() -> Any:
    """MobileNetV2 1.00 without top, every weight drawn at random."""
    import keras

    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(
        input_shape=(96, 96, 3), alpha=1.0, include_top=False, weights=None
    )
    rng = np.random.default_rng(0)
    for layer in model.layers:
        values = [
            rng.uniform(0.5, 1.5, w.shape) if w.name == "moving_variance" else rng.normal(0, 0.3, w.shape)
            for w in layer.weights
        ]
        if values:
            layer.set_weights(values)
    return model


@pytest.fixture(scope="module")
def npz(source: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of `source` in the form that ``--weights`` takes."""
    path = tmp_path_factory.mktemp("weights") / "full.npz"
    np.savez(path, **_arrays(source))
    return path


def _arrays(model: Any) -> dict[str, NDArray[np.float32]]:
    """The weights by layer and name; of one of ours, those of the base within it and of the head."""
    bases = [layer for layer in model.layers if layer.name == "mobilenetv2"]
    layers = [*model.layers, *(inner for base in bases for inner in base.layers)]
    return {f"{x.name}/{w.name}": np.asarray(w) for x in layers if x not in bases for w in x.weights}


def test_an_earlier_run_is_gone_on_from(tmp_path: Path) -> None:
    earlier = _build("scratch", seed=1)
    earlier.save(tmp_path / "model.keras")
    for ours, theirs in zip(
        _build(tmp_path / "model.keras", seed=2).get_weights(), earlier.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(_build("scratch", seed=2).get_weights()[0], earlier.get_weights()[0])


def _build(weights: object, seed: int = 1, **network: Any) -> Any:
    from train.network import build

    return build(tiny.recipe(network=network).network, str(weights), seed=seed)


@pytest.fixture(scope="module")
def narrow(npz: Path) -> Any:
    """Width 0.35, pruned from `source`, every block kept."""
    return _build(npz, width=0.35, cut=16)


class TestShape:
    @pytest.mark.parametrize(("cut", "last"), [(1, "block_1_project_BN"), (2, "block_2_add")])
    def test_outputs_are_logits_and_features(self, cut: int, last: str) -> None:
        model = _build("scratch", cut=cut, bin_count=9)
        assert model.input_shape == (None, 32, 32, 3)
        assert {k: tuple(v.shape) for k, v in model.output.items()} == {
            "logits": (None, 9),
            "features": (None, 256),
        }
        names = [layer.name for layer in model.get_layer("mobilenetv2").layers]
        assert names[-1] == last
        assert f"block_{cut + 1}_expand" not in names

    def test_a_seed_gives_the_same_network(self) -> None:
        one, same, other = (_arrays(_build("scratch", seed=s, cut=1)) for s in (1, 1, 2))
        assert all(np.array_equal(one[k], same[k]) for k in one)
        assert not np.array_equal(one["Conv1/kernel"], other["Conv1/kernel"])

    @pytest.mark.parametrize(
        ("network", "channels"),
        [
            ({"base": "mobilenetv2", "width": 0.35, "cut": None}, 1280),
            ({"base": "resnet50", "cut": 2}, 256),
            ({"base": "vgg16", "cut": 3}, 256),
            ({"base": "vgg16", "cut": None}, 512),
        ],
    )
    @pytest.mark.parametrize("head", ["parfocal", "paper"])
    def test_every_base_with_either_head(self, network: dict[str, Any], channels: int, head: str) -> None:
        model = _build("scratch", head=head, **network)
        body = model.get_layer(network["base"])
        assert body.output.shape[-1] == channels
        out = model(np.zeros((1, 32, 32, 3), np.float32), training=False)
        assert {k: tuple(v.shape) for k, v in out.items()} == {"logits": (1, 7), "features": (1, 256)}

    def test_the_papers_head_is_as_the_paper_says(self) -> None:
        import keras

        model = _build("scratch", head="paper", input="raw", labels="jiang41")
        head = [
            layer for layer in model.layers if isinstance(layer, (keras.layers.Dense, keras.layers.Dropout))
        ]
        assert [(type(x).__name__, getattr(x, "units", None) or x.rate) for x in head] == [
            ("Dense", 256),
            ("Dropout", 0.2),
            ("Dense", 256),
            ("Dropout", 0.2),
            ("Dense", 41),
        ]

    def test_raw_bytes_are_divided_by_255_inside(self) -> None:
        """`edge.tiles` gives (byte - 128) / 127; the paper's networks see byte / 255."""
        rescale = _build("scratch", input="raw").get_layer("rescale")
        seen = np.asarray(rescale((np.array([0.0, 51.0, 255.0]) - 128) / 127))
        np.testing.assert_allclose(seen, [0, 0.2, 1], atol=1e-6)

    def test_a_frozen_base_is_not_fitted(self) -> None:
        from train.network import build

        model = build(tiny.recipe().network, "scratch", seed=1, frozen=True)
        assert not model.get_layer("mobilenetv2").trainable_variables
        assert model.trainable_variables

    def test_blocks_behind_patches_are_as_the_rows_say(self) -> None:
        body = self._patched("scratch").get_layer("mobilenetv2")
        shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in body.layers[1:]}
        assert shapes["Conv1"] == (8, 8, 5)
        assert shapes["block_1_expand"] == (8, 8, 10)
        assert shapes["block_1_depthwise"] == (4, 4, 10)
        assert shapes["block_2_add"] == shapes["block_1_project"] == (4, 4, 6)
        assert shapes["block_3_expand"] == (4, 4, 18)
        assert body.output.shape[1:] == (4, 4, 7)
        assert {x for x in shapes if x.endswith("add")} == {"block_2_add"}, "of equal shapes, and only those"

    def test_behind_patches_a_patch_is_one_position(self) -> None:
        stem = self._patched("scratch").get_layer("mobilenetv2").get_layer("Conv1")
        tile = np.zeros((1, 32, 32, 3), np.float32)
        tile[0, 4:8, 8:12] = 1
        assert np.argwhere(np.asarray(stem(tile))[0].any(axis=-1)).tolist() == [[1, 2]]

    def test_weights_of_another_network_are_no_start_behind_patches(self, npz: Path, tmp_path: Path) -> None:
        for weights in ("imagenet", npz):
            with pytest.raises(InputError, match=f"^--weights {weights}: .*: scratch, or the model.keras of"):
                self._patched(weights)
        one = self._patched("scratch")
        one.save(tmp_path / "model.keras")
        for ours, theirs in zip(
            self._patched(tmp_path / "model.keras", seed=2).get_weights(), one.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)

    def test_the_shipped_models_record_is_gone_on_from(self) -> None:
        """It is the network that the shipped file was converted from."""
        from edge import model as models
        from train.data import named_recipe
        from train.network import build

        ours = models.load("default")
        kept = models.DEFAULT_PATH.parent / "record" / "model.keras"
        network = build(named_recipe("default").network, str(kept), seed=1)
        tiles = np.random.default_rng(0).uniform(-1, 1, (4, 128, 128, 3)).astype(np.float32)
        theirs = np.asarray(network(tiles, training=False)["logits"])
        assert np.abs(ours.infer(tiles)[0] - theirs).mean() < 0.2 * theirs.std()

    @staticmethod
    def _patched(weights: object, seed: int = 1) -> Any:
        return _build(
            weights, seed, width=0.35, cut=None, patch_px=4, stem=5, blocks=((2, 6, 2, 2), (3, 7, 1, 1))
        )

    def test_the_stem_may_keep_fine_texture(self, npz: Path) -> None:
        coarse, fine = (_build(npz, stem_stride=stride) for stride in (2, 1))
        sizes = [m.get_layer("mobilenetv2").output.shape[1] for m in (coarse, fine)]
        assert sizes[1] == 2 * sizes[0]
        ours, theirs = _arrays(fine), _arrays(coarse)
        assert all(np.array_equal(ours[k], theirs[k]) for k in ours if k.startswith(("Conv1", "block")))


class TestWeights:
    def test_the_full_width_takes_them_as_they_are(self, source: Any, npz: Path) -> None:
        model = _build(npz, width=1.0, cut=16, tile_px=64)
        theirs = _arrays(source)
        ours = {k: v for k, v in _arrays(model).items() if k.split("/")[0] in {n.name for n in source.layers}}
        # All but Conv_1, which follows the last block.
        assert sorted(set(theirs) - set(ours)) == sorted(k for k in theirs if k.startswith("Conv_1"))
        for name, value in ours.items():
            np.testing.assert_array_equal(value, theirs[name], err_msg=name)

    def test_the_full_width_computes_what_its_source_does(self, source: Any, npz: Path) -> None:
        import keras

        model = _build(npz, width=1.0, cut=16, tile_px=96)
        last = "block_16_project_BN"
        cut_off = [model.get_layer("mobilenetv2"), keras.Model(source.input, source.get_layer(last).output)]
        tile = np.random.default_rng(1).uniform(-1, 1, (1, 96, 96, 3)).astype(np.float32)
        ours, theirs = (np.asarray(m(tile, training=False)) for m in cut_off)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())

    def test_a_narrow_one_takes_channels_of_its_source(self, source: Any, narrow: Any) -> None:
        theirs, ours = _arrays(source), _arrays(narrow)
        for name in ("bn_Conv1", "block_5_project_BN", "block_16_depthwise_BN"):
            kept = _kept(theirs[f"{name}/gamma"], ours[f"{name}/gamma"])
            assert kept == sorted(kept)
            for weight in ("beta", "moving_mean", "moving_variance"):
                np.testing.assert_array_equal(theirs[f"{name}/{weight}"][kept], ours[f"{name}/{weight}"])

    def test_kernels_follow_the_channels_before_and_after(self, source: Any, narrow: Any) -> None:
        theirs, ours = _arrays(source), _arrays(narrow)
        into = _kept(theirs["block_3_project_BN/gamma"], ours["block_3_project_BN/gamma"])
        out = _kept(theirs["block_4_expand_BN/gamma"], ours["block_4_expand_BN/gamma"])
        expected = theirs["block_4_expand/kernel"][:, :, into][:, :, :, out]
        np.testing.assert_array_equal(ours["block_4_expand/kernel"], expected)
        expected = theirs["block_4_depthwise/kernel"][:, :, out]
        np.testing.assert_array_equal(ours["block_4_depthwise/kernel"], expected)

    @pytest.mark.parametrize("blocks", LINKED)
    def test_linked_blocks_keep_the_same_channels(
        self, source: Any, narrow: Any, blocks: tuple[int, ...]
    ) -> None:
        theirs, ours = _arrays(source), _arrays(narrow)
        names = [f"block_{k}_project_BN/gamma" for k in blocks]
        kept = [_kept(theirs[name], ours[name]) for name in names]
        assert all(k == kept[0] for k in kept)

    def test_a_file_as_keras_writes_it_will_do(self, source: Any, npz: Path, tmp_path: Path) -> None:
        path = tmp_path / "full.weights.h5"
        source.save_weights(path)
        one, other = (_arrays(_build(file, width=0.35, cut=2)) for file in (path, npz))
        assert all(np.array_equal(one[key], other[key]) for key in other if not key.startswith("logits"))
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(InputError, match="weights of another network, or damaged"):
            _build(path)

    def test_it_runs(self, narrow: Any) -> None:
        out = narrow(np.zeros((2, 32, 32, 3), np.float32), training=False)
        assert np.isfinite(np.asarray(out["logits"])).all()


def _kept(theirs: NDArray[np.float32], ours: NDArray[np.float32]) -> list[int]:
    """Where our values stand among theirs, which are all different."""
    return [int(np.flatnonzero(theirs == value)[0]) for value in ours]


class TestRefused:
    def _line(self, weights: object, **network: Any) -> str:
        with pytest.raises(InputError) as caught:
            _build(weights, **network)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_a_file_that_is_missing_or_no_npz(self, tmp_path: Path) -> None:
        assert "none.npz: not a readable weights file" in self._line(tmp_path / "none.npz")
        (tmp_path / "text.npz").write_text("weights")
        assert "text.npz: not a readable weights file" in self._line(tmp_path / "text.npz")
        assert "not a readable weights file" in self._line(tmp_path)

    def test_a_file_that_is_cut_short_or_damaged(self, npz: Path, tmp_path: Path) -> None:
        whole, path = npz.read_bytes(), tmp_path / "w.npz"
        middle = len(whole) // 2
        for data in (
            whole[:middle],
            whole[:-30],
            whole[:middle] + bytes(64) + whole[middle + 64 :],
            whole[:-40] + bytes(40),
        ):
            path.write_bytes(data)
            assert self._line(path).startswith(f"{path}: ")

    def test_weights_of_another_network(self, source: Any, tmp_path: Path) -> None:
        arrays, path = _arrays(source), tmp_path / "w.npz"
        for changes in (
            {"Conv1/kernel": np.zeros((3, 3, 3, 16), np.float32)},
            {"more": np.zeros(1, np.float32)},
            {"Conv1/kernel": np.full((3, 3, 3, 32), "a")},
        ):
            np.savez(path, **{**arrays, **changes})
            assert "MobileNetV2 1.00 without top is needed" in self._line(path)
        arrays.pop("Conv1/kernel")
        np.savez(path, **arrays)
        assert self._line(path).endswith("MobileNetV2 1.00 without top is needed (no Conv1/kernel in it)")
        assert "ResNet50 without top is needed" in self._line(path, base="resnet50", cut=2)

    def test_a_saved_network_that_is_not_one(self, tmp_path: Path) -> None:
        (tmp_path / "a.keras").write_text("weights")
        assert "a.keras: not a readable Keras model" in self._line(tmp_path / "a.keras")
        _build("scratch").save(tmp_path / "b.keras")
        assert "b.keras: weights of another network" in self._line(tmp_path / "b.keras", width=0.5)
        assert "the recipe asks for" in self._line(tmp_path / "b.keras", bin_count=9)

    def test_a_network_wider_than_the_weights(self, npz: Path) -> None:
        assert self._line(npz, width=1.4).startswith("width above 1.0: ")

    @pytest.mark.parametrize(
        "error",
        [Exception("URL fetch failure on https://…\nNone"), ValueError("no such alpha"), OSError("full")],
    )
    def test_weights_that_cannot_be_fetched(self, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
        """Keras raises a bare Exception where there is no network."""
        import keras

        real = keras.applications.MobileNetV2

        def offline(**arguments: Any) -> Any:
            if arguments["weights"] == "imagenet":
                raise error
            return real(**arguments)

        monkeypatch.setattr(keras.applications, "MobileNetV2", offline)
        assert "pass --weights FILE (.npz or .h5) or --weights scratch" in self._line("imagenet", cut=1)

    def test_a_fault_of_ours_is_not_taken_for_a_missing_network(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import keras

        real = keras.applications.MobileNetV2

        def broken(**arguments: Any) -> Any:
            if arguments["weights"] == "imagenet":
                raise AttributeError("a fault")
            return real(**arguments)

        monkeypatch.setattr(keras.applications, "MobileNetV2", broken)
        with pytest.raises(AttributeError, match="a fault"):
            _build("imagenet", cut=1)
