"""Labels: signed defocus as one of many bins, in depths of field, in µm, or as the paper's 41 classes.

    dof      evenly spaced centres over ± ``bin_range_dof`` depths of field: one model for every objective
    um       the same over ± ``bin_range_um`` µm: for one microscope
    jiang41  class 0 within ±0.35 µm, then 20 equal classes to either side, to 12.5 µm

The outermost bins also stand for "at least this far".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from train.recipe import Fit, Network

Float = NDArray[np.float64]
Unit = Literal["dof", "um"]

_JIANG_MIDDLE_UM, _JIANG_END_UM, _JIANG_SIDE = 0.35, 12.5, 20


@dataclass(frozen=True)
class Bins:
    """``centres`` ``(B,)`` and the ``edges`` between them ``(B - 1,)``, float64, rising, in ``unit``."""

    centres: Float
    edges: Float
    unit: Unit

    def __len__(self) -> int:
        return len(self.centres)

    @classmethod
    def of_centres(cls, centres: Float, unit: Unit) -> Bins:
        """The bins of a model's card: the edges lie halfway, but those of the paper's classes."""
        paper = _jiang41()
        if unit == "um" and len(centres) == len(paper) and np.allclose(centres, paper.centres):
            return paper
        return cls(centres, (centres[:-1] + centres[1:]) / 2, unit)

    def classes(self, defocus: Float) -> NDArray[np.intp]:
        """The bin of each ``defocus`` ``(N,)`` in the bins' unit; an edge belongs to the bin nearer focus."""
        defocus = np.asarray(defocus, np.float64)
        above = np.searchsorted(self.edges, defocus, side="left")
        below = len(self.edges) - np.searchsorted(-self.edges[::-1], -defocus, side="left")
        return np.where(defocus >= 0, above, below)


def bins_of(network: Network) -> Bins:
    """The bins that ``network.labels`` names."""
    if network.labels == "jiang41":
        return _jiang41()
    reach = network.bin_range_dof if network.labels == "dof" else network.bin_range_um
    centres = np.linspace(-reach, reach, network.bin_count)
    return Bins(centres, (centres[:-1] + centres[1:]) / 2, network.labels)


def _jiang41() -> Bins:
    edges = np.linspace(_JIANG_MIDDLE_UM, _JIANG_END_UM, _JIANG_SIDE + 1)
    side, inner = (edges[:-1] + edges[1:]) / 2, edges[:-1]
    return Bins(np.concatenate([-side[::-1], [0.0], side]), np.concatenate([-inner[::-1], inner]), "um")


def label_rows(defocus: Float, bins: Bins, fit: Fit, dof: Float | float) -> NDArray[np.float32]:
    """``(N, B)`` float32 label distributions of ``defocus`` ``(N,)`` in the bins' unit.

    One-hot where ``fit.label_sigma_dof`` is 0; else soft and ordinal: a Gaussian about the truth, wider far
    from focus, where an error matters less. ``dof``: one depth of field in the bins' unit, ``(N,)`` or one
    number. Truths beyond the outermost bins count as those bins.
    """
    if fit.label_sigma_dof == 0:
        return np.eye(len(bins), dtype=np.float32)[bins.classes(defocus)]
    clipped = np.clip(defocus, bins.centres[0], bins.centres[-1])
    sigma = fit.label_sigma_dof * np.asarray(dof) + fit.label_sigma_slope * np.abs(clipped)
    # A Gaussian much narrower than a bin would be 0 in each of them.
    sigma = np.maximum(sigma, 0.3 * np.diff(bins.centres).max())
    weights = np.exp(-0.5 * ((bins.centres[None] - clipped[:, None]) / sigma[:, None]) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)
