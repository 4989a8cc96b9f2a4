"""What a converted file must pass before it gets its name: integer all through, close to float everywhere.

Kernels differ: the same int8 file gives other bytes with and without XNNPACK, and on other processors. So
each runtime is judged by itself against the float network, in depths of field.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.alone import logits_alone
from edge.bench.timing import Timing, interleaved
from edge.card import Card
from edge.errors import ModelError, one_line
from edge.estimate import estimate
from edge.model import RUNTIMES, Model, available_runtimes, log_softmax, quiet_stderr
from train.evaluate import infer
from train.labels import Bins
from train.tile_data import TileData, floats

#: Most that quantization may move the estimate of a tile, median, in dof.
MEDIAN_BOUND_DOF = 0.25
#: Tiles that each runtime is shown. Kernels without XNNPACK are 20 times slower.
TILES, TILES_OF_BUILT_IN = 1500, 300
_INTEGER = (np.int8, np.int32, np.bool_)


@dataclass(frozen=True)
class Difference:
    """Distance of two estimates of the same tiles, in dof."""

    median_dof: float
    p95_dof: float


@dataclass(frozen=True)
class Verified:
    """``operators``: how many of each. ``apart``: distance from float by runtime. ``kernels``: of the best
    runtime's XNNPACK and built-in kernels from each other. ``int8``, ``float32``: one tile on one thread.
    """

    operators: dict[str, int]
    apart: dict[str, Difference]
    kernels: Difference
    int8: Timing
    float32: Timing

    @property
    def speedup(self) -> float:
        """How many times as fast int8 is as float."""
        return self.float32.median_ms / self.int8.median_ms

    def lines(self) -> list[str]:
        """What was found, for people."""
        of = ", ".join(f"{name} {count}" for name, count in sorted(self.operators.items()))
        rows = [(f"{name} from float", d) for name, d in self.apart.items()]
        rows.append(("XNNPACK from built-in kernels", self.kernels))
        width = max(len(name) for name, _ in rows)
        return [
            f"operators, all int8 and built in: {of}",
            f"held-out tiles, distance of estimates ({MEDIAN_BOUND_DOF} dof from float, median, is allowed):",
            *(f"  {name:{width}}  median {d.median_dof:.3f} dof, 95 % {d.p95_dof:.3f}" for name, d in rows),
            f"a tile on one thread: int8 {self.int8.median_ms:.2f} ms, float {self.float32.median_ms:.2f} ms:"
            f" {self.speedup:.2f} times as fast",
        ]


def verify(
    flatbuffer: bytes,
    reference: bytes,
    card: Card,
    data: TileData,
    *,
    progress: Callable[[float], None] | None = None,
) -> Verified:
    """Put an int8 ``flatbuffer`` to the test against ``reference``, the same network in float32.

    ``data``: held-out tiles; the first `TILES` are used. Every TFLite runtime that is installed is tried.
    ``progress`` is told the tiles done since. Raises ModelError with one line for the first thing that is
    not as it must be. Blocks for seconds.
    """
    operators = check_integer(flatbuffer)
    part = data.at(slice(TILES))
    few = part.at(slice(TILES_OF_BUILT_IN))
    bins = Bins.of_centres(np.asarray(card.bin_centres), card.unit)
    dof = float(np.median(part.dof_in(bins.unit)))
    float32 = Model(reference, card, name="the float network")
    truth = infer(float32, part, progress=progress)
    apart: dict[str, Difference] = {}
    logits: dict[str, NDArray[np.float64]] = {}
    for runtime in available_runtimes():
        logits[runtime] = logits_alone(flatbuffer, card, floats(part.pixels), runtime)
        apart[runtime.split(".")[0]] = bounded(logits[runtime], truth, bins, dof)
        if progress is not None:
            progress(len(part))
    int8 = Model(flatbuffer, card, name="int8")
    plain = infer(Model(flatbuffer, card, name="int8", delegates=False), few, progress=progress)
    apart[f"{int8.runtime.split('.')[0]}, built-in kernels"] = bounded(plain, truth[: len(few)], bins, dof)
    tile = floats(part.pixels[:1])
    took = interleaved({"int8": lambda: int8.infer(tile), "float32": lambda: float32.infer(tile)})
    kernels = difference(logits[int8.runtime][: len(few)], plain, bins, dof)
    return Verified(operators, apart, kernels, took["int8"], took["float32"])


def work(tiles: int) -> int:
    """Inferences that `verify` makes with so many held-out tiles, for a progress bar."""
    return min(tiles, TILES) * (1 + len(available_runtimes())) + min(tiles, TILES_OF_BUILT_IN)


def check_integer(flatbuffer: bytes) -> dict[str, int]:
    """See that input and outputs are int8, every other tensor int8, int32 or (for shapes) bool.

    Returns how many there are of each operator. int64 appears as the bias of 16-bit networks only, and is
    refused like float. Raises ModelError naming what is not so, or an operator that is not built in (Flex, or
    a custom one).
    """
    interpreter = _interpreter(flatbuffer)
    ends: list[dict[str, Any]] = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    for details in ends:
        if details["dtype"] is not np.int8:
            raise ModelError(f"converted model: {_name_and_type(details)}, int8 is needed")
    for details in interpreter.get_tensor_details():
        if details["dtype"] not in _INTEGER:
            raise ModelError(f"converted model: {_name_and_type(details)}, integers are needed")
    operators = _operators(flatbuffer)
    for name in operators:
        if not name.isupper() or name in ("CUSTOM", "DELEGATE"):
            raise ModelError(f"converted model: operator {name}: built-in operators are needed")
    return operators


def _operators(flatbuffer: bytes) -> dict[str, int]:
    """How many of each operator; a built-in one in capitals, any other by the name it gives itself."""
    from tensorflow.lite.python import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    model = schema.Model.GetRootAs(flatbuffer, 0)
    codes = [model.OperatorCodes(k) for k in range(model.OperatorCodesLength())]
    graphs = [model.Subgraphs(k) for k in range(model.SubgraphsLength())]
    found: Counter[str] = Counter()
    for graph in graphs:
        for k in range(graph.OperatorsLength()):
            code = codes[graph.Operators(k).OpcodeIndex()]
            own = code.CustomCode()
            builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            name = names.get(builtin, f"number {builtin}")
            found[f"custom {own.decode('utf-8', 'replace')}" if own else name] += 1
    return dict(found)


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
    one: NDArray[np.float64], other: NDArray[np.float64], bins: Bins, dof: float = 1.0
) -> Difference:
    """Compare logits ``(N, B)`` of the same tiles; ``dof`` is one depth of field in the bins' unit."""
    guesses = [estimate(log_softmax(logits), bins.centres, dof)[0] / dof for logits in (one, other)]
    distance = np.abs(guesses[0] - guesses[1])
    return Difference(float(np.median(distance)), float(np.percentile(distance, 95)))


def bounded(
    int8_logits: NDArray[np.float64], float_logits: NDArray[np.float64], bins: Bins, dof: float = 1.0
) -> Difference:
    """`difference`; raises ModelError when its median is above `MEDIAN_BOUND_DOF`."""
    out = difference(int8_logits, float_logits, bins, dof)
    if out.median_dof > MEDIAN_BOUND_DOF:
        raise ModelError(
            f"converted model: int8 is {out.median_dof:.2f} dof from float (median);"
            f" {MEDIAN_BOUND_DOF} is allowed"
        )
    return out
