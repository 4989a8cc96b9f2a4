"""The network: MobileNetV2, ResNet50 or VGG16, perhaps cut, with the paper's head or ours over the bins.

Input is ``(N, S, S, 3)`` float32 tiles from `edge.tiles` (-1 to 1). What a base wants instead is made of that
inside the model, and nowhere else:

    raw tiles, paper's recipe    bytes / 255, as the paper has it, whatever the base
    normalised, MobileNetV2      -1 to 1: what it was trained on
    normalised, the others       times 127.5: the span about the mean that theirs had (their order of colours
                                 is blue first; a fitted base learns ours)

Outputs: ``logits`` ``(N, bins)`` and ``features`` ``(N, F)``, the input of the last layer, so that a device
can refit that layer on its own stacks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from edge.errors import InputError
from train import saved_network
from train.labels import bins_of
from train.patched import patched
from train.recipe import Network
from train.weights import load_weights

FEATURES = 256
#: Keras' 0.999 needs thousands of steps before held-out results mean anything.
BATCH_NORM_MOMENTUM = 0.9
_PAPER_DENSE, _PAPER_DROPOUT = 256, 0.2
_APPLICATIONS = {
    "mobilenetv2": keras.applications.MobileNetV2,
    "resnet50": keras.applications.ResNet50,
    "vgg16": keras.applications.VGG16,
}


def build(network: Network, weights: str, *, seed: int, frozen: bool = False) -> keras.Model:
    """The Keras model, its new layers drawn from ``seed``; ``frozen``: the base is not to be fitted.

    ``weights``: ``scratch``, ``imagenet`` (Keras fetches them), or the path of a file: as
    `train.weights.load_weights` takes it, or the ``.keras`` of an earlier run of the same network, to go on
    from. Raises InputError where that file is missing, damaged or of another network, or nothing can be
    fetched.
    """
    if weights.endswith(".keras"):
        return _gone_on_from(Path(weights), build(network, "scratch", seed=seed, frozen=frozen), network)
    keras.utils.set_random_seed(seed)
    if network.blocks and weights != "scratch":
        raise InputError(
            f"--weights {weights}: a network behind patches has none to start from: scratch, or the"
            " model.keras of an earlier run, is allowed"
        )
    base = base_of(network)
    if weights != "scratch":
        load_weights(base, network, weights)
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = BATCH_NORM_MOMENTUM
    last = base.get_layer(_last_layer(base, network)).output
    body = keras.Model(base.input, last, name=network.base)
    body.trainable = not frozen
    tile = keras.Input((network.tile_px, network.tile_px, 3), name="tile")
    # A frozen base keeps its statistics; of a fitted one they follow the data.
    x = body(_as_wanted(tile, network), training=False) if frozen else body(_as_wanted(tile, network))
    features = _paper_head(x) if network.head == "paper" else _parfocal_head(x)
    dropped = keras.layers.Dropout(_PAPER_DROPOUT if network.head == "paper" else 0.1, name="dropout")(
        features
    )
    logits = keras.layers.Dense(len(bins_of(network)), name="logits")(dropped)
    return keras.Model(tile, {"logits": logits, "features": features}, name="parfocal")


def _gone_on_from(path: Path, model: keras.Model, network: Network) -> keras.Model:
    """``model`` with the weights in ``path``."""
    values = saved_network.load_file(path, network).get_weights()
    if [value.shape for value in values] != [tuple(weight.shape) for weight in model.weights]:
        raise InputError(f"{path}: weights of another network than the recipe's")
    model.set_weights(values)
    return model


def base_of(network: Network) -> keras.Model:
    """The whole base without its top, freshly initialised."""
    settings = {"input_shape": (network.tile_px, network.tile_px, 3), "include_top": False, "weights": None}
    if network.blocks:
        return patched(network)
    if network.base == "mobilenetv2":
        base = _APPLICATIONS["mobilenetv2"](alpha=network.width, **settings)
        return _with_stem_stride(base, network.stem_stride) if network.stem_stride != 2 else base
    return _APPLICATIONS[network.base](**settings)


def _with_stem_stride(base: keras.Model, stride: int) -> keras.Model:
    """The same network, its first layer at another stride; the weights have the same shapes."""

    def cloned(layer: keras.Layer) -> keras.Layer:
        config = layer.get_config()
        if layer.name == "Conv1":
            config["strides"] = (stride, stride)
        return type(layer).from_config(config)

    return keras.models.clone_model(base, clone_function=cloned)


def _last_layer(base: keras.Model, network: Network) -> str:
    """Name of the layer that ends the last block that is kept."""
    if network.cut is None:
        return str(base.layers[-1].name)
    if network.base == "resnet50":
        names = [layer.name for layer in base.layers if layer.name.startswith(f"conv{network.cut}_")]
        return str(names[-1])
    if network.base == "vgg16":
        return f"block{network.cut}_pool"
    kept = {layer.name for layer in base.layers}
    added = f"block_{network.cut}_add"
    return added if added in kept else f"block_{network.cut}_project_BN"


def _as_wanted(tile: Any, network: Network) -> Any:
    if network.input == "raw":  # (byte - 128) / 127 becomes byte / 255
        return keras.layers.Rescaling(127 / 255, offset=128 / 255, name="rescale")(tile)
    if network.base == "mobilenetv2":
        return tile
    return keras.layers.Rescaling(127.5, name="rescale")(tile)


def _paper_head(x: Any) -> Any:
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dense(_PAPER_DENSE, activation="relu", name="dense_1")(x)
    x = keras.layers.Dropout(_PAPER_DROPOUT, name="dropout_1")(x)
    return keras.layers.Dense(_PAPER_DENSE, activation="relu", name="features")(x)


def _parfocal_head(x: Any) -> Any:
    x = keras.layers.Conv2D(FEATURES, 1, use_bias=False, name="head_conv")(x)
    x = keras.layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name="head_bn")(x)
    x = keras.layers.ReLU(6.0, name="head_relu")(x)
    return keras.layers.GlobalAveragePooling2D(name="features")(x)
