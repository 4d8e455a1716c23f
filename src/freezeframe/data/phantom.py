"""An invented hospital: synthetic chest radiographs as DICOM files, with a table of labels.

Two sites photograph the same kind of people with different machines, so that a tool has something to find: other noise,
contrast, resolution, depth, photometric interpretation, borders and markers, and a slightly different prevalence. Every
file says that it is synthetic: in its header, and in small letters burned into its margin (in all images alike).
"""

import csv
import hashlib
import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)
from scipy.ndimage import gaussian_filter, uniform_filter

from freezeframe import files
from freezeframe.data.phantom_anatomy import (
    Opacity,
    attenuation,
    draw_chest,
    draw_opacities,
    edge,
)
from freezeframe.errors import UserError
from freezeframe.progress import progress
from freezeframe.seeds import generator

SCHEMA_VERSION = 1
NOTICE = "SYNTHETIC - not a patient"
SHARE_WITH_SECOND_IMAGE = 0.075
SHARE_CLEARED_ON_SECOND_IMAGE = 0.3
TABLE_COLUMNS = ("SOPInstanceUID", "label", "patient", "site", "synthetic")
UNITS_PER_HEIGHT = 2.15
ANATOMY_SCALE = 0.6

Array = np.ndarray


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
        return _uid(self.seed, "image", self.patient, self.image)

    @property
    def path(self) -> Path:
        """Its place below the hospital, named as an archive would."""
        modality = "DX" if self.site.name == "A" else "CR"
        return Path("dicom") / f"site-{self.site.name.lower()}" / f"{modality}.{self.uid}.dcm"


def make_hospital(out: Path, patients: int = 400, seed: int = 0) -> Path:
    """Make synthetic chest radiographs of two sites as DICOM, and the table of their labels.

    A killed call is continued by the same call: images that are there are kept. The files depend on nothing but the
    arguments and the versions of NumPy, SciPy and Pillow.

    Parameters
    ----------
    out : Path
        Folder to fill: ``labels.csv`` and ``dicom/site-a``, ``dicom/site-b``.
    patients : int
        At least 2; one in thirteen has a second image.
    seed : int
        Another seed invents other people.

    Returns
    -------
    Path
        ``labels.csv``: SOPInstanceUID, label ('normal' or 'opacity'), patient, site, synthetic ('true').

    Raises
    ------
    UserError
        If `patients` is below 2, or the folder holds another hospital, or can't be written.
    """
    out = Path(out)
    if patients < 2:
        raise UserError(
            f"--patients is {patients}.", "at least 2.", "400 make a set that a network can learn from."
        )
    settings = {"schema_version": SCHEMA_VERSION, "synthetic": True, "patients": patients, "seed": seed}
    _claim(out, settings)
    shots = list(plan(patients, seed))
    missing = [shot for shot in shots if not (out / shot.path).exists()]
    workers = min(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 8
    )
    with (
        progress("Making synthetic radiographs", len(missing)) as advance,
        ThreadPoolExecutor(workers) as pool,
    ):
        for _ in pool.map(lambda shot: files.write_bytes(out / shot.path, encode(shot)), missing):
            advance(1)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(TABLE_COLUMNS)
    writer.writerows((shot.uid, shot.label, shot.patient_id, shot.site.name, "true") for shot in shots)
    files.write_text(out / "labels.csv", table.getvalue())
    return out / "labels.csv"


def _claim(out: Path, settings: dict[str, object]) -> None:
    """Write what the folder holds, or refuse a folder that holds something else."""
    mark = out / "phantom.json"
    if mark.exists():
        if (found := files.read_json(mark)) != settings:
            raise UserError(
                f"{out} holds another synthetic hospital ({found.get('patients')} patients, seed {found.get('seed')}).",
                f"{settings['patients']} patients, seed {settings['seed']}.",
                "Choose another folder, or remove this one.",
            )
    elif out.is_dir() and any(out.iterdir()):
        raise UserError(
            f"{out} holds other files.", "an empty or a new folder.", "Choose another folder with --out."
        )
    else:
        files.write_json(mark, settings)


