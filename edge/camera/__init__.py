"""Cameras: one abstract `Camera` that hands out `Frame`s on the rig's clock, and one file for each back end.

Importing this package imports no back end: `edge.camera.replay` shows a z-stack folder.
"""

from __future__ import annotations

from edge.camera.base import Camera, Frame

__all__ = ["Camera", "Frame"]
