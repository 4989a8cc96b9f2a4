"""Other first blocks for a trained network: what is taken over, what is fitted, what is refused."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

from edge.errors import InputError
from train.tile_data import floats

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(find_spec("keras") is None, reason="needs the train extra (TensorFlow)"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

PATCHED = {"width": 0.35, "cut": None, "patch_px": 4, "stem": 5}
BLOCKS = ((2, 6, 2, 2), (3, 7, 1, 1))


def built(seed: int, *, fused: int = 0, blocks: Any = BLOCKS) -> Any:
    from train.network import build

    recipe = tiny.recipe(network={**PATCHED, "blocks": blocks, "fused": fused})
    return build(recipe.network, "scratch", seed=seed)


def weights_of(network: Any) -> dict[str, Any]:
    from train import graft

    return {
        f"{layer.name}/{w.name}": np.asarray(w) for layer in graft._layers(network) for w in layer.weights
    }


def test_a_fused_block_is_one_convolution_and_a_projection() -> None:
    body = built(1, fused=1).get_layer("mobilenetv2")
    shapes = {layer.name: tuple(layer.output.shape[1:]) for layer in body.layers[1:]}
    assert shapes["block_1_fused"] == (4, 4, 10), "expansion times channels, the stride in it"
    assert shapes["block_2_fused"] == (4, 4, 12)
    assert shapes["block_2_add"] == shapes["block_1_project"] == (4, 4, 6)
    assert body.get_layer("block_1_fused").kernel.shape == (3, 3, 5, 10)
    assert shapes["block_3_depthwise"] == (4, 4, 18), "of the second row: as the paper has it"
    assert not {"block_1_expand", "block_2_depthwise", "block_3_fused"} & set(shapes)


def test_what_both_have_is_taken_over_and_the_rest_named() -> None:
    from train import graft

    new, trained = built(1, fused=1), built(2)
    before = weights_of(new)
    drawn = graft.take_over(new, trained)
    ours, theirs = weights_of(new), weights_of(trained)
    assert {"block_1_fused", "block_2_fused_BN"} <= set(drawn)
    # A projection of the same shape is of another block: only its fitting makes it fit.
    assert not {"Conv1", "block_3_depthwise", "head_conv", "logits"} & set(drawn)
    for key, value in ours.items():
        source = before if key.split("/")[0] in drawn else theirs
        np.testing.assert_array_equal(value, source[key], err_msg=key)


def test_fitting_brings_the_new_blocks_to_what_the_old_ones_give() -> None:
    from train import graft

    recipe = tiny.recipe(
        network={**PATCHED, "blocks": BLOCKS, "fused": 1},
        fit={"epochs": 8, "batch": 16, "learning_rate": 0.02},
    )
    new, trained = built(1, fused=1), built(2)
    for _ in range(40):  # so that its normalisations are those of the tiles
        trained(floats(tiny.tile_data(100).pixels), training=True)
    graft.take_over(new, trained)
    front, wanted = graft.fronts(new, trained, 2)
    later = {k: v for k, v in weights_of(new).items() if k.startswith(("block_3", "head", "logits"))}
    kept = weights_of(trained)
    left = graft.fit(front, wanted, tiny.tile_data(200), tiny.tile_data(60, seed=1), recipe)
    assert len(left) == 8
    assert left[-1] < 0.5 * left[0]
    assert left[-1] < 0.6, "what a mean would leave is 1"
    after = weights_of(new)
    for key, value in later.items():
        np.testing.assert_array_equal(after[key], value, err_msg=key)
    for key, value in weights_of(trained).items():
        np.testing.assert_array_equal(value, kept[key], err_msg=key)


def test_blocks_that_give_something_else_are_refused() -> None:
    from train import graft

    with pytest.raises(
        InputError, match=r"^--onto: its first 2 blocks give \(4, 4, 6\): the recipe's, \(4, 4, 8\)"
    ):
        graft.fronts(built(1, fused=1, blocks=((2, 8, 2, 2), (3, 7, 1, 1))), built(2), 2)


def test_a_network_that_ends_before_is_refused() -> None:
    from train import graft

    with pytest.raises(
        InputError, match=r"^--onto: it has no block 2, which the recipe's fused blocks end with$"
    ):
        graft.fronts(built(1, fused=1), built(2, blocks=((2, 6, 1, 2),)), 2)


@pytest.fixture
def onto(tmp_path: Path) -> Path:
    built(2).save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def recipe_file(folder: Path, *, fused: int) -> str:
    network = {**PATCHED, "blocks": BLOCKS, "fused": fused}
    return str(tiny.write_recipe(folder / "tiny.toml", network=network))


def test_the_command_writes_a_network_that_training_goes_on_from(
    onto: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from train import graft, network
    from train.data import named_recipe

    recipe = recipe_file(tmp_path, fused=1)
    out = tmp_path / "graft.keras"
    assert graft.main(["synthetic", "--recipe", recipe, "--onto", str(onto), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "drawn, and fitted now: block_1_fused," in printed
    assert "epoch 1/1: " in printed
    gone_on = network.build(named_recipe(recipe).network, str(out), seed=5)
    np.testing.assert_array_equal(
        weights_of(gone_on)["block_3_expand/kernel"], weights_of(built(2))["block_3_expand/kernel"]
    )


def test_later_layers_of_other_shapes_are_refused_not_left_as_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from train import graft

    other, out = tmp_path / "other.keras", tmp_path / "graft.keras"
    built(2, blocks=((2, 6, 2, 2), (4, 7, 1, 1))).save(other)
    recipe = recipe_file(tmp_path, fused=1)
    assert graft.main(["synthetic", "--recipe", recipe, "--onto", str(other), "--out", str(out)]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(
        f"graft: --onto {other}: block_3_depthwise, block_3_depthwise_BN, block_3_expand, "
    )
    assert not out.exists()


@pytest.mark.parametrize(
    ("fused", "out", "line"),
    [
        (0, "graft.keras", "graft: --recipe {recipe}: one whose [network] has fused blocks is needed"),
        (
            1,
            "graft.h5",
            "graft: --out {out}: a .keras file in a folder that is there, and not itself, is allowed",
        ),
        (1, "model.keras", "graft: --out {out}: a .keras file in a folder that is there, and not itself, is"),
        (
            1,
            "no/graft.keras",
            "graft: --out {out}: a .keras file in a folder that is there, and not itself, is",
        ),
    ],
)
def test_bad_input_is_one_line(
    fused: int, out: str, line: str, onto: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from train import graft

    recipe, path = recipe_file(tmp_path, fused=fused), str(tmp_path / out)
    before = onto.read_bytes()
    assert graft.main(["synthetic", "--recipe", recipe, "--onto", str(onto), "--out", path]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(line.format(recipe=recipe, out=path))
    assert printed.count("\n") == 1
    assert onto.read_bytes() == before