def plan(patients: int, seed: int) -> Iterator[Shot]:
    """Decide who is photographed where, and who is ill, without drawing anything."""
    number = 0
    for patient in range(patients):
        random = generator(seed, "phantom-plan", patient)
        site = SITES[int(random.random() < 0.45)]
        ill = random.random() < site.prevalence
        subtlety = float(random.random())
        cleared = random.random() < SHARE_CLEARED_ON_SECOND_IMAGE
        for image in range(1 + int(random.random() < SHARE_WITH_SECOND_IMAGE)):
            shadows = draw_opacities(generator(seed, "phantom-opacity", patient), subtlety) if ill else ()
            yield Shot(number, patient, image, site, () if image and cleared else shadows, seed)
            number += 1


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


def encode(shot: Shot) -> bytes:
    """Make the DICOM file of one image.

    Returns
    -------
    bytes
        DICOM PS3.10 file: CR Image (PS3.3 A.2) or Digital X-Ray Image, for presentation (PS3.3 A.26).
    """
    picture, window = render(shot)
    random = generator(shot.seed, "phantom-file", shot.patient, shot.image)
    bits = int(random.choice(shot.site.bits))
    inverted = random.random() < shot.site.inverted
    white = 2**bits - 1
    stored = np.rint((1 - picture if inverted else picture) * white).astype("<u2")
    low, high = (1 - window[::-1] if inverted else window) * white

    data = _header(shot, random)
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    data.Rows, data.Columns = stored.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, bits, bits - 1, 0
    data.WindowCenter, data.WindowWidth = f"{(low + high) / 2:.0f}", f"{high - low:.0f}"
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = "0", "1", "US"
    data.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    data.BurnedInAnnotation = "NO"  # no text that identifies a person
    data.LossyImageCompression = "00"

    syntax = random.choice([ExplicitVRLittleEndian, RLELossless, JPEGLSLossless], p=[0.7, 0.15, 0.15])
    data.PixelData = stored.tobytes()
    data["PixelData"].VR = "OW"
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax != ExplicitVRLittleEndian:
        data.compress(UID(syntax), generate_instance_uid=False)
    content = io.BytesIO()
    data.save_as(content, enforce_file_format=True)
    return content.getvalue()


def _header(shot: Shot, random: np.random.Generator) -> Dataset:
    digital = shot.site.name == "A"
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.SOPClassUID = DigitalXRayImageStorageForPresentation if digital else ComputedRadiographyImageStorage
    data.SOPInstanceUID = shot.uid
    data.StudyInstanceUID = _uid(shot.seed, "study", shot.patient, shot.image)
    data.SeriesInstanceUID = _uid(shot.seed, "series", shot.patient, shot.image)
    data.StudyID = data.AccessionNumber = f"SYN{shot.number + 1:06d}"
    data.SeriesNumber, data.InstanceNumber = "1", "1"
    data.StudyDate = data.SeriesDate = data.AcquisitionDate = data.ContentDate = "20260101"
    data.StudyTime = data.SeriesTime = data.AcquisitionTime = data.ContentTime = (
        f"{8 + shot.number % 10:02d}0000"
    )
    data.Modality = "DX" if digital else "CR"
    data.Manufacturer = "SYNTHETIC"
    data.ManufacturerModelName = f"Phantom {shot.site.name}"
    data.InstitutionName = f"Synthetic site {shot.site.name}"
    data.ReferringPhysicianName = ""
    data.PatientName = "SYNTHETIC^PHANTOM"
    data.PatientID = shot.patient_id
    data.PatientBirthDate = data.PatientSex = ""
    data.PatientOrientation = ["L", "F"]
    data.StudyDescription = data.SeriesDescription = data.ImageComments = NOTICE
    data.BodyPartExamined = "CHEST"
    data.ViewPosition = "AP" if random.random() < shot.site.bedside else "PA"
    data.ImageType = ["DERIVED", "PRIMARY"]
    data.DerivationDescription = NOTICE
    data.Laterality = ""
    if digital:
        del data.Laterality
        data.PresentationIntentType = "FOR PRESENTATION"
        data.ImageLaterality = "U"
        data.PixelIntensityRelationship, data.PixelIntensityRelationshipSign = "LOG", -1
        data.AnatomicRegionSequence = [_code("51185008", "SCT", "Chest")]
        data.AcquisitionContextSequence = []
        data.DetectorType = "DIRECT"
        data.PositionerType = "NONE"
    return data


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


def _uid(seed: int, kind: str, *index: int) -> str:
    """Make a UID under the root for UUIDs (2.25, ITU-T X.667) from a hash; 128 bits, so at most 44 characters."""
    text = f"freezeframe phantom {SCHEMA_VERSION} {seed} {kind} {index}"
    return f"2.25.{int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], 'big')}"
