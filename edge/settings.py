"""The configuration as frozen models: one class for each section, one documented attribute for each key.

The docstring under a key is its manual: `edge.config_reference` builds docs/config.md and the default file
from these classes, and a test fails where a key has none. Bounds stand beside the key. Every number is
finite. What describes hardware is in `edge.hardware_settings`. To add a key, add the attribute with
`Field(default, bounds)` and its docstring, and run `python -m edge.config_reference --write`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from edge.hardware_settings import CameraConfig, GpioConfig, SerialConfig, StageConfig
from edge.optics import Objective, Optics
from edge.section import Name, Section
from edge.service_settings import ApiConfig, ServiceConfig

__all__ = [
    "ApiConfig",
    "CameraConfig",
    "Config",
    "FocusConfig",
    "GpioConfig",
    "ModelConfig",
    "OpticsConfig",
    "Section",
    "SerialConfig",
    "ServiceConfig",
    "SimulatorConfig",
    "StageConfig",
]


class OpticsConfig(Section):
    """The objective and what a pixel means. Depth of field, and so each step of the focus loop, follows."""

    objective: Name = Field(default="20x0.40")
    """Magnification and numerical aperture as engraved on it: `20x0.40`, `20/0.40`, `100x1.25oil`."""

    immersion_index: float | None = Field(default=None, ge=1.0, le=2.0)
    """Refractive index before the front lens. Not set: what `objective` names, else 1.0 (air) for an NA
    below 1 and 1.515 (oil) from 1 on."""

    pixel_um: float | None = Field(default=None, ge=0.001, le=100.0)
    """Size in the specimen that one pixel of a frame shows, in µm. Not set: `camera_pixel_um` divided by the
    magnification. Set it where a tube lens or a reduction lens changes the engraved magnification."""

    camera_pixel_um: float = Field(default=1.55, ge=0.1, le=200.0)
    """Pitch on the sensor of the pixels of a frame, in µm, after binning. 1.55: Raspberry Pi HQ camera."""

    wavelength_um: float = Field(default=0.55, ge=0.2, le=2.0)
    """Wavelength in µm that stands for the lamp. The depth of field is proportional to it."""

    @field_validator("objective")
    @classmethod
    def _objective_parses(cls, text: str) -> str:
        Objective.parse(text)
        return text

    @field_validator("immersion_index")
    @classmethod
    def _immersion_fits(cls, index: float | None, info: ValidationInfo) -> float | None:
        if index is not None and "objective" in info.data:
            Objective.parse(info.data["objective"], index)
        return index

    def optics(self) -> Optics:
        """The `Optics` these keys describe."""
        objective = Objective.parse(self.objective, self.immersion_index)
        pixel_um = (
            self.pixel_um if self.pixel_um is not None else self.camera_pixel_um / objective.magnification
        )
        return Optics(objective, pixel_um, self.wavelength_um)


class FocusConfig(Section):
    """When the focus loop is content, and how long it tries."""

    tolerance_dof: float = Field(default=1.0, ge=0.05, le=20.0)
    """Distance from focus, in depths of field to either side, that counts as in focus."""

    confidence: float = Field(default=0.9, ge=0.5, le=0.999)
    """Probability of being within `tolerance_dof` at which a run ends as focused."""

    max_looks: int = Field(default=5, ge=1, le=100)
    """Frames that the network may look at before the sweep takes over, or the run fails; one more where it is
    sure of another place."""

    sweep: bool = Field(default=True)
    """Whether a classical sweep follows where the network does not settle it."""

    sweep_range_um: float | None = Field(default=None, gt=0.0, le=200_000.0)
    """Whole width of the sweep in µm, centred on the start and kept inside the soft limits. Not set: all
    between the soft limits."""

    sweep_step_dof: float = Field(default=1.0, ge=0.1, le=20.0)
    """Distance between two frames of the sweep, in depths of field. Above 2 it can step over the focus."""

    specimen: Literal["auto", "absorbing", "phase"] = Field(default="auto")
    """What gives contrast. `absorbing` (stained): highest in focus. `phase` (unstained cells): lowest in
    focus, so contrast is no guard. `auto`: the loop notices by itself."""


class ModelConfig(Section):
    """The network."""

    path: Name = Field(default="chosen")
    """A .tflite file with its card, relative to the current folder. `chosen`: what `parfocal model use` says;
    until it was used, and in a bench, the shipped one. `default`: the shipped one, whatever was chosen."""

    threads: int = Field(default=1, ge=1, le=64)
    """Processor threads of one inference."""

    tiles: int = Field(default=16, ge=1, le=1024)
    """Most tiles of a frame that are looked at, the most informative first. Time grows with it."""


class SimulatorConfig(Section):
    """The simulated rig (`--rig simulated`) and the simulated camera. Real hardware reads nothing here."""

    specimen: Name = Field(default="tissue")
    """Name of the specimen on the simulated stage."""

    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    """Start of all chance: the same seed gives the same run, bit for bit."""

    backlash_steps: int = Field(default=200, ge=0, le=100_000)
    """True slack of the simulated drive in steps; the stage allows for its own `backlash_steps`, right or
    wrong."""

    pitch_factor: float = Field(default=1.0, ge=0.1, le=10.0)
    """How much farther a step really goes than `[stage] um_per_step` says."""

    inverted: bool = Field(default=False)
    """Whether steps up really lead down."""

    missed_step_probability: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of commanded steps that the simulated motor loses."""

    drift_um_s: float = Field(default=0.0, ge=-100.0, le=100.0)
    """Drift of the focus in µm/s, as from warming up."""

    latency_frames: int = Field(default=2, ge=0, le=100)
    """Frames in flight between the sensor and the reader."""

    full_well_e: float = Field(default=10_000.0, ge=100.0, le=10_000_000.0)
    """Electrons of a white pixel. Shot noise is their square root: 10 000 makes it 1 % of white."""

    start_defocus_um: float = Field(default=20.0, ge=-10_000.0, le=10_000.0)
    """How far past its focus the specimen is where the stage counts 0, in µm."""

    read_noise_e: float = Field(default=5.0, ge=0.0, le=10_000.0)
    """Read noise in electrons, root mean square."""


class Config(Section):
    """A whole configuration. A section or key that is left out has its default."""

    optics: OpticsConfig = OpticsConfig()
    """The objective and the pixels."""
    stage: StageConfig = StageConfig()
    """The focus motor."""
    gpio: GpioConfig = GpioConfig()
    """The pins of a motor on GPIO."""
    serial: SerialConfig = SerialConfig()
    """The serial port of a motor board."""
    camera: CameraConfig = CameraConfig()
    """The camera."""
    focus: FocusConfig = FocusConfig()
    """The focus loop."""
    model: ModelConfig = ModelConfig()
    """The network."""
    simulator: SimulatorConfig = SimulatorConfig()
    """The simulated rig."""
    service: ServiceConfig = ServiceConfig()
    """The service."""
    api: ApiConfig = ApiConfig()
    """Its page and HTTP interface."""

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Sections and keys as plain values; None for a key that is not set."""
        return self.model_dump()
