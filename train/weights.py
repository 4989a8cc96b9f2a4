"""Weights to start from: fetched by Keras, or from a file; never in silence from nothing.

A file is an ``.npz`` with an array for each weight, keyed ``<layer>/<weight>``, or an ``.h5`` as Keras itself
publishes them (``…_notop.h5``), of the base without its top. For MobileNetV2 the file is of width 1.00, and
narrower networks take its most important channels.
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

Array = NDArray[np.float32]
_FULL_NAMES = {"mobilenetv2": "MobileNetV2 1.00", "resnet50": "ResNet50", "vgg16": "VGG16"}
#: Blocks that share their channels because residual connections link them; 0 is ``expanded_conv``.
_STAGES = ((0,), (1, 2), (3, 4, 5), (6, 7, 8, 9), (10, 11, 12), (13, 14, 15), (16,))


def load_weights(base: keras.Model, network: Network, weights: str) -> None:
    """Put ``weights`` (``imagenet``, or a path) into ``base``. Raises InputError where they do not fit it."""
    if weights == "imagenet":
        _fetch(base, network)
    else:
        source = _read(Path(weights), network)
        pruned = network.base == "mobilenetv2"
        kept = _kept_channels(base, source) if pruned else {}
        for layer in base.layers:
            values = [_part(source[_key(layer, w)], layer, w, kept.get(layer.name)) for w in layer.weights]
            if values:
                layer.set_weights(values)


def _full(network: Network) -> keras.Model:
    """The network that a file of weights is of."""
    settings: dict[str, Any] = {"input_shape": (96, 96, 3), "include_top": False, "weights": None}
    if network.base == "mobilenetv2":
        return keras.applications.MobileNetV2(alpha=1.0, **settings)
    make = {"resnet50": keras.applications.ResNet50, "vgg16": keras.applications.VGG16}[network.base]
    return make(**settings)


def _key(layer: keras.Layer, weight: Any) -> str:
    return f"{layer.name}/{weight.name}"


def _read(path: Path, network: Network) -> dict[str, Array]:
    """The weights of a file by layer and weight. Raises InputError where they are of another network."""
    wanted = _FULL_NAMES[network.base]
    full = _full(network)
    expected = {_key(layer, w): tuple(w.shape) for layer in full.layers for w in layer.weights}
    if path.suffix == ".h5":
        if not path.is_file():
            raise InputError(f"{path}: not a readable weights file ({wanted} without top): no such file")
        try:
            full.load_weights(path)
        except (OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
            raise InputError(
                f"{path}: weights of another network, or damaged: {wanted} without top is needed"
                f" ({one_line(error)})"
            ) from error
        return {
            _key(layer, w): np.asarray(keras.ops.convert_to_numpy(w), np.float32)
            for layer in full.layers
            for w in layer.weights
        }
    source = read_npz(path, f"a readable weights file (.npz or .h5 of {wanted})")
    floats = all(value.dtype.kind == "f" for value in source.values())
    if not floats or {key: value.shape for key, value in source.items()} != expected:
        odd = _first_odd(source, expected)
        raise InputError(f"{path}: weights of another network: {wanted} without top is needed{odd}")
    return source


def _first_odd(source: dict[str, Array], expected: dict[str, tuple[int, ...]]) -> str:
    """The first weight that is missing, strange or of another shape, in brackets."""
    for key, shape in expected.items():
        if key not in source:
            return f" (no {key} in it)"
        if source[key].shape != shape:
            return f" ({key} is {source[key].shape}, not {shape})"
    strange = next((key for key in source if key not in expected), None)
    return f" ({one_line(strange, limit=60)} is not of it)" if strange else ""


def _part(value: Array, layer: keras.Layer, weight: Any, kept: tuple[Any, Any] | None) -> Array:
    """The channels of one weight that a narrower network keeps."""
    if kept is None:
        return value
    into, out = kept
    if weight.name != "kernel":
        value = value[out]
    elif "depthwise" in layer.name:
        value = value[:, :, out, :]
    else:
        value = value[:, :, into][:, :, :, out]
    return value


def _fetch(base: keras.Model, network: Network) -> None:
    """Keras' own ImageNet weights, which it downloads on first use; MobileNetV2's for certain widths only."""
    settings: dict[str, Any] = {"include_top": False, "weights": "imagenet"}
    if network.base == "mobilenetv2":
        size = min((96, 128, 160, 192, 224), key=lambda px: abs(px - network.tile_px))
        settings |= {"alpha": network.width, "input_shape": (size, size, 3)}
    make = {
        "mobilenetv2": keras.applications.MobileNetV2,
        "resnet50": keras.applications.ResNet50,
        "vgg16": keras.applications.VGG16,
    }[network.base]
    try:
        source = make(**settings)
    # A download that fails is a bare Exception in Keras, so nothing narrower would do.
    except Exception as error:
        if type(error) is not Exception and not isinstance(error, (ValueError, OSError)):
            raise
        raise InputError(
            "ImageNet weights cannot be fetched: pass --weights FILE (.npz or .h5) or --weights scratch"
            f" ({one_line(error)})"
        ) from error
    base.set_weights(source.get_weights())


def _kept_channels(base: keras.Model, source: dict[str, Array]) -> dict[str, tuple[Any, Any]]:
    """Layer name → (input channels, output channels) that are kept, as sorted index arrays.

    The channels of least scale times kernel norm are dropped (Li et al., Pruning Filters for Efficient
    ConvNets, 2017), the same ones in every block that a residual connection links.
    """

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
