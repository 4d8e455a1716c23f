"""Small DICOM images for tests: 16 by 12 pixels, with any elements, of nobody."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)

ROOT = "1.2.826.0.1.3680043.10.1443"
ROWS, COLUMNS = 16, 12


def make_image(study: int = 1, number: int = 1, series: int = 1, **elements: Any) -> Dataset:
    """Make one image of a study; elements that are None are left out.

    The same numbers make the same image.
    """
    image = Dataset()
    image.SOPClassUID = DigitalXRayImageStorageForPresentation
    image.StudyInstanceUID = f"{ROOT}.{study}"
    image.SeriesInstanceUID = f"{ROOT}.{study}.{series}"
    image.SOPInstanceUID = f"{ROOT}.{study}.{series}.{number}"
    image.PatientID = f"PHANTOM-{study:04d}"
    image.PatientName = f"PHANTOM^{study:04d}"
    image.PatientBirthDate, image.PatientSex = "19700101", "O"
    image.StudyDate, image.StudyTime, image.AccessionNumber = "20260102", "101500", f"A{study}"
    image.Modality, image.BodyPartExamined, image.ViewPosition = "DX", "CHEST", "PA"
    image.SeriesNumber, image.InstanceNumber = series, number
    image.Manufacturer, image.StationName = "SYNTHETIC", "ROOM1"
    image.Rows, image.Columns = ROWS, COLUMNS
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    pixels = np.arange(ROWS * COLUMNS, dtype="<u2").reshape(ROWS, COLUMNS) * 5 + study + number
    image.PixelData = pixels.tobytes()
    for keyword, value in elements.items():
        if value is None:
            delattr(image, keyword)
        else:
            setattr(image, keyword, value)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = UID(image.SOPClassUID)
    image.file_meta.MediaStorageSOPInstanceUID = UID(image.SOPInstanceUID)
    image.preamble = b"\0" * 128
    return image


def as_bytes(image: Dataset) -> bytes:
    """Return the Part-10 file of an image."""
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def write(path: Path, image: Dataset) -> Path:
    """Write an image's file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(as_bytes(image))
    return path
