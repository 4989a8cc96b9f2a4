"""What a converted file must pass before it gets its name: integer all through, and close to float."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelError, one_line
from edge.model import RUNTIMES, available_runtimes, log_softmax, quiet_stderr
from train.evaluate import estimate
from train.labels import Bins

#: Most that quantization may move the estimate of a tile, median, in dof.
MEDIAN_BOUND_DOF = 0.25


@dataclass(frozen=True)
class Difference:
    """Distance of int8 and float estimates of the same tiles, in dof."""

    median_dof: float
    p95_dof: float


def check_integer(flatbuffer: bytes) -> None:
    """See that input and outputs are int8, every other tensor int8, int32 or (for shapes) bool.

    int64 appears as the bias of 16-bit networks only, and is refused like float. Raises ModelError naming
    what is not so, or where an operator is not a built-in one.
    """
    interpreter = _interpreter(flatbuffer)
    ends: list[dict[str, Any]] = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    for details in ends:
        if details["dtype"] is not np.int8:
            raise ModelError(f"converted model: {_name_and_type(details)}, int8 is needed")
    for details in interpreter.get_tensor_details():
        if details["dtype"] not in (np.int8, np.int32, np.bool_):
            raise ModelError(f"converted model: {_name_and_type(details)}, integers are needed")


def _interpreter(flatbuffer: bytes) -> Any:
    """The best TFLite runtime here, with ``flatbuffer`` ready to run."""
    found = available_runtimes()
    if not found:
        raise ModelError("no TFLite runtime here: pip install ai-edge-litert")
    try:
        make = getattr(importlib.import_module(found[0]), dict(RUNTIMES)[found[0]])
        with quiet_stderr():
            interpreter = make(model_content=flatbuffer)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"converted model: {found[0]} cannot run it: {one_line(error)}") from error
    return interpreter


def _name_and_type(details: dict[str, Any]) -> str:
    return f"{details['name']} is {np.dtype(details['dtype']).name}"


def difference(
    int8_logits: NDArray[np.float64], float_logits: NDArray[np.float64], bins: Bins, dof: float = 1.0
) -> Difference:
    """Compare logits ``(N, B)`` of the same tiles; ``dof`` is one depth of field in the bins' unit.

    Raises ModelError when the median distance is above `MEDIAN_BOUND_DOF`.
    """
    guesses = [
        estimate(log_softmax(logits), bins.centres, dof)[0] / dof for logits in (int8_logits, float_logits)
    ]
    distance = np.abs(guesses[0] - guesses[1])
    out = Difference(float(np.median(distance)), float(np.percentile(distance, 95)))
    if out.median_dof > MEDIAN_BOUND_DOF:
        raise ModelError(
            f"converted model: int8 is {out.median_dof:.2f} dof from float (median);"
            f" {MEDIAN_BOUND_DOF} is allowed"
        )
    return out
