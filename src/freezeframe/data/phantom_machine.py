"""The invented hospital's machines: from a person's shadow to the picture that a detector sees."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter, uniform_filter

from freezeframe.data.phantom_anatomy import Array, Opacity, attenuation, draw_chest, edge
from freezeframe.seeds import generator

SCHEMA_VERSION = 1
UNITS_PER_HEIGHT = 2.15
ANATOMY_SCALE = 0.6


@dataclass(frozen=True)
class Site:
    """A hospital and its machine."""

    name: str
    prevalence: float
    long_side: tuple[int, int]
    aspect: tuple[float, float]
    bits: tuple[int, ...]
    inverted: float
    bedside: float
    noise: float
    grain: float
    gamma: float
    sharpening: float
    grid: float
    collimation: float
    marker: str


SITES = (
    Site(
        "A", 0.37, (600, 700), (0.82, 0.92), (14, 16), 0.0, 0.15,
        noise=0.011, grain=0.0, gamma=0.95, sharpening=0.5, grid=0.0, collimation=0.25, marker="R",
    ),
    Site(
        "B", 0.45, (512, 600), (0.80, 1.0), (12,), 0.85, 0.45,
        noise=0.016, grain=0.7, gamma=1.15, sharpening=0.15, grid=0.012, collimation=0.75, marker="L",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Shot:
    """One image to make: who, where, with what."""

    number: int
    patient: int
    image: int
    site: Site
    opacities: tuple[Opacity, ...]
    seed: int

    @property
    def label(self) -> Literal["normal", "opacity"]:
        """The class: it has opacities or none."""
        return "opacity" if self.opacities else "normal"

    @property
    def patient_id(self) -> str:
        """The invented patient, as in the header and the table."""
        return f"SYN{self.patient + 1:04d}"

    @property
    def uid(self) -> str:
        """Its SOPInstanceUID."""
        return make_uid(self.seed, "image", self.patient, self.image)

    @property
    def path(self) -> Path:
        """Its place below the hospital, named as an archive would."""
        modality = "DX" if self.site.name == "A" else "CR"
        return Path("dicom") / f"site-{self.site.name.lower()}" / f"{modality}.{self.uid}.dcm"


def make_uid(seed: int, kind: str, *index: int) -> str:
    """Make a UID under the root for UUIDs (2.25, ITU-T X.667) from a hash; 128 bits, so at most 44 characters."""
    text = f"freezeframe phantom {SCHEMA_VERSION} {seed} {kind} {index}"
    return f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], 'big')}"


def render(shot: Shot) -> tuple[Array, Array]:
    """Draw one image as the detector sees it.

    Returns
    -------
    picture : numpy.ndarray
        float32 (H, W) in [0, 1]; 1 is white (much attenuation), as in a radiograph for reading.
    window : numpy.ndarray
        Two floats: the values that are shown as black and as white.
    """
    chest = draw_chest(generator(shot.seed, "phantom-chest", shot.patient))
    random = generator(shot.seed, "phantom-shot", shot.patient, shot.image)
    site = shot.site
    bedside = random.random() < site.bedside
    height = int(random.integers(*site.long_side)) // 2 * 2
    width = int(height * random.uniform(*site.aspect)) // 2 * 2
    # The anatomy is drawn on a coarser grid and enlarged: a detector blurs too, and it takes a third of the time.
    u, v = _pose(random, round(height * ANATOMY_SCALE), round(width * ANATOMY_SCALE), bedside)
    shadow = attenuation(chest, shot.opacities, u, v) + _devices(random, u, v, bedside)
    shadow = np.asarray(Image.fromarray(shadow).resize((width, height), Image.Resampling.BICUBIC))

    # Scatter fogs the whole picture; noise grows where few photons arrive (Poisson), in the logarithmic domain.
    scatter = np.asarray(Image.fromarray(shadow).resize((24, 24), Image.Resampling.BOX))
    scatter = np.asarray(
        Image.fromarray(gaussian_filter(scatter, 2)).resize((width, height), Image.Resampling.BICUBIC)
    )
    signal = 0.82 * shadow + 0.18 * scatter
    noise = random.standard_normal(signal.shape, dtype=np.float32)
    if site.grain:
        noise = gaussian_filter(noise, site.grain) * (1 + 1.9 * site.grain)
    signal += site.noise * np.exp(0.55 * signal) * noise
    if site.grid:
        signal += site.grid * np.sin(
            np.arange(width, dtype=np.float32) * (2 * np.pi / random.uniform(3.4, 4.6))
        )
    signal += site.sharpening * (signal - uniform_filter(signal, height // 24))

    low, high = np.percentile(signal[::4, ::4], (1.0, 99.3)).astype(np.float32)
    picture = np.clip((signal - low) / (high - low) * 0.86 + 0.05, 0, 1) ** np.float32(site.gamma)
    picture = _border(random, picture, site)
    return picture, np.array([0.02 + 0.05 * random.random(), 0.93 + 0.05 * random.random()])


def _pose(random: np.random.Generator, height: int, width: int, bedside: bool) -> tuple[Array, Array]:
    """Return the chest units of each pixel: how the person stands before the detector."""
    scale = UNITS_PER_HEIGHT * random.uniform(0.93, 1.07) * (0.94 if bedside else 1.0) / height
    turn = np.deg2rad(random.normal(0, 3.0 if bedside else 1.4))
    x = (np.arange(width, dtype=np.float32) - width / 2) * np.float32(scale) - np.float32(
        random.normal(0, 0.035)
    )
    y = (np.arange(height, dtype=np.float32) - height / 2) * np.float32(scale) - np.float32(
        random.normal(0.06, 0.04)
    )
    cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    return cos * x[None, :] + sin * y[:, None], cos * y[:, None] - sin * x[None, :]


def _devices(random: np.random.Generator, u: Array, v: Array, bedside: bool) -> Array:
    """Lines, electrodes and tubes, in the ill and the well alike: more of them at the bedside."""
    shadow = np.zeros_like(u)
    if random.random() < (0.5 if bedside else 0.06):
        sag = random.uniform(0.0, 0.25)
        start, bend = random.uniform(-0.9, 0.9), random.uniform(-0.4, 0.4)
        cable = np.abs(u - start - bend * v - sag * np.sin(3 * v + start))
        shadow += 0.25 * edge(0.010 - cable, 0.006)
        for _ in range(int(random.integers(1, 4))):
            spot = np.hypot(u - random.uniform(-0.6, 0.6), v - random.uniform(-0.6, 0.5))
            shadow += 0.30 * edge(0.034 - spot, 0.008) - 0.16 * edge(0.014 - spot, 0.006)
    if random.random() < (0.35 if bedside else 0.02):
        # A central line: from the neck, along the right edge of the mediastinum, to above the heart.
        course = np.abs(u + 0.13 - 0.10 * edge(-0.5 - v, 0.3) - 0.02 * np.sin(6 * v))
        shadow += 0.22 * edge(0.008 - course, 0.005) * edge(-0.02 - v, 0.02)
    return shadow


def _border(random: np.random.Generator, picture: Array, site: Site) -> Array:
    """Collimate, and print the marker and the notice."""
    height, width = picture.shape
    if random.random() < site.collimation:
        # The shutters' shadow is unexposed: white on film; the machine of site A masks it black.
        left, right = (random.uniform(0.0, 0.05, 2) * width).astype(int)
        top, bottom = (random.uniform(0.0, 0.05, 2) * height).astype(int)
        frame = np.zeros(picture.shape, dtype=np.float32)
        frame[top : height - bottom, left : width - right] = 1
        frame = gaussian_filter(frame, 1.0)
        outside = np.float32(0.0 if site.name == "A" else 0.98)
        picture = frame * picture + (1 - frame) * outside
    ink = Image.new("L", (width, height))
    pen = ImageDraw.Draw(ink)
    letter_size = height // 17
    shift = int(random.integers(0, height // 20))
    if site.marker == "R":
        place = (width // 14 + shift // 2, height // 12 + shift)
        pen.text(place, "R", fill=235, font=ImageFont.load_default(letter_size))
    else:
        # Lead strips rather than a printed letter.
        x, y = width - width // 9 - shift // 2, height // 9 + shift
        pen.line([x, y, x, y + letter_size], fill=245, width=max(3, letter_size // 7))
        foot = (x + letter_size // 2, y + letter_size)
        pen.line([x, y + letter_size, *foot], fill=245, width=max(3, letter_size // 7))
    printed = gaussian_filter(np.asarray(ink, dtype=np.float32) / 255, 0.6)
    picture = np.maximum(picture, printed)
    # The notice stands on black, so that it is read on a white shutter too.
    font = ImageFont.load_default(max(10, height // 50))
    _, _, right, bottom = font.getbbox("SYNTHETIC")
    label = Image.new("L", (int(right) + 8, int(bottom) + 6))
    ImageDraw.Draw(label).text((4, 2), "SYNTHETIC", fill=215, font=font)
    picture[-label.height :, -label.width :] = np.asarray(label, dtype=np.float32) / 255
    return picture
