"""Parfocal's own loop on the bed, the same without a belief, and the oracle."""

from __future__ import annotations

import numpy as np

from edge.bench.bed import Bed
from edge.microscope import Microscope
from edge.run_result import Result

__all__ = ["oracle", "parfocal", "single_guess"]


def parfocal(bed: Bed) -> Result:
    """The focus loop as the product runs it."""
    result = Microscope(bed.rig, bed.model, bed.config).focus()
    bed.captures += result.captures
    return result


def single_guess(bed: Bed) -> None:
    """One look, a move by its mean, no proof: what a network does without a belief."""
    bed.move_to_um(bed.position_um)
    look = bed.model.look(bed.frame().image, bed.optics, most_tiles=bed.config.model.tiles)
    if look.log_likelihood is not None:
        mean = float(np.exp(look.log_likelihood) @ look.bin_centres_dof)
        bed.move_to_um(bed.position_um - bed.optics.um_from_dof(mean))


def oracle(bed: Bed) -> None:
    """Knows the defocus and how the slack lies: one motion, and one look to prove it. The physical limit."""
    steps = -bed.optics.um_from_dof(bed.true_defocus_dof) / bed.um_per_step
    up, down = bed.axis.slack_steps()
    bed.drive(round(steps + (up if steps > 0 else -down)))
    bed.frame()
