"""Every knob of the synthetic generator, with its unit."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..errors import DataError

FULL = 16383  # 14-bit raw
GREY = FULL / 255  # raw units of one grey level at 8 bits


@dataclass(frozen=True)
class SynthConfig:
    """Ranges are (low, high); "log" means log-uniform, else uniform. Grey levels are 1/255 of full scale.

    Background: FFT-filtered noise of power f^-beta, histogram-matched to a beta or gamma law, then optional layers, each
    with its probability. Targets: pixel-integrated Gaussian or polygon under a PSF, amplitude from the wanted SCR. Sensor:
    noise, fixed pattern, defects, 14 bits; AGC to 8 bits.
    """

    beta: tuple[float, float] = (1.4, 4.4)  # background: exponent of its power spectrum
    gamma_law: float = 0.5  # probability of the gamma law instead of the beta law
    level: tuple[float, float] = (30.0, 90.0)  # grey levels, median of the background
    contrast: tuple[float, float] = (2.0, 9.0)  # grey levels, standard deviation of the background, log
    gradient: float = 0.4  # probability of a ramp across the image
    horizon: float = 0.2  # probability of a horizon or shore line
    cloud: float = 0.3  # probability of a cloud layer
    buildings: float = 0.15  # probability of rectangles on the lower edge
    glint: float = 0.1  # probability of a band of bright specks of 1 to 3 px that are no targets
    counts: tuple[float, ...] = (358, 48, 13, 4, 1, 2, 1)  # weights of 1, 2, ... targets in an image that has any
    empty: float = 0.05  # probability of an image without targets
    sigma: tuple[float, float] = (0.6, 3.4)  # px, log; of a point target, the smaller of the two axes
    anisotropy: tuple[float, float] = (1.0, 2.0)  # the larger axis over the smaller
    extended: float = 0.1  # probability of a polygon instead of a point
    extended_radius: tuple[float, float] = (2.0, 6.0)  # px
    psf: tuple[float, float] = (0.6, 1.2)  # px, of the polygon's blur
    mask_level: float = 0.22  # of the noise-free peak; gives the areas of the real sets (at 0.5 their median is 10)
    scr: tuple[float, float] = (1.5, 25.0)  # signal-to-clutter ratio wanted, log
    min_contrast: float = 3.0  # grey levels between target and surroundings, so that 8 bits still show it
    dark: float = 0.006  # probability of a target darker than its surroundings
    read_noise: tuple[float, float] = (0.05, 5.0)  # grey levels, log
    shot_noise: tuple[float, float] = (0.0, 0.5)  # grey levels at mid scale
    column_pattern: tuple[float, float] = (0.0, 0.3)  # grey levels
    row_pattern: tuple[float, float] = (0.0, 0.15)  # grey levels
    defects: tuple[float, float] = (0.0, 2.0e-5)  # share of dead and hot pixels
    agc: tuple[float, float] | None = (0.1, 99.995)  # percentiles mapped to 8 bits; None: raw / 64.25 as it is
    agc_fill: tuple[float, float] = (0.4, 0.9)  # share of the 8-bit range the upper percentile is mapped to
    jpeg: float = 0.0  # 0: off; else the step of the 8x8 DCT quantiser, in grey levels
    output: str = "8bit"  # what SyntheticDataset hands out: "8bit" or "raw"

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple) and field.name != "counts" and not (len(value) == 2 and 0 <= value[0] <= value[1]):
                raise DataError(f"SynthConfig: {field.name} must be a range 0 <= low <= high, got {value}")
        for name in ("gamma_law", "gradient", "horizon", "cloud", "buildings", "glint", "empty", "extended", "dark"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"SynthConfig: {name} must be a probability, got {getattr(self, name)}")
        for name in ("sigma", "scr", "contrast", "psf", "extended_radius", "read_noise"):
            if getattr(self, name)[0] <= 0:
                raise DataError(f"SynthConfig: {name} must be > 0, got {getattr(self, name)}")
        if self.anisotropy[0] < 1:
            raise DataError(f"SynthConfig: anisotropy must be >= 1, got {self.anisotropy}")
        if not 0 < self.mask_level < 1:
            raise DataError(f"SynthConfig: mask_level must be in (0, 1), got {self.mask_level}")
        if not 0 < self.agc_fill[0] <= self.agc_fill[1] <= 1:
            raise DataError(f"SynthConfig: agc_fill must be in (0, 1], got {self.agc_fill}")
        if self.agc is not None and not self.agc[0] < self.agc[1] <= 100:
            raise DataError(f"SynthConfig: agc must be percentiles low < high <= 100, got {self.agc}")
        if not self.counts or min(self.counts) < 0 or sum(self.counts) <= 0:
            raise DataError(f"SynthConfig: counts must be weights >= 0 of which one is > 0, got {self.counts}")
        if self.output not in ("8bit", "raw"):
            raise DataError(f"SynthConfig: output must be 8bit or raw, got {self.output!r}")
