"""The sections of the configuration that describe hardware: motor, its pins or its board, camera.

`edge.settings` has the rest and the rules for adding a key.
"""

# Annotations are evaluated here, at once: as text they would be compiled one by one at each start.

import math
from typing import Annotated, Literal

from msgspec import Meta

from edge.section import Name, Section

__all__ = ["CameraConfig", "GpioConfig", "SerialConfig", "StageConfig"]

#: Drivers of `[stage] driver` by where the motor hangs.
GPIO_DRIVERS = frozenset({"uln2003", "a4988", "drv8825", "tmc2209"})
SERIAL_DRIVERS = frozenset({"sangaboard", "grbl", "marlin", "klipper"})


class StageConfig(Section, frozen=True, kw_only=True):
    """The focus motor: how far a step goes, where the soft limits lie, how fast it may run."""

    driver: Literal[
        "none", "uln2003", "a4988", "drv8825", "tmc2209", "sangaboard", "grbl", "marlin", "klipper"
    ] = "none"
    """What drives the motor. The first four after `none` hang on GPIO pins (`[gpio]`), the others are boards
    on a serial port (`[serial]`). With a driver here and in `[camera]`, `parfocal` uses the hardware."""

    inverted: bool = False
    """Swap the directions of a motor on GPIO pins. A serial board has a setting of its own for that."""

    hold_s: Annotated[float, Meta(ge=0.0, le=86_400.0)] | None = None
    """Time in s that the coils of a motor on GPIO pins stay on after a motion. Not set: until the command
    ends. A geared motor (28BYJ-48) stays where it is without current; one without a gear does not."""

    um_per_step: Annotated[float, Meta(ge=1e-5, le=100.0)] = 0.062
    """Focus travel of one motor step in µm, always positive. 0.062 is an OpenFlexure microscope. A value that
    is wrong by up to a factor of 2 costs a focus run frames, not the focus; `parfocal calibrate` measures
    it."""

    limit_low_um: Annotated[float, Meta(ge=-100_000.0, le=100_000.0)] = -150.0
    """Lower soft limit in µm. A move past it does not start. 0 is where the stage stood when its journal was
    begun, or what `parfocal home` made of it."""

    limit_high_um: Annotated[float, Meta(ge=-100_000.0, le=100_000.0)] = 150.0
    """Upper soft limit in µm, above `limit_low_um`. Keep the objective off the slide with it."""

    backlash_steps: Annotated[int, Meta(ge=0, le=100_000)] = 200
    """Overshoot in steps of a move against `approach`, so that each move ends with the slack taken up. At
    least the slack of the drive; 0 for a drive without any. Until `parfocal calibrate` has measured it, moves
    that end one-sided overshoot twice as far; then what was measured is used."""

    compensation: Literal["one-sided", "on-reversal"] = "one-sided"
    """What is done about slack. `one-sided`: every move ends in the direction `approach`, which needs no
    exact `backlash_steps`. `on-reversal`: a move that reverses is made longer by `backlash_steps`, which
    must then be exact, and is quicker."""

    approach: Literal["positive", "negative"] = "positive"
    """Direction in which each move ends. Against gravity where the drive has no return spring."""

    max_rate_steps_s: Annotated[float, Meta(gt=0.0, le=1_000_000.0)] = 1000.0
    """Highest rate in steps/s. Too high and the motor loses steps under load."""

    start_rate_steps_s: Annotated[float, Meta(gt=0.0, le=1_000_000.0)] = 200.0
    """Rate in steps/s at which the motor starts and stops at once, not above `max_rate_steps_s`."""

    acceleration_steps_s2: Annotated[float, Meta(gt=0.0, le=100_000_000.0)] = 5000.0
    """Change of rate between the two, in steps/s²."""

    settle_s: Annotated[float, Meta(ge=0.0, le=60.0)] = 0.1
    """Wait in s after each move until vibration has died down; no frame exposed before then is used. Once
    `parfocal calibrate` has measured it, that is used."""

    focus_travel_um: Annotated[float, Meta(gt=0.0, le=200_000.0)] | None = None
    """Farthest that a move may end from the last good focus, in µm, once there is one. Not set: only the
    soft limits count."""

    uncertain_travel_um: Annotated[float, Meta(gt=0.0, le=200_000.0)] = 50.0
    """Farthest that a move may end from here, in µm, after the power was cut in mid-move: the position is
    then uncertain until focus or home is found."""

    journal: Name = "auto"
    """File that remembers the position across restarts and power cuts; `none`: nothing is remembered and 0
    is where each command begins. `auto`: `stage.journal` in $STATE_DIRECTORY, else in
    ~/.local/state/parfocal."""

    home: Literal["none", "low", "high"] = "none"
    """Which limit switch `parfocal home` goes to; `low` is at the end that negative moves lead to. Its pin is
    in `[gpio]`."""

    home_um: Annotated[float, Meta(ge=-100_000.0, le=100_000.0)] = 0.0
    """Position in µm that the stage has where the switch of `home` is just pressed, between the soft limits
    or beyond them on the switch's side."""

    def __post_init__(self) -> None:
        low_um, high_um = self.limit_low_um, self.limit_high_um
        if low_um >= high_um:
            raise ValueError(
                f"limit_low_um = {low_um:g}: a number below limit_high_um = {high_um:g} is allowed"
            )
        low, high = self.limits_steps
        if high - low <= self.backlash_steps:
            raise ValueError(
                f"backlash_steps = {self.backlash_steps}: fewer than the {max(high - low, 0)} steps between"
                " the soft limits are allowed"
            )
        if self.start_rate_steps_s > self.max_rate_steps_s:
            raise ValueError(
                f"start_rate_steps_s = {self.start_rate_steps_s:g}: at most max_rate_steps_s ="
                f" {self.max_rate_steps_s:g} is allowed"
            )

    @property
    def limits_steps(self) -> tuple[int, int]:
        """The soft limits in whole steps, rounded to the inside (a billionth of a step is rounding error)."""
        low = math.ceil(self.limit_low_um / self.um_per_step - 1e-9)
        return low, math.floor(self.limit_high_um / self.um_per_step + 1e-9)

    @property
    def approach_sign(self) -> int:
        """+1 or -1, as `firmware_iface.stage.Stage` takes it."""
        return 1 if self.approach == "positive" else -1


