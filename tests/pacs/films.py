"""Synthetic radiographs as DICOM files in every encoding, and claims on them."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from freezeframe.pacs.reading.queue import Claim, ClaimedImage

ROOT = "2.25.77"
SYNTAXES = {
    "raw": ExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg-lossless": ExplicitVRLittleEndian,  # until dcmcjpeg has coded it
    "jpeg-ls": JPEGLSLossless,
    "jpeg-2000": JPEG2000Lossless,
}


def radiograph(seed: int, rows: int = 120, columns: int = 96) -> np.ndarray:
    """Smooth shapes of 12 bits."""
    generator = np.random.default_rng(seed)
    down, across = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j]
    picture = sum(
        generator.uniform(0.2, 1) * np.exp(-((down - y) ** 2 + (across - x) ** 2) / (2 * width**2))
        for y, x, width in generator.uniform([0, 0, 0.05], [1, 1, 0.4], (6, 3))
    )
    return np.rint(picture / np.max(picture) * 4095).astype(np.uint16)


def make(pixels: np.ndarray, number: int = 1, bits: int = 12, **elements: Any) -> Dataset:
    """A file of unsigned 16-bit pixels, (H, W) or (frames, H, W), shown in full range."""
    image = Dataset()
    image.SOPClassUID = DigitalXRayImageStorageForPresentation
    image.StudyInstanceUID, image.SeriesInstanceUID = f"{ROOT}.1", f"{ROOT}.1.1"
    image.SOPInstanceUID = f"{ROOT}.1.1.{number}"
    image.PatientID, image.PatientName = "PHANTOM-0001", "PHANTOM^0001"
    image.PatientBirthDate, image.PatientSex, image.AccessionNumber = "19700101", "O", "A1"
    image.StudyDate, image.StudyTime, image.StudyID = "20260102", "101500", "1"
    image.Modality, image.BodyPartExamined, image.ViewPosition = "DX", "CHEST", "PA"
    image.SeriesNumber, image.InstanceNumber = 1, number
    image.Rows, image.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        image.NumberOfFrames = len(pixels)
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, bits, bits - 1, 0
    image.WindowCenter, image.WindowWidth = 2 ** (bits - 1), 2**bits
    image.PixelData = pixels.astype("<u2").tobytes()
    image["PixelData"].VR = "OW"
    for keyword, value in elements.items():
        setattr(image, keyword, value)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = UID(image.SOPClassUID)
    image.file_meta.MediaStorageSOPInstanceUID = UID(image.SOPInstanceUID)
    return image


def encoded(pixels: np.ndarray, path: Path, syntax: str, photometric: str, bits: int) -> Path:
    """Write 12-bit pixels with more bits, turned over, or compressed: the same picture."""
    stored = pixels * np.uint16(2 ** (bits - 12))
    if photometric == "MONOCHROME1":
        stored = np.uint16(2**bits - 1) - stored
    image = make(stored, bits=bits, PhotometricInterpretation=photometric)
    if SYNTAXES[syntax].is_encapsulated:
        plugin = {"rle": "pydicom", "jpeg-2000": "pylibjpeg"}.get(syntax, "")
        image.compress(SYNTAXES[syntax], encoding_plugin=plugin, generate_instance_uid=False)
    write(image, path)
    if syntax == "jpeg-lossless":
        whole = path.with_suffix(".raw")
        path.rename(whole)
        subprocess.run(["/usr/bin/dcmcjpeg", "+e1", whole, path], check=True, timeout=60)
    return path


def write(image: Dataset, path: Path) -> Path:
    """Write a file into a folder that is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)
    return path


def claim_on(*paths: str | None, version: int = 1, bundle: str = "default") -> Claim:
    """A claim on files below a node's folder, in order; None is one that retention has deleted."""
    images = tuple(
        ClaimedImage(f"{ROOT}.1.1.{number}", DigitalXRayImageStorageForPresentation, f"{ROOT}.1.1", path)
        for number, path in enumerate(paths, 1)
    )
    return Claim(1, 1, f"{ROOT}.1", version, bundle, images, "worker", 1, 1_000_000.0)
