"""Checks of the devices that the system gives: who may open them, and whether the camera gives a picture."""

from __future__ import annotations

import contextlib
import math
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edge.doctor.finding import Finding, advice, error, joined, ok, warning
from edge.doctor.machine import Machine
from edge.errors import CameraError, ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge.camera import Camera
    from edge.config import Config

__all__ = ["access", "camera", "in_use"]

_SETTLING_S, _MOST_FRAMES = 2.0, 30
_GPIO = ("/dev/gpiochip*", "/dev/gpiomem*")
_OF_A_CAMERA = {
    "none": (),
    "picamera2": ("/dev/video*", "/dev/media*", "/dev/dma_heap/*"),
    "opencv": (),
    "gstreamer": ("/dev/video*",),
    "simulated": (),
}
_ALL = (*_GPIO, *_OF_A_CAMERA["picamera2"])


def access(machine: Machine, config: Config) -> Finding:
    """Whether this user may open the devices of the configured drivers, and the others of their kind."""
    if machine.user_id == 0:
        return ok("root may open everything")
    needed = set(_needed(machine, config))
    present = needed | {path for pattern in _ALL for path in machine.glob(pattern)}
    closed = [
        path for path in sorted(present) if machine.exists(path) and not machine.may_use(machine.at(path))
    ]
    # What only root may open (a PC's DMA heaps) is of interest where it is needed, and else not.
    groups: dict[str, list[str]] = {}
    for path in closed:
        group = _group(machine, path)
        if group or path in needed:
            groups.setdefault(group, []).append(path)
    if groups:
        return joined(_refused(machine, group, paths, needed) for group, paths in sorted(groups.items()))
    return ok(f"{machine.user} may open {_list(sorted(needed)) if needed else 'what there is'}")


def _needed(machine: Machine, config: Config) -> list[str]:
    from edge.hardware_settings import GPIO_DRIVERS, SERIAL_DRIVERS

    patterns = [*_OF_A_CAMERA[config.camera.driver], *(_GPIO if config.stage.driver in GPIO_DRIVERS else ())]
    paths = [path for pattern in patterns for path in machine.glob(pattern)]
    if config.camera.driver == "opencv":
        paths.append(_video(config))
    if config.stage.driver in SERIAL_DRIVERS and config.serial.port is not None:
        paths.append(config.serial.port)
    return [path for path in paths if machine.exists(path)]


def _refused(machine: Machine, group: str, paths: Sequence[str], needed: set[str]) -> Finding:
    """What to say of ``paths``, all of one ``group`` ("" for one that opens nothing)."""
    found = f"{machine.user} may not open {_list(paths)}"
    cure = f"sudo usermod -aG {group} {machine.user}, then log in again"
    if not group:
        cure = "install the udev rules, or run this as a user who may"
    elif machine.user in _members(machine, group):
        found += f", although in group {group}"
        cure = "log out and in again (or restart): a new group counts from the next login"
    else:
        found += f" (group {group})"
    return error(found, cure) if needed & set(paths) else warning(found, cure)


def _group(machine: Machine, path: str) -> str:
    """The group whose members may read and write ``path``; "" where that is root's, or none's."""
    try:
        state = machine.at(path).stat()
    except OSError:
        return ""
    may = state.st_mode & stat.S_IRGRP and state.st_mode & stat.S_IWGRP
    name = next((entry[0] for entry in _groups(machine) if entry[2] == str(state.st_gid)), str(state.st_gid))
    return name if may and name != "root" else ""


def _members(machine: Machine, group: str) -> list[str]:
    return next((entry[3].split(",") for entry in _groups(machine) if entry[0] == group), [])


def _groups(machine: Machine) -> list[list[str]]:
    """Lines of /etc/group: name, password, number, members."""
    lines = (line.split(":") for line in (machine.read("/etc/group") or "").splitlines())
    return [entry for entry in lines if len(entry) == 4]


def camera(machine: Machine, config: Config) -> Finding:
    """Opens the camera as it is configured, and takes a frame."""
    if config.camera.driver == "simulated":
        return ok("simulated: no camera is used")
    if config.camera.driver == "none":
        return warning(f"not configured; {_present(machine)}", "set [camera] driver")
    from edge.hardware import open_camera
    from firmware_iface.clock import RealClock

    try:
        with contextlib.closing(open_camera(config, RealClock())) as opened:
            image, fault = _settled(opened)
    except (CameraError, ConfigError) as problem:
        return _no_picture(machine, config, str(problem))
    height, width = image.shape[:2]
    found = (
        f"{config.camera.driver} {config.camera.device}: {width} x {height}, mean {image.mean():.0f} of 255"
    )
    if fault is not None:
        return warning(f"{found}, the frame is {fault}", "look at the lamp, the shutter and exposure_us")
    return ok(found)


def _settled(camera: Camera) -> tuple[NDArray[np.uint8], str | None]:
    """A frame and its fault. Automatic exposure begins too dark or too bright, and is given some frames."""
    from edge.camera.health import fault_of

    for _ in range(1 + min(_MOST_FRAMES, int(_SETTLING_S / camera.frame_period_s))):
        image = camera.capture(-math.inf).image
        if (fault := fault_of(image)) is None:
            break
    return image, fault


def _no_picture(machine: Machine, config: Config, text: str) -> Finding:
    if holders := machine.holders(_of_camera(machine, config)):
        who = "" if "in use by" in text else f"; the camera is in use by {', '.join(holders)}"
        return error(f"{text}{who}", "end that program first")
    cure = {
        "picamera2": "look at the cable, then whether `rpicam-hello --list-cameras` shows the camera",
        "opencv": "plug the camera in, and set [camera] device to one that is there",
        "gstreamer": "look at the cable, then: sudo systemctl restart nvargus-daemon",
    }[config.camera.driver]
    return error(text, advice(text, cure))


def _of_camera(machine: Machine, config: Config) -> list[str]:
    if config.camera.driver == "opencv":
        return [_video(config)]
    return [path for pattern in ("/dev/video*", "/dev/media*") for path in machine.glob(pattern)]


def _video(config: Config) -> str:
    device = config.camera.device
    return f"/dev/video{device}" if device.isdecimal() else device


def _present(machine: Machine) -> str:
    found = machine.glob("/dev/video*")
    return f"there is {_list(found)}" if found else "there is no /dev/video*"


def in_use(machine: Machine, device: str) -> str:
    """ "; in use by NAME (pid N)", or nothing where nobody is known to have it."""
    holders = machine.holders([device])
    return f"; in use by {', '.join(holders)}" if holders else ""


def _list(paths: Sequence[str]) -> str:
    """A few of them, and how many more."""
    shown = ", ".join(paths[:4])
    return shown if len(paths) <= 4 else f"{shown} and {len(paths) - 4} more"
