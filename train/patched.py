"""MobileNetV2's blocks behind one layer of patches, in place of its own stem and first blocks.

A tile is sampled at four pixels to λ/NA, where each of its pixels counts; MobileNetV2's first layers work at
that resolution on few channels, where int8 kernels gain least. One
convolution of patches that do not overlap gives a quarter of the width and as many channels as are asked for;
from there on the blocks are those of Sandler et al., MobileNetV2, CVPR 2018, in the notation of its table 2.

By depthwise layers int8 gains nothing. In a fused block expansion and depthwise layer are one convolution of
3 x 3 (Tan and Le, EfficientNetV2, ICML 2021, figure 2), which int8 kernels multiply as a matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from train.recipe import Network


def patched(network: Network) -> keras.Model:
    """``(N, S, S, 3)`` float32 to the last block's ``(N, H, W, C)``, freshly initialised.

    ``network.blocks``: rows of expansion, channels, repeats, and stride of the first of them.
    """
    size, patch = network.tile_px, network.patch_px
    tile = keras.Input((size, size, 3))
    stem = layers.Conv2D(network.stem, patch, strides=patch, use_bias=False, name="Conv1")(tile)
    x = _activated(stem, "bn_Conv1", "Conv1_relu")
    number = 0
    for row, (expansion, channels, repeats, stride) in enumerate(network.blocks):
        spread = _fused if row < network.fused else _expanded
        for k in range(repeats):
            number += 1
            x = _block(x, f"block_{number}", expansion, channels, stride if k == 0 else 1, spread)
    return keras.Model(tile, x)


def _block(x: Any, name: str, expansion: int, channels: int, stride: int, spread: Callable[..., Any]) -> Any:
    """An inverted residual (figure 4 of the paper), named as in Keras' MobileNetV2."""
    given = x.shape[-1]
    y = spread(x, name, expansion * given, stride)
    y = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project")(y)
    y = layers.BatchNormalization(name=f"{name}_project_BN")(y)
    return layers.Add(name=f"{name}_add")([x, y]) if stride == 1 and given == channels else y


def _expanded(x: Any, name: str, channels: int, stride: int) -> Any:
    y = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_expand")(x)
    y = _activated(y, f"{name}_expand_BN", f"{name}_expand_relu")
    y = layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise")(y)
    return _activated(y, f"{name}_depthwise_BN", f"{name}_depthwise_relu")


def _fused(x: Any, name: str, channels: int, stride: int) -> Any:
    y = layers.Conv2D(channels, 3, strides=stride, padding="same", use_bias=False, name=f"{name}_fused")(x)
    return _activated(y, f"{name}_fused_BN", f"{name}_fused_relu")


def _activated(x: Any, norm: str, relu: str) -> Any:
    return layers.ReLU(6.0, name=relu)(layers.BatchNormalization(name=norm)(x))
