"""What the command line says to a person: notes on stderr, a result in a few lines on stdout."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from edge.run_result import Result

__all__ = ["note", "result_lines", "show"]

_STYLES = {"focused": "bold green", "no_specimen": "bold yellow", "failed": "bold red"}
_WORDS = {"focused": "in focus", "no_specimen": "no specimen", "failed": "failed"}


def note(text: str) -> None:
    """One line on stderr that is neither a result nor an error."""
    Console(stderr=True, highlight=False).print(Text(text, style="dim"), soft_wrap=True)


def result_lines(result: Result) -> list[str]:
    """A run in words: what it came to, what it cost, how sure it is, and what was assumed."""
    moves = f"{result.moves} {'move' if result.moves == 1 else 'moves'}"
    captures = f"{result.captures} {'frame' if result.captures == 1 else 'frames'}"
    lines = [
        f"{_WORDS.get(result.result, result.result)} ({result.method}): {result.reason}",
        f"{captures}, {moves}, {result.travel_um:.1f} µm of travel, {result.seconds:.1f} s",
    ]
    place = f"stage at {result.position_um:+.2f} µm"
    if result.plane is not None:
        place += f"; plane last shown: {result.plane} ({result.plane_file})"
    lines.append(place)
    if result.defocus_estimate_dof is not None and result.confidence is not None:
        lines.append(
            f"estimate {result.defocus_estimate_dof:+.2f} depths of field from focus, "
            f"{100 * result.confidence:.0f} % sure to be within tolerance"
        )
    if result.true_defocus_um is not None and result.true_defocus_dof is not None:
        lines.append(
            f"truth {result.true_defocus_dof:+.2f} depths of field ({result.true_defocus_um:+.2f} µm)"
        )
    if result.true_defocus_start_um is not None:
        lines.append(f"truth at the first frame, its slack taken up, {result.true_defocus_start_um:+.2f} µm")
    change = (
        f" ({result.sharpness_end / result.sharpness_start:.3g} times)" if result.sharpness_start > 0 else ""
    )
    lines.append(
        f"sharpness: first frame {result.sharpness_start:.3g}, last {result.sharpness_end:.3g}{change}"
    )
    return lines + [f"assumed: {sentence}" for sentence in result.assumptions]


def show(result: Result) -> None:
    """`result_lines` on stdout, the first in colour on a terminal."""
    console = Console(highlight=False)
    first, *rest = result_lines(result)
    console.print(Text(first, style=_STYLES.get(result.result, "")), soft_wrap=True)
    for line in rest:
        console.print(Text("  " + line), soft_wrap=True)
