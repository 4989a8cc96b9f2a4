"""Pictures of the page of `parfocal serve` in its states, from the simulated rig, on a phone and on a desk.

python tests/browser/screenshots.py OUTDIR
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import chromium
from chromium import Browser, Tab
from served import SLOW, Served, serve

SIZES = {360: 740, 1280: 900}
TOKEN = "the-token-of-this-microscope"
FAULT = (
    '[camera]\ndriver = "simulated"\n[stage]\ndriver = "marlin"\n'
    '[serial]\nport = "/dev/not-there"\nsteps_per_mm = 3200.0\n'
)
#: The picture may be some seconds late where the computer is busy.
HAS_PICTURE = (
    "!document.querySelector('#picture').hidden && document.querySelector('#no-picture').textContent === ''"
)
HAS_BELIEF = "document.querySelector('#belief').children.length > 5"


def main(folder: Path) -> None:
    """Write them all into ``folder``."""
    program = chromium.executable()
    if program is None:
        sys.exit("screenshots: no chromium on this computer")
    folder.mkdir(parents=True, exist_ok=True)
    with Browser(program) as browser, TemporaryDirectory() as scratch:
        with serve(Path(scratch, "slow"), SLOW, api="preview_fps = 10.0") as served:
            for tab, name in _tabs(browser, served):
                _until_state(tab, "In focus")
                tab.until(f"{HAS_PICTURE} && {HAS_BELIEF} && !document.querySelector('#press').ariaDisabled")
                _shoot(tab, folder / f"idle-{name}.png")
                served.post("api/jog", {"um": -20.0})
                _until_state(tab, "Ready")
                tab.until("!document.querySelector('#press').ariaDisabled")
                tab.key("f")
                _until_state(tab, "Focusing…")
                tab.until(f"{HAS_PICTURE} && {HAS_BELIEF}")
                _shoot(tab, folder / f"focusing-{name}.png")
                _until_state(tab, "In focus")
        with serve(Path(scratch, "collect"), "[service]\nboot_focus = false\n") as served:
            for tab, name in _tabs(browser, served):
                tab.until("!document.querySelector('#press').ariaDisabled")
                tab.click("#collect-more summary")
                tab.value("document.querySelector('#slide').value = 'blood-7'")
                tab.click("#record")
                tab.until(f"{HAS_PICTURE} && document.querySelector('#planes').value >= 7")
                _shoot(tab, folder / f"recording-{name}.png")
                _until_state(tab, "Ready")
                tab.until(HAS_PICTURE)
                _shoot(tab, folder / f"recorded-{name}.png")
        with serve(Path(scratch, "empty"), '[simulator]\nspecimen = "empty"\n') as served:
            for tab, name in _tabs(browser, served):
                _until_state(tab, "No specimen")
                tab.until(f"{HAS_PICTURE} && document.querySelector('#sharpness').children.length > 3")
                _shoot(tab, folder / f"failed-{name}.png")
        with serve(Path(scratch, "fault"), FAULT) as served:
            for tab, name in _tabs(browser, served):
                _until_state(tab, "Fault")
                _shoot(tab, folder / f"fault-{name}.png")
        with serve(Path(scratch, "token"), FAULT, token=TOKEN) as served:
            for tab, name in _tabs(browser, served):
                tab.until("document.querySelector('#door').open")
                _shoot(tab, folder / f"token-{name}.png")


def _tabs(browser: Browser, served: Served) -> Iterator[tuple[Tab, str]]:
    """The page, opened at each width and in each scheme of colours."""
    for width, height in SIZES.items():
        for scheme in ("light", "dark"):
            with browser.tab(width=width, height=height, prefers_color_scheme=scheme) as tab:
                tab.open(served.url)
                yield tab, f"{width}-{scheme}"


@contextmanager
def _tall(tab: Tab) -> Iterator[None]:
    """A window as high as the page, so that the bar at its foot covers nothing."""
    size = tab.value("[innerWidth, innerHeight, document.documentElement.scrollHeight]")
    tab.value("scrollTo(0, 0)")
    tab.resize(size[0], max(size[1], size[2]))
    yield
    tab.resize(size[0], size[1])


def _shoot(tab: Tab, path: Path) -> None:
    with _tall(tab):
        tab.screenshot(path)
    print(path)


def _until_state(tab: Tab, words: str) -> None:
    tab.until(f"document.querySelector('#words').textContent === '{words}'", patience_s=60.0)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit((__doc__ or "").strip())
    main(Path(sys.argv[1]))
