"""Small synthetic radiographs as DICOM files."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian


def make_image(number: int = 1, side: int = 32, **attributes: Any) -> Dataset:
    """Make a CR image whose UIDs and pixels depend on the number; attributes replace those that it has."""
    data = Dataset()
    data.SOPClassUID = ComputedRadiographyImageStorage
    data.SOPInstanceUID = f"2.25.4000.{number}"
    data.StudyDate, data.StudyTime, data.AccessionNumber = "20260102", "101112", f"A{number}"
    data.Modality = "CR"
    data.StudyDescription = "Synthetic chest"
    data.PatientName, data.PatientID = f"PHANTOM^{number:04}", f"P{number}"
    data.PatientBirthDate, data.PatientSex = "19700101", "O"
    data.BodyPartExamined, data.ViewPosition = "CHEST", "PA"
    data.StudyInstanceUID, data.SeriesInstanceUID = f"2.25.2000.{number}", f"2.25.3000.{number}"
    data.InstanceNumber = 1
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows = data.Columns = side
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = np.random.default_rng(number).integers(0, 4096, side * side, "<u2").tobytes()
    data["PixelData"].VR = "OW"
    for keyword, value in attributes.items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    return data


def write_image(path: Path, number: int = 1, syntax: str = ExplicitVRLittleEndian, **attributes: Any) -> Path:
    """Write the image of `make_image` uncompressed, in implicit or explicit, little endian representation."""
    data = make_image(number, **attributes)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = UID(syntax)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path
