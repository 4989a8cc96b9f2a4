"""How large a network is: multiply-adds of one tile, and parameters.

One multiply-add is one weight times one input, added up; convolutions and dense layers are counted, as the
published figures do (MobileNetV2 1.00 at 224: 300 M; ResNet50: 3.9 G; VGG16: 15.5 G). Batch normalisation,
activations and pooling count 0: they are folded away or small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Size:
    """``parameters`` of the whole network and ``multiply_adds`` of one tile."""

    parameters: int
    multiply_adds: int


def size_of(network: Any) -> Size:
    """The size of a built Keras model whose input shape is fixed. Imports Keras."""
    return Size(int(network.count_params()), sum(_multiply_adds(layer) for layer in network.layers))


def _multiply_adds(layer: Any) -> int:
    """Of one layer for one tile; of a network within the network, those of its layers."""
    from keras import Model, layers

    if isinstance(layer, Model):
        return sum(_multiply_adds(inner) for inner in layer.layers)
    if isinstance(layer, layers.DepthwiseConv2D):
        # Its kernel is (height, width, channels in, multiplier): each weight meets each output position once.
        return _positions(layer) * _weights(layer)
    if isinstance(layer, layers.Conv2D):
        # (height, width, channels in / groups, channels out): likewise.
        return _positions(layer) * _weights(layer)
    if isinstance(layer, layers.Dense):
        return int(math.prod(layer.output.shape[1:-1])) * _weights(layer)
    return 0


def _weights(layer: Any) -> int:
    return int(math.prod(layer.kernel.shape))


def _positions(layer: Any) -> int:
    """Height times width of a convolution's output."""
    _, rows, columns, _ = layer.output.shape
    if layer.data_format == "channels_first":
        _, _, rows, columns = layer.output.shape
    return int(rows) * int(columns)
