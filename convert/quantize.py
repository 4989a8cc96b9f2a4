"""Keras run to full-int8 TFLite: int8 in, int8 out, per-channel weights, built-in int8 operators only."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert import rounding
from edge.errors import InputError
from edge.model import quiet_stderr
from train import saved_network
from train.run_folder import Run


def int8_of(read: Run, network: Any, *, progress: Callable[[float], None] | None = None) -> bytes:
    """The int8 flatbuffer of the ``network`` of a run, which stays as it is; its weights rounded as
    `convert.rounding` says. ``progress`` is told the layers done since.
    """
    spare = saved_network.load(read.folder, read.recipe.network)
    rounding.round_weights(spare, network, read.calibration, progress=progress)
    return to_tflite(spare, read.calibration)


def to_tflite(model: Any, calibration: NDArray[np.int8] | None) -> bytes:
    """The flatbuffer of ``model`` for one tile, in int8, or in float32 where ``calibration`` is None.

    ``calibration``: ``(N, S, S, 3)`` int8 tiles, 127 is 1.0, whose activations set the scales. Takes a
    minute.
    """
    import keras
    import tensorflow as tf
    from absl import logging

    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"KERAS_BACKEND={keras.backend.backend()}: int8 files are made by TensorFlow alone: unset it"
        )

    logging.set_verbosity(logging.ERROR)  # it would recommend another way, see below

    def serve(tile: Any) -> Any:
        return model(tile, training=False)

    tile = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32)
    concrete = tf.function(serve, input_signature=[tile]).get_concrete_function()
    # Not with the model as a second argument: the weights would stay variables, which nothing sets.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    if calibration is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: _representative(calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
    with _quiet():
        return bytes(converter.convert())


def _representative(calibration: NDArray[np.int8]) -> Iterator[list[NDArray[np.float32]]]:
    for tile in calibration:
        yield [tile[None].astype(np.float32) / np.float32(127)]
    # The whole range of a tile, so that the input's scale is that of -1 to 1 whatever the sample holds.
    ramp = np.linspace(-1, 1, calibration[0].size, dtype=np.float32).reshape(calibration[0].shape)
    yield [ramp[None]]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The converter talks on stdout and stderr, and misses statistics that the calibration will give it."""
    with (
        quiet_stderr(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", "Statistics for quantized inputs were expected", UserWarning)
        yield
