"""An invented hospital: synthetic chest radiographs as DICOM files, with a table of labels.

Two sites photograph the same kind of people with different machines, so that a tool has something to find: other noise,
contrast, resolution, depth, photometric interpretation, borders and markers, and a slightly different prevalence. Every
file says that it is synthetic: in its header, and in small letters burned into its margin (in all images alike).
"""

import csv
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

from freezeframe import files, machine
from freezeframe.data.phantom_anatomy import draw_opacities
from freezeframe.data.phantom_machine import SCHEMA_VERSION, SITES, Shot, make_uid, render
from freezeframe.errors import UserError
from freezeframe.progress import progress
from freezeframe.seeds import generator

NOTICE = "SYNTHETIC - not a patient"
SHARE_WITH_SECOND_IMAGE = 0.075
SHARE_CLEARED_ON_SECOND_IMAGE = 0.3
TABLE_COLUMNS = ("SOPInstanceUID", "label", "patient", "site", "synthetic")


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
    workers = min(machine.available_cores(), 8)
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
    data.StudyInstanceUID = make_uid(shot.seed, "study", shot.patient, shot.image)
    data.SeriesInstanceUID = make_uid(shot.seed, "series", shot.patient, shot.image)
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
