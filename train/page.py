"""One self-contained HTML page: text, tables and pictures in it, nothing loaded from anywhere, no script.

Text given to these functions is escaped; what they return is `Markup`, which is not escaped again.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from edge.errors import InputError
from edge.files import atomic_write_bytes, atomic_write_text


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def escaped(text: object) -> Markup:
    """``text`` as HTML; `Markup` is left as it is."""
    return text if isinstance(text, Markup) else Markup(html.escape(str(text)))


def joined(parts: Iterable[str]) -> Markup:
    """Several parts, one after the other."""
    return Markup("\n".join(escaped(part) for part in parts))


def paragraph(text: str) -> Markup:
    """A paragraph."""
    return Markup(f"<p>{escaped(text)}</p>")


def notes(title: str, sentences: Sequence[str]) -> Markup:
    """A marked list of sentences; empty where there are none."""
    if not sentences:
        return Markup()
    items = "".join(f"<li>{escaped(sentence)}</li>" for sentence in sentences)
    return Markup(f'<aside class="notes"><h2>{escaped(title)}</h2><ul>{items}</ul></aside>')


def cards(rows: Iterable[tuple[str, str, str]]) -> Markup:
    """The main figures, large: (what, value, what to know of it)."""
    out = [
        f"<div><dt>{escaped(what)}</dt><dd>{escaped(value)}<small>{escaped(rest)}</small></dd></div>"
        for what, value, rest in rows
    ]
    return Markup(f'<dl class="cards">{"".join(out)}</dl>')


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "", words: int = 1) -> Markup:
    """A table that scrolls sideways where it is too wide; the first ``words`` columns are text, set left."""
    above = f"<caption>{escaped(caption)}</caption>" if caption else ""
    titles = "".join(
        f'<th scope="col"{_side(k, words)}>{escaped(title)}</th>' for k, title in enumerate(head)
    )
    body = []
    for row in rows:
        first, *rest = row
        cells = "".join(f"<td{_side(k, words)}>{escaped(cell)}</td>" for k, cell in enumerate(rest, 1))
        body.append(f'<tr><th scope="row">{escaped(first)}</th>{cells}</tr>')
    return Markup(
        f'<div class="wide"><table>{above}<thead><tr>{titles}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _side(column: int, words: int) -> str:
    return "" if column < words else ' class="number"'


def figure(png: bytes, *, alt: str, caption: str) -> Markup:
    """A picture and how to read it."""
    return Markup(f"<figure>{image(png, alt)}<figcaption>{escaped(caption)}</figcaption></figure>")


def image(png: bytes, alt: str) -> Markup:
    """A picture by itself."""
    data = base64.b64encode(png).decode("ascii")
    return Markup(f'<img src="data:image/png;base64,{data}" alt="{escaped(alt)}">')


def figures(parts: Sequence[Markup]) -> Markup:
    """Pictures side by side where there is room."""
    return Markup(f'<div class="figures">{"".join(parts)}</div>')


def thumbnails(parts: Iterable[tuple[bytes, str, Sequence[str]]]) -> Markup:
    """Small pictures: (PNG, alt text, lines below it)."""
    out = []
    for png, alt, below in parts:
        lines = "<br>".join(escaped(line) for line in below)
        out.append(f"<figure>{image(png, alt)}<figcaption>{lines}</figcaption></figure>")
    return Markup(f'<div class="thumbnails">{"".join(out)}</div>')


def subheading(text: str) -> Markup:
    """A heading within a section."""
    return Markup(f"<h3>{escaped(text)}</h3>")


def section(title: str, parts: Iterable[str]) -> Markup:
    """A section under a heading."""
    return Markup(f"<section><h2>{escaped(title)}</h2>\n{joined(parts)}\n</section>")


def page(title: str, below: str, parts: Iterable[str]) -> str:
    """The whole page."""
    return _PAGE.format(title=escaped(title), below=escaped(below), style=_STYLE, body=joined(parts))


def writable(folder: Path, names: Iterable[str] = ()) -> None:
    """Make ``folder`` where it is missing. Raises InputError where ``names`` cannot be written in it."""
    for name in names:
        if (folder / name).exists() and not (folder / name).is_file():
            raise InputError(f"{folder / name}: is not a regular file, it is not replaced")
    try:
        folder.mkdir(exist_ok=True)
        probe = folder / ".parfocal-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{folder}: cannot be written to: {reason}") from error


def write(path: Path, text: str, pictures: dict[str, bytes], folder: Path, own: Iterable[str]) -> None:
    """``pictures`` by name into ``folder``, then the page. Each file is whole or not there.

    ``own``: patterns of names that an earlier run may have left in ``folder``; those not written now are
    removed. Raises InputError or OSError as `edge.files.atomic_write_bytes`.
    """
    writable(folder)
    for name, png in pictures.items():
        atomic_write_bytes(folder / name, png)
    for pattern in own:
        for old in folder.glob(pattern):
            if old.name not in pictures:
                old.unlink()
    atomic_write_text(path, text)


# The policy makes sure of it: even a mistake in a template could not load anything or run a script.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1><p>{below}</p></header>
<main>
{body}
</main>
</body>
</html>
"""
_STYLE = """
:root { color-scheme: light; --ink: #222; --soft: #5c5c5c; --line: #dcdcdc; --blue: #0072b2;
  --warm: #d55e00; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1160px; padding: 1.2rem; color: var(--ink); background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0; }
h2 { font-size: 1.2rem; margin: 0 0 .6rem; }
header p { color: var(--soft); margin: .3rem 0 1.2rem; }
section { border-top: 1px solid var(--line); margin-top: 1.8rem; padding-top: 1.2rem; }
p, li, figcaption { max-width: 46rem; }
p { margin: .4rem 0 .9rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .7rem; margin: 0; }
.cards div { border: 1px solid var(--line); border-top: 4px solid var(--blue); border-radius: 4px;
  padding: .6rem .8rem; }
.cards dt { color: var(--soft); font-size: .88rem; }
.cards dd { font-size: 1.55rem; font-weight: 600; line-height: 1.3; margin: 0; }
.cards small { color: var(--soft); display: block; font-size: .82rem; font-weight: 400; line-height: 1.35; }
.notes { border-left: 4px solid var(--warm); background: #fdf4ee; margin: 1.2rem 0 0; padding: .7rem 1rem; }
.notes h2 { font-size: 1rem; }
.notes ul { margin: 0; padding-left: 1.2rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 460px), 1fr));
  gap: 1.4rem 1.8rem; }
.figures + .figures, .wide + .figures, .figures + .wide, .wide + .wide, .wide + figure { margin-top: 1.2rem; }
figure { margin: 0; min-width: 0; }
figure img { display: block; height: auto; max-width: 100%; }
figcaption { color: var(--soft); font-size: .9rem; line-height: 1.45; margin-top: .3rem; }
.thumbnails { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 1rem; }
.thumbnails img { width: 100%; }
.thumbnails figcaption { font-size: .84rem; }
h3 { font-size: 1rem; margin: 1.1rem 0 .5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { color: var(--soft); font-size: .9rem; padding-bottom: .3rem; text-align: left; }
th, td { border-bottom: 1px solid var(--line); padding: .32rem .9rem .32rem 0; text-align: left;
  vertical-align: top; }
thead th { border-bottom-color: #888; vertical-align: bottom; }
tbody th { font-weight: 600; }
th:first-child { background: #fff; left: 0; min-width: 6.5rem; position: sticky; }
.number { text-align: right; padding-left: .5rem; }
td.number { white-space: nowrap; }
@media (max-width: 520px) {
  body { padding: .8rem; }
  .cards, .thumbnails { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .cards dd { font-size: 1.3rem; }
}
@media print {
  body { font-size: 11px; max-width: none; padding: 0; }
  figure, tr, .cards div { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .figures { grid-template-columns: 1fr 1fr; }
  .thumbnails { grid-template-columns: repeat(4, 1fr); }
  .wide { overflow: visible; }
  .notes, .cards div { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
