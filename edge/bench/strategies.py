"""The strategies that `parfocal bench focus` compares, with their sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from edge.bench import ours, peers
from edge.bench.bed import Bed

__all__ = ["STRATEGIES", "Strategy"]


@dataclass(frozen=True)
class Strategy:
    """``run`` brings a bed into focus as well as it can. ``source``: where it is described. ``peer``: it is
    somebody else's.
    """

    run: Callable[[Bed], object]
    source: str
    peer: bool = False


STRATEGIES: dict[str, Strategy] = {
    "parfocal": Strategy(ours.parfocal, "this project, as `parfocal focus` runs it"),
    "single-guess": Strategy(
        ours.single_guess, "this project's network, without belief, second look or proof"
    ),
    "openflexure-fast": Strategy(
        peers.openflexure_fast,
        "OpenFlexure Microscope Server, fast_autofocus: dz = 2000 steps, JPEG size, four moves",
        peer=True,
    ),
    "openflexure-looping": Strategy(
        peers.openflexure_looping,
        "OpenFlexure Microscope Server, looping_autofocus: until the peak is in the middle 3/5",
        peer=True,
    ),
    "brent": Strategy(
        peers.brent, "Micro-Manager's OughtaFocus: Brent's method; here scipy.optimize's", peer=True
    ),
    "coarse-and-fine": Strategy(
        peers.coarse_and_fine,
        "Micro-Manager's JAF(H&P): a coarse and a fine pass, early end at 2 %",
        peer=True,
    ),
    "squid": Strategy(
        peers.squid, "Squid (Prakash lab), AutofocusWorker: planes from below, early stop at 0.85", peer=True
    ),
    "remoscope": Strategy(
        peers.remoscope,
        "Remoscope (CZ Biohub): two batches of 20 averaged inferences; our network",
        peer=True,
    ),
    "oracle": Strategy(ours.oracle, "one perfect motion and one look: the physical limit"),
}
