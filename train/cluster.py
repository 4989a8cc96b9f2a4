"""Several machines: the same command on each, told apart by ``TF_CONFIG``, as TensorFlow has it.

    TF_CONFIG='{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'

Every machine prepares the same data, takes its share of each batch, and sums its gradients with the
others' (`tf.distribute.MultiWorkerMirroredStrategy`). Worker 0 is the chief: it alone writes the run folder.
To resume, all of them must see that folder.

Keras' own `fit` fails under this strategy (keras-team/keras issue 20585), so the step is written out here.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import InputError, ParfocalError, one_line

Array = NDArray[np.float32]


class WorkerLostError(ParfocalError, RuntimeError):
    """Another machine is gone, and with it the run; the last checkpoint stands."""


@dataclass(frozen=True)
class Cluster:
    """This machine among all. ``strategy`` is None where it is alone."""

    rank: int = 0
    size: int = 1
    strategy: Any = None

    @property
    def chief(self) -> bool:
        """Whether this machine writes the run folder."""
        return self.rank == 0

    def scope(self) -> Any:
        """The context in which variables are made."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()


def from_environment() -> Cluster:
    """The cluster of ``TF_CONFIG``, or this machine alone.

    Blocks until every worker has come. Raises InputError for a TF_CONFIG that is not one, or a Keras that
    does not run on TensorFlow.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        return Cluster()
    rank, size = _parsed(text)
    if size == 1:
        return Cluster()
    import keras

    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"TF_CONFIG: several machines need Keras on tensorflow, not {keras.backend.backend()}"
        )
    import tensorflow as tf

    return Cluster(rank, size, tf.distribute.MultiWorkerMirroredStrategy())


def _parsed(text: str) -> tuple[int, int]:
    """(rank, number of workers). Raises InputError."""
    try:
        config = json.loads(text)
        workers, task = config["cluster"]["worker"], config["task"]
        kind, rank, others = task["type"], task["index"], set(config["cluster"]) - {"worker"}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            'TF_CONFIG: {"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}} is'
            " allowed"
        ) from error
    if kind != "worker" or others:
        raise InputError("TF_CONFIG: a cluster of workers alone is allowed: no chief, evaluator or ps")
    if not isinstance(workers, list) or not isinstance(rank, int) or not 0 <= rank < len(workers):
        raise InputError(
            f"TF_CONFIG: task index {one_line(rank, limit=20)}: 0 to {len(workers) - 1} is allowed"
        )
    return rank, len(workers)


class ClusterSteps:
    """Steps of a model that all machines share; each is called by all of them at once."""

    def __init__(self, cluster: Cluster, model: Any, optimizer: Any) -> None:
        import keras
        import tensorflow as tf

        loss_of = keras.losses.CategoricalCrossentropy(from_logits=True, reduction="none")
        strategy, size = cluster.strategy, cluster.size

        def replica(x: Any, y: Any) -> tuple[Any, Any]:
            with tf.GradientTape() as tape:
                logits = model(x, training=True)
                loss = tf.reduce_mean(loss_of(y, logits)) / size
            gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
            optimizer.apply(gradients, model.trainable_variables)
            right = tf.argmax(logits, axis=-1) == tf.argmax(y, axis=-1)
            return loss, tf.reduce_mean(tf.cast(right, tf.float32)) / size

        @tf.function  # type: ignore[untyped-decorator]
        def step(x: Any, y: Any) -> tuple[Any, Any]:
            each = strategy.run(replica, args=(x, y))
            return tuple(strategy.reduce(tf.distribute.ReduceOp.SUM, part, axis=None) for part in each)

        self._step = step
        self._forward = tf.function(lambda x: model(x, training=False))
        self._tensor = tf.constant

    def train(self, x: Array, y: Array) -> tuple[float, float]:
        """One step on this machine's share; mean loss and accuracy over all machines."""
        with lost_workers():
            loss, accuracy = self._step(self._tensor(x), self._tensor(y))
            return float(loss), float(accuracy)

    def logits(self, x: Array) -> Array:
        """Logits ``(N, bins)`` float32, as after training."""
        return np.asarray(self._forward(self._tensor(x)).numpy(), np.float32)


@contextlib.contextmanager
def lost_workers() -> Iterator[None]:
    """Turn TensorFlow's error about a connection that broke into one line."""
    import tensorflow as tf

    errors = tf.errors
    try:
        yield
    except (
        errors.UnavailableError,
        errors.AbortedError,
        errors.CancelledError,
        errors.InternalError,
    ) as error:
        raise WorkerLostError(
            "another worker is gone, so the run stops; the last whole epoch is in checkpoint.npz: start every"
            " worker again with --resume"
        ) from error