class GpioConfig(Section, frozen=True, kw_only=True):
    """The pins of a motor on GPIO, by their BCM numbers (on a Jetson those of the same header pins)."""

    in1_pin: Annotated[int, Meta(ge=0, le=27)] | None = None
    """ULN2003: the pin wired to IN1 (28BYJ-48: blue)."""

    in2_pin: Annotated[int, Meta(ge=0, le=27)] | None = None
    """ULN2003: the pin wired to IN2."""

    in3_pin: Annotated[int, Meta(ge=0, le=27)] | None = None
    """ULN2003: the pin wired to IN3."""

    in4_pin: Annotated[int, Meta(ge=0, le=27)] | None = None
    """ULN2003: the pin wired to IN4."""

    half_steps: bool = True
    """ULN2003: half steps, twice as many a turn and smoother; false: full steps."""

    step_pin: Annotated[int, Meta(ge=0, le=27)] | None = None
    """A4988, DRV8825, TMC2209: the pin wired to STEP."""

    dir_pin: Annotated[int, Meta(ge=0, le=27)] | None = None
    """A4988, DRV8825, TMC2209: the pin wired to DIR."""

    enable_pin: Annotated[int, Meta(ge=0, le=27)] | None = None
    """A4988, DRV8825, TMC2209: the pin wired to ENABLE, with 10 kΩ to the logic supply."""

    ms1_pin: Annotated[int, Meta(ge=0, le=27)] | None = None
    """The pin wired to MS1 (DRV8825: MODE0). Not set: the microstep is wired on the board."""

    ms2_pin: Annotated[int, Meta(ge=0, le=27)] | None = None
    """The pin wired to MS2 (DRV8825: MODE1)."""

    ms3_pin: Annotated[int, Meta(ge=0, le=27)] | None = None
    """The pin wired to MS3 (DRV8825: MODE2; a TMC2209 has none)."""

    microsteps: Annotated[int, Meta(ge=1, le=256)] | None = None
    """Microsteps per full step, chosen by the pins above: set it with them, and not without."""

    low_limit_pin: Annotated[int, Meta(ge=0, le=27)] | None = None
    """Limit switch at the low end. Normally closed to ground, 10 kΩ to the logic supply."""

    high_limit_pin: Annotated[int, Meta(ge=0, le=27)] | None = None
    """Limit switch at the high end, wired alike."""

    stop_pin: Annotated[int, Meta(ge=0, le=27)] | None = None
    """Stop button, wired alike: stops the motor in mid-move, in both directions."""

    focus_pin: Annotated[int, Meta(ge=0, le=27)] | None = None
    """`parfocal serve`: push button that asks for a focus; pressed while one runs it stops that. Normally
    open, to ground, 10 kΩ to the logic supply."""

    focus_pressed: Literal["low", "high"] = "low"
    """Level at `focus_pin` while it is pressed."""

    led_pin: Annotated[int, Meta(ge=0, le=27)] | None = None
    """`parfocal serve`: status LED with its resistor to ground. Slow blink: working; on: in focus; a short
    flash every two seconds: ready, not in focus; two flashes: no specimen or failed; fast: a fault."""

    pressed: Literal["high", "low"] = "high"
    """Level at the pin of a switch or button that is pressed. `high` goes with the wiring above, and reads a
    broken wire as pressed; with `low` a broken wire is not noticed."""


