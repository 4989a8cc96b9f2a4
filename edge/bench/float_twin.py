"""The float twin of an int8 network: the same operators and shapes, with weights and tensors in float32.

What int8 brings on a board is measured against it. The twin is made on the device from the int8 file itself
(each weight is its integer times its scale), so its time is that of the float network and its answers are
those of the int8 one without the rounding of activations.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from edge.errors import ModelError

__all__ = ["float_twin"]

_SCHEMAS = ("ai_edge_litert.schema_py_generated", "tensorflow.lite.python.schema_py_generated")
#: int32 tensors that are biases, by operator and place; all others (axes, shapes) stay integers.
_BIASED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_BIAS = 2


def float_twin(flatbuffer: bytes) -> bytes:
    """A float32 flatbuffer of the int8 one. Raises ModelError where no schema of the format is here."""
    flatbuffers, schema = _libraries()
    network = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(flatbuffer, 0))
    codes = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    for graph in network.subgraphs:
        biases = {
            operator.inputs[_BIAS]
            for operator in graph.operators
            if codes[network.operatorCodes[operator.opcodeIndex].builtinCode] in _BIASED
        }
        for index, tensor in enumerate(graph.tensors):
            if tensor.type == schema.TensorType.INT8 or index in biases:
                _to_float(tensor, network.buffers[tensor.buffer], schema)
    builder = flatbuffers.Builder(4 * len(flatbuffer))
    builder.Finish(network.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _to_float(tensor: Any, buffer: Any, schema: Any) -> None:
    kind = np.int8 if tensor.type == schema.TensorType.INT8 else np.int32
    if buffer.data is not None and len(buffer.data):
        scale = np.asarray(tensor.quantization.scale, np.float32)
        zero = np.asarray(tensor.quantization.zeroPoint, np.float32)
        values = np.frombuffer(np.asarray(buffer.data, np.uint8).tobytes(), kind).reshape(tensor.shape)
        across = [1] * values.ndim
        if len(scale) > 1:
            across[tensor.quantization.quantizedDimension] = len(scale)
        floats = (values.astype(np.float32) - zero.reshape(across)) * scale.reshape(across)
        buffer.data = np.frombuffer(floats.astype("<f4").tobytes(), np.uint8)
    tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None


def _libraries() -> tuple[Any, Any]:
    """flatbuffers, and the schema of TFLite files, as a runtime brings them."""
    for module in _SCHEMAS:
        try:
            return importlib.import_module("flatbuffers"), importlib.import_module(module)
        except ImportError:
            continue
    raise ModelError("float: no schema of the TFLite format here; ai-edge-litert brings one")
