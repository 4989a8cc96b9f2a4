"""The configuration as frozen models: one class for each section, one documented attribute for each key.

The docstring under a key is its manual: `edge.config_reference` builds docs/config.md and the default file
from these classes, and a test fails where a key has none. Bounds stand beside the key. Every number is
finite. What describes hardware is in `edge.hardware_settings`. To add a key, add the attribute with its
bounds (`Annotated[float, Meta(ge=…, le=…)]`), default and docstring, and run
`python -m edge.config_reference --write`.
"""

# Annotations are evaluated here, at once: as text they would be compiled one by one at each start.

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edge.hardware_settings import CameraConfig, GpioConfig, SerialConfig, StageConfig
from edge.optics import Objective, Optics
from edge.section import Name, NotAllowed, Section
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


class OpticsConfig(Section, frozen=True, kw_only=True):
    """The objective and what a pixel means. Depth of field, and so each step of the focus loop, follows."""

    objective: Name = "20x0.40"
    """Magnification and numerical aperture as engraved on it: `20x0.40`, `20/0.40`, `100x1.25oil`."""

    immersion_index: Annotated[float, Meta(ge=1.0, le=2.0)] | None = None
    """Refractive index before the front lens. Not set: what `objective` names, else 1.0 (air) for an NA
    below 1 and 1.515 (oil) from 1 on."""

    pixel_um: Annotated[float, Meta(ge=0.001, le=100.0)] | None = None
    """Size in the specimen that one pixel of a frame shows, in µm. Not set: `camera_pixel_um` divided by the
    magnification. Set it where a tube lens or a reduction lens changes the engraved magnification."""

    camera_pixel_um: Annotated[float, Meta(ge=0.1, le=200.0)] = 1.55
    """Pitch on the sensor of the pixels of a frame, in µm, after binning. 1.55: Raspberry Pi HQ camera."""

    wavelength_um: Annotated[float, Meta(ge=0.2, le=2.0)] = 0.55
    """Wavelength in µm that stands for the lamp. The depth of field is proportional to it."""

    def __post_init__(self) -> None:
        for key, index in (("objective", None), ("immersion_index", self.immersion_index)):
            try:
                Objective.parse(self.objective, index)
            except ValueError as error:
                raise NotAllowed(key, error) from error

    def optics(self) -> Optics:
        """The `Optics` these keys describe."""
        objective = Objective.parse(self.objective, self.immersion_index)
        pixel_um = (
            self.pixel_um if self.pixel_um is not None else self.camera_pixel_um / objective.magnification
        )
        return Optics(objective, pixel_um, self.wavelength_um)


class FocusConfig(Section, frozen=True, kw_only=True):
    """When the focus loop is content, and how long it tries."""

    tolerance_dof: Annotated[float, Meta(ge=0.05, le=20.0)] = 1.0
    """Distance from focus, in depths of field to either side, that counts as in focus."""

    confidence: Annotated[float, Meta(ge=0.5, le=0.999)] = 0.9
    """Probability of being within `tolerance_dof` at which a run ends as focused."""

    max_looks: Annotated[int, Meta(ge=1, le=100)] = 5
    """Frames that the network may look at before the sweep takes over, or the run fails; one more where it is
    sure of another place."""

    sweep: bool = True
    """Whether a classical sweep follows where the network does not settle it."""

    sweep_range_um: Annotated[float, Meta(gt=0.0, le=200_000.0)] | None = None
    """Whole width of the sweep in µm, centred on the start and kept inside the soft limits. Not set: all
    between the soft limits."""

    sweep_step_dof: Annotated[float, Meta(ge=0.1, le=20.0)] = 1.0
    """Distance between two frames of the sweep, in depths of field. Above 2 it can step over the focus."""

    specimen: Literal["auto", "absorbing", "phase"] = "auto"
    """What gives contrast. `absorbing` (stained): highest in focus. `phase` (unstained cells): lowest in
    focus, so contrast is no guard. `auto`: the loop notices by itself."""


class ModelConfig(Section, frozen=True, kw_only=True):
    """The network."""

    path: Name = "chosen"
    """A .tflite file with its card, relative to the current folder. `chosen`: what `parfocal model use` says;
    until it was used, and in a bench, the shipped one. `default`: the shipped one, whatever was chosen."""

    threads: Annotated[int, Meta(ge=1, le=64)] = 1
    """Processor threads of one inference."""

    tiles: Annotated[int, Meta(ge=1, le=1024)] = 16
    """Most tiles of a frame that are looked at, the most informative first. Time grows with it."""


class SimulatorConfig(Section, frozen=True, kw_only=True):
    """The simulated rig (`--rig simulated`) and the simulated camera. Real hardware reads nothing here."""

    specimen: Name = "tissue"
    """Name of the specimen on the simulated stage."""

    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0
    """Start of all chance: the same seed gives the same run, bit for bit."""

    backlash_steps: Annotated[int, Meta(ge=0, le=100_000)] = 200
    """True slack of the simulated drive in steps; the stage allows for its own `backlash_steps`, right or
    wrong."""

    pitch_factor: Annotated[float, Meta(ge=0.1, le=10.0)] = 1.0
    """How much farther a step really goes than `[stage] um_per_step` says."""

    inverted: bool = False
    """Whether steps up really lead down."""

    missed_step_probability: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    """Share of commanded steps that the simulated motor loses."""

    drift_um_s: Annotated[float, Meta(ge=-100.0, le=100.0)] = 0.0
    """Drift of the focus in µm/s, as from warming up."""

    latency_frames: Annotated[int, Meta(ge=0, le=100)] = 2
    """Frames in flight between the sensor and the reader."""

    full_well_e: Annotated[float, Meta(ge=100.0, le=10_000_000.0)] = 10_000.0
    """Electrons of a white pixel. Shot noise is their square root: 10 000 makes it 1 % of white."""

    start_defocus_um: Annotated[float, Meta(ge=-10_000.0, le=10_000.0)] = 20.0
    """How far past its focus the specimen is where the stage counts 0, in µm."""

    read_noise_e: Annotated[float, Meta(ge=0.0, le=10_000.0)] = 5.0
    """Read noise in electrons, root mean square."""


class Config(Section, frozen=True, kw_only=True):
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
        found: dict[str, dict[str, Any]] = msgspec.to_builtins(self)
        return found