class SerialConfig(Section, frozen=True, kw_only=True):
    """The serial port of a motor board."""

    port: Name | None = None
    """Device of the board, such as `/dev/ttyACM0`, `/dev/serial/by-id/…` (which stays the same whatever else
    is plugged in), or `/tmp/printer` for Klipper."""

    baud: Annotated[int, Meta(ge=1200, le=4_000_000)] = 115_200
    """Speed in bit/s, as the firmware has it."""

    steps_per_mm: Annotated[float, Meta(gt=0.0, le=1_000_000.0)] | None = None
    """G-code boards: the board's own steps/mm of its Z axis (GRBL `$102`, Marlin `M92`), which is compared
    with the board's."""


class CameraConfig(Section, frozen=True, kw_only=True):
    """The camera."""

    driver: Literal["none", "picamera2", "opencv", "gstreamer", "simulated"] = "none"
    """`picamera2`: a camera on a Raspberry Pi's ribbon cable. `opencv`: a USB camera. `gstreamer`: a camera
    on a Jetson's CSI port. `simulated`: a simulated specimen (`[simulator]`) that the real motor moves, to
    try a motor without a microscope."""

    device: Name = "0"
    """Which one: its number, or for `opencv` also a path such as `/dev/video2` or `/dev/v4l/by-id/…`."""

    width: Annotated[int, Meta(ge=64, le=16_384)] = 1024
    """Width of the frames in pixels. With `picamera2` a region of the sensor, pixel for pixel."""

    height: Annotated[int, Meta(ge=64, le=16_384)] = 768
    """Height of the frames in pixels."""

    region_x: Annotated[int, Meta(ge=0, le=16_384)] | None = None
    """`picamera2`: left edge of the region, in pixels of the sensor. Not set: the middle."""

    region_y: Annotated[int, Meta(ge=0, le=16_384)] | None = None
    """`picamera2`: top edge of the region. Not set: the middle."""

    exposure_us: Annotated[int, Meta(ge=10, le=10_000_000)] | None = None
    """Exposure in µs. Not set: the camera's own automatic, held still while focusing. `gstreamer` needs it:
    the source of a Jetson cannot be changed once it runs."""

    gain: Annotated[float, Meta(ge=0.0, le=10_000.0)] | None = None
    """Gain of the sensor, 1 for none; of a USB camera in units of its driver. Not set: automatic, held still
    while focusing. `gstreamer` needs it."""

    red_gain: Annotated[float, Meta(ge=0.1, le=32.0)] | None = None
    """`picamera2`: gain of red against green. Set it with `blue_gain`. Not set: automatic white balance, held
    still while focusing."""

    blue_gain: Annotated[float, Meta(ge=0.1, le=32.0)] | None = None
    """`picamera2`: gain of blue against green."""

    frame_period_s: Annotated[float, Meta(ge=0.0005, le=60.0)] = 1 / 30
    """Time in s from one frame to the next, as it is asked of the camera; a simulated or replayed exposure
    lasts as long."""

    def __post_init__(self) -> None:
        for pair in (("region_x", "region_y"), ("red_gain", "blue_gain")):
            given = [key for key in pair if getattr(self, key) is not None]
            if len(given) == 1:
                raise ValueError(f"{given[0]} alone: both of {' and '.join(pair)}, or none, are allowed")
