"""The network: MobileNetV2 of any width, cut at any block, with a head over defocus bins.

Input is ``(N, S, S, 3)`` float32 tiles from `edge.tiles` (-1 to 1), which is also what MobileNetV2 was
trained on; there is no preprocessing in the model. Outputs: ``logits`` ``(N, bins)`` and ``features``
``(N, 256)``, the input of the last layer, so that a device can refit that layer on its own stacks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError, one_line
from train.arrays import read_npz
from train.recipe import Network

FEATURES = 256
#: Keras' 0.999 needs thousands of steps before held-out results mean anything.
BATCH_NORM_MOMENTUM = 0.97

Array = NDArray[np.float32]
#: Blocks that share their channels because residual connections link them; 0 is ``expanded_conv``.
_STAGES = ((0,), (1, 2), (3, 4, 5), (6, 7, 8, 9), (10, 11, 12), (13, 14, 15), (16,))


def bin_centres_dof(network: Network) -> NDArray[np.float64]:
    """``(bins,)`` float64 centres, evenly spaced; the outermost stand for "at least this far"."""
    return np.linspace(-network.bin_range_dof, network.bin_range_dof, network.bin_count)


def build(network: Network, weights: str, *, seed: int) -> keras.Model:
    """The Keras model, its new layers drawn from ``seed``.

    ``weights``: ``scratch``, ``imagenet`` (Keras fetches those of this width), or the path of an ``.npz`` of
    MobileNetV2 1.00 without top, pruned to a narrower width. Raises InputError when the file is missing,
    damaged or of another network, or nothing can be fetched.
    """
    keras.utils.set_random_seed(seed)
    size = (network.tile_px, network.tile_px, 3)
    base = keras.applications.MobileNetV2(
        input_shape=size, alpha=network.width, include_top=False, weights=None
    )
    if weights == "imagenet":
        _fetch(base, network)
    elif weights != "scratch":
        _load(base, Path(weights))
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = BATCH_NORM_MOMENTUM
    last = _last_of_block(base, network.cut)
    x = keras.layers.Conv2D(FEATURES, 1, use_bias=False, name="head_conv")(last)
    x = keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name="head_bn")(x)
    x = keras.layers.ReLU(6.0, name="head_relu")(x)
    features = keras.layers.GlobalAveragePooling2D(name="features")(x)
    dropped = keras.layers.Dropout(0.1, name="head_dropout")(features)
    logits = keras.layers.Dense(network.bin_count, name="logits")(dropped)
    return keras.Model(base.input, {"logits": logits, "features": features}, name="parfocal")


def _last_of_block(base: keras.Model, block: int) -> Any:
    names = [f"block_{block}_add", f"block_{block}_project_BN"]
    return next(base.get_layer(n).output for n in names if any(layer.name == n for layer in base.layers))


def _fetch(base: keras.Model, network: Network) -> None:
    """Keras' own ImageNet weights, which it keeps for certain widths and downloads on first use."""
    size = (_fetched_px(network.tile_px), _fetched_px(network.tile_px), 3)
    try:
        source = keras.applications.MobileNetV2(
            input_shape=size, alpha=network.width, include_top=False, weights="imagenet"
        )
    # A download that fails is a bare Exception in Keras, so nothing narrower would do.
    except Exception as error:
        if type(error) is not Exception and not isinstance(error, (ValueError, OSError)):
            raise
        why = one_line(error)
        raise InputError(
            f"ImageNet weights cannot be fetched: pass --weights FILE.npz or --weights scratch ({why})"
        ) from error
    base.set_weights(source.get_weights())


def _fetched_px(tile_px: int) -> int:
    """The size of input, of those that Keras has weights for, that is nearest."""
    return min((96, 128, 160, 192, 224), key=lambda px: abs(px - tile_px))


def _load(base: keras.Model, path: Path) -> None:
    """Put ImageNet weights of width 1.00 into ``base``, pruned by filter norm where ``base`` is narrower.

    The channels of least scale times kernel norm are dropped (Li et al., Pruning Filters for Efficient
    ConvNets, 2017), the same ones in every block that a residual connection links.
    """
    source = read_npz(path, "a readable weights file (.npz of MobileNetV2 1.00)")
    full = keras.applications.MobileNetV2(input_shape=(96, 96, 3), alpha=1.0, include_top=False, weights=None)
    expected = {f"{layer.name}/{w.name}": tuple(w.shape) for layer in full.layers for w in layer.weights}
    floats = all(value.dtype.kind == "f" for value in source.values())
    if not floats or {key: value.shape for key, value in source.items()} != expected:
        raise InputError(f"{path}: weights of another network: MobileNetV2 1.00 without top is needed")
    kept = _kept_channels(base, source)
    for layer in base.layers:
        values = []
        for weight in layer.weights:
            into, out = kept[layer.name]
            value = source[f"{layer.name}/{weight.name}"]
            if weight.name != "kernel":
                value = value[out]
            elif "depthwise" in layer.name:
                value = value[:, :, out, :]
            else:
                value = value[:, :, into][:, :, :, out]
            values.append(value)
        if values:
            layer.set_weights(values)


def _kept_channels(base: keras.Model, source: dict[str, Array]) -> dict[str, tuple[Any, Any]]:
    """Layer name → (input channels, output channels) that are kept, as sorted index arrays."""

    def width(layer: str) -> int:
        return int(base.get_layer(layer).output.shape[-1])

    def best(score: Array, count: int) -> NDArray[np.intp]:
        if count > len(score):
            raise InputError("width above 1.0: weights of width 1.00 do not suffice, pass --weights scratch")
        return np.sort(np.argsort(-score, kind="stable")[:count])

    def norm(prefix: str) -> Array:
        kernel = source[f"{prefix}/kernel"]
        scale = np.abs(source[f"{prefix}_BN/gamma"]) / np.sqrt(source[f"{prefix}_BN/moving_variance"] + 1e-3)
        return np.asarray(scale * np.abs(kernel).sum(axis=(0, 1, 2)), np.float32)

    def hidden_norm(block: str) -> Array:
        gamma = np.abs(source[f"{block}_depthwise_BN/gamma"])
        return np.asarray(gamma * np.abs(source[f"{block}_project/kernel"]).sum(axis=(0, 1, 3)), np.float32)

    everything = slice(None)
    stem = best(hidden_norm("expanded_conv"), width("Conv1"))
    kept: dict[str, tuple[Any, Any]] = dict.fromkeys(("Conv1", "bn_Conv1"), (everything, stem))
    current = stem
    for stage in _STAGES:
        names = ["expanded_conv" if k == 0 else f"block_{k}" for k in stage]
        out = best(np.sum([norm(f"{n}_project") for n in names], axis=0), width(f"{names[0]}_project"))
        for name in names:
            hidden = current
            if name != "expanded_conv":
                hidden = best(hidden_norm(name), width(f"{name}_expand"))
                kept[f"{name}_expand"] = kept[f"{name}_expand_BN"] = (current, hidden)
            kept[f"{name}_depthwise"] = kept[f"{name}_depthwise_BN"] = (hidden, hidden)
            kept[f"{name}_project"] = kept[f"{name}_project_BN"] = (hidden, out)
            current = out
    last = best(np.abs(source["Conv_1_bn/gamma"]), width("Conv_1"))
    kept["Conv_1"] = kept["Conv_1_bn"] = (current, last)
    return kept
