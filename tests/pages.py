"""What every page must hold to: nothing loaded, no script, pictures that open and are described."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np

_VOID = {"meta", "img", "br"}
_LOADING = {"src", "srcset", "href", "data", "action", "poster", "background", "xlink:href"}


class Page(HTMLParser):
    """A page read and found to be well formed and self-contained; ``text`` is what a reader sees of it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.html = path.read_text("utf-8")
        self.text = ""
        self.images: list[np.ndarray] = []
        self.tags: list[str] = []
        self._open: list[str] = []
        self.feed(self.html)
        self.close()
        assert self._open == [], "every element is closed"
        assert "://" not in self.html
        assert "@import" not in self.html
        assert "url(" not in self.html
        assert "script" not in self.tags
        assert "default-src 'none'" in self.html

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        if tag not in _VOID:
            self._open.append(tag)
        assert not [name for name in given if name.startswith("on")], "no handler of events"
        for name in _LOADING & set(given):
            assert (tag, name) == ("img", "src"), f"{tag} {name} may load something"
        if tag == "img":
            assert given["alt"], "every picture is described"
            head, _, data = str(given["src"]).partition(",")
            assert head == "data:image/png;base64"
            image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
            assert image is not None
            self.images.append(np.asarray(image))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.text += f"{' '.join(data.split())} " if data.strip() else ""
