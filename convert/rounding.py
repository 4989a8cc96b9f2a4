"""Weights rounded for what they do to a layer's output, not each to its nearest step.

Theory of operation
-------------------
An int8 weight is ``q s``, with one step ``s`` for each channel of the output. The nearest ``q`` leaves each
weight right and their sum wrong: a kernel that takes differences (and defocus is told by differences) then
lets through a part of the mean of what it sees, which is many times its signal. What counts is the error of
the output over the inputs ``x`` that the layer meets,

    E |(q s - w) x|^2 = d' C d,    d = q s - w,    C = E[x x']

(Nagel et al., Up or Down? Adaptive Rounding for Post-Training Quantization, ICML 2020). From the nearest
``q`` on, single steps up or down are taken, the most rewarding first, as long as they lower it. The mean
error that is left goes into the bias (Nagel et al., Data-Free Quantization, ICCV 2019, section 4.2). Layers
follow in order, each on what the ones before it give by now.

Afterwards the weights, with the normalisation folded in, are whole steps, and the largest of each channel is
where it was: the converter's own rounding finds just these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Float = NDArray[np.float32]

#: Largest magnitude of an int8 weight: the converter's range is symmetric.
LARGEST = 127
#: Tiles whose activations make the statistics, and positions sampled of a layer's input.
TILES, POSITIONS = 64, 20_000
#: Inputs to one output beyond which weights are left to the converter (3 x 3 kernels of VGG16): C grows with
#: their square.
MOST_INPUTS = 1200
_RIDGE = 1e-4


@dataclass(frozen=True)
class Step:
    """One layer of the network and the numbers of the tensors it takes and gives."""

    layer: Any
    sources: tuple[int, ...]
    target: int


def round_weights(
    network: Any,
    exact: Any,
    calibration: NDArray[np.int8],
    *,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Put the weights of the Keras ``network`` on the int8 grid, in place. Takes a minute.

    ``exact``: another copy of the same network, which stays as it is. ``calibration``: ``(N, S, S, 3)`` int8
    tiles; `TILES` of them are used. ``progress`` is told the layers done since.
    """
    chosen = calibration[:: max(1, len(calibration) // TILES)][:TILES]
    tiles = chosen.astype(np.float32) / np.float32(LARGEST)
    ours, theirs = plan(network), plan(exact)
    last_use = {source: k for k, step in enumerate(ours) for source in step.sources}
    mine: dict[int, Float] = {0: tiles}
    wanted: dict[int, Float] = {0: tiles}
    normalisation = {step.sources[0]: step.layer for step in ours if _is(step.layer, "BatchNormalization")}
    for k, (step, other) in enumerate(zip(ours, theirs, strict=True)):
        norm = normalisation.get(step.target)
        if _is(step.layer, "Conv2D", "DepthwiseConv2D", "Dense"):
            _round(step.layer, norm, mine[step.sources[0]])
        mine[step.target], wanted[step.target] = _run(step, mine), _run(other, wanted)
        bias = _bias(step.layer, has_norm=norm is not None)
        if bias is not None:
            axes = tuple(range(mine[step.target].ndim - 1))
            shift = (wanted[step.target] - mine[step.target]).mean(axis=axes)
            bias.assign(bias + shift)
            mine[step.target] = mine[step.target] + shift
        for source in step.sources:
            if last_use[source] == k:
                del mine[source], wanted[source]
        if progress is not None:
            progress(1)


def plan(network: Any) -> list[Step]:
    """The layers of a Keras network in order, those of a network within it too. Tensor 0 is the input."""
    numbers: dict[int, int] = {id(network.inputs[0]): 0}
    return _plan(network, numbers, [1])


def _plan(network: Any, numbers: dict[int, int], following: list[int]) -> list[Step]:
    steps: list[Step] = []
    for layer in network.layers:
        if _is(layer, "InputLayer"):
            continue
        node = layer._inbound_nodes[-1 if hasattr(layer, "layers") else 0]
        sources = tuple(numbers[id(tensor)] for tensor in node.input_tensors)
        if hasattr(layer, "layers"):
            numbers[id(layer.inputs[0])] = sources[0]
            steps += _plan(layer, numbers, following)
            numbers[id(node.output_tensors[0])] = numbers[id(layer.outputs[0])]
            continue
        target = following[0]
        following[0] += 1
        numbers[id(node.output_tensors[0])] = target
        steps.append(Step(layer, sources, target))
    return steps


def _run(step: Step, tensors: dict[int, Float]) -> Float:
    given = [tensors[source] for source in step.sources]
    own = {"training": False} if _is(step.layer, "BatchNormalization", "Dropout") else {}
    return np.asarray(step.layer(given if len(given) > 1 else given[0], **own), np.float32)


def _is(layer: Any, *names: str) -> bool:
    return type(layer).__name__ in names


def _bias(layer: Any, *, has_norm: bool) -> Any:
    """The variable that shifts what ``layer`` gives, where it has one and nothing bends it in between."""
    if _is(layer, "BatchNormalization"):
        return layer.beta
    linear = getattr(getattr(layer, "activation", None), "__name__", "") == "linear"
    weighted = _is(layer, "Conv2D", "DepthwiseConv2D", "Dense")
    return layer.bias if weighted and linear and layer.use_bias and not has_norm else None


def _round(layer: Any, norm: Any, x: Float) -> None:
    """Replace the kernel of ``layer``, which meets ``x`` and is followed by the normalisation ``norm``."""
    kernel = np.asarray(layer.kernel, np.float64)
    depthwise = _is(layer, "DepthwiseConv2D")
    flat = kernel.reshape(-1, kernel.shape[2]) if depthwise else kernel.reshape(-1, kernel.shape[-1])
    if len(flat) > MOST_INPUTS:
        return
    factor = np.ones(flat.shape[1])
    if norm is not None:
        factor = np.asarray(norm.gamma, np.float64) / np.sqrt(
            np.asarray(norm.moving_variance, np.float64) + norm.epsilon
        )
    folded = flat * factor
    used = np.abs(folded).max(axis=0) > 1e-12
    step = np.where(used, np.abs(folded).max(axis=0) / LARGEST, 1.0)
    seen = _patches(layer, x).astype(np.float64)
    if depthwise:
        # (positions, taps, channels): every channel has statistics of its own
        each = seen.reshape(len(seen), -1, flat.shape[1])
        second = np.einsum("nic,njc->cij", each, each, optimize=True) / len(each)
    else:
        second = (seen.T @ seen / len(seen))[None]
    whole = descend(folded, step, second)
    done = np.where(used, whole * step / np.where(used, factor, 1.0), flat)
    layer.kernel.assign(done.reshape(kernel.shape))


def _patches(layer: Any, x: Float) -> Float:
    """What the kernel of ``layer`` meets in ``x``: ``(positions, taps * channels)`` float32, a sample."""
    import tensorflow as tf

    if x.ndim == 4:
        height, width = layer.kernel_size
        found = tf.image.extract_patches(
            x, [1, height, width, 1], [1, *layer.strides, 1], [1, 1, 1, 1], layer.padding.upper()
        )
        x = np.asarray(found, np.float32)
    rows = x.reshape(-1, x.shape[-1])
    picks = np.random.default_rng(0).permutation(len(rows))[:POSITIONS]
    return rows[picks]


def descend(weights: Array, step: Array, second: Array) -> Array:
    """Whole ``q`` ``(F, O)`` float64 for which ``(q step - w)' C (q step - w)`` of each column is low.

    ``weights`` ``(F, O)``; ``step`` ``(O,)`` above 0; ``second``: C, ``(O, F, F)``, or ``(1, F, F)`` for all
    columns. The largest of each column stays where rounding puts it, so that the step does.
    """
    inputs, outputs = weights.shape
    ridge = _RIDGE * np.trace(second, axis1=1, axis2=2)[:, None, None] / inputs
    second = second + ridge * np.eye(inputs)
    q = np.clip(np.rint(weights / step), -LARGEST, LARGEST)
    columns = np.arange(outputs)
    of = columns if len(second) > 1 else np.zeros(outputs, np.intp)
    slope = np.einsum("oij,jo->io", second[of], q * step - weights, optimize=True)
    curve = step**2 * np.diagonal(second, axis1=1, axis2=2)[of].T
    pinned = np.zeros(q.shape, bool)
    pinned[np.abs(weights).argmax(axis=0), columns] = True
    for _ in range(4 * inputs + 20):
        direction = np.where(slope > 0, -1.0, 1.0)
        gain = 2 * step * direction * slope + curve
        gain[pinned | (np.abs(q + direction) > LARGEST)] = 0.0
        best = gain.argmin(axis=0)
        better = gain[best, columns] < -1e-12 * curve[best, columns]
        if not better.any():
            break
        rows, which = best[better], columns[better]
        turn = direction[rows, which]
        q[rows, which] += turn
        slope[:, which] += (turn * step[which])[None, :] * second[of[which], :, rows].T
    return np.asarray(q)
