"""Text that stations burn into their images: which rectangles of which stations are blanked."""

import re
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydicom.dataset import Dataset

from freezeframe import files
from freezeframe.errors import FreezeframeError, UserError

ATTRIBUTES = ("Manufacturer", "ManufacturerModelName", "StationName", "Modality", "SOPClassUID")
_OVERLAY_BIT = 0x0102
_SECONDARY_CAPTURES = "1.2.840.10008.5.1.4.1.1.7"
"""SOP class, and the root of the multi-frame ones."""


class BurnedInError(FreezeframeError):
    """An image may show its patient's name, and no rule says where."""


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no regular expression ({error})") from error
    return pattern


Pattern = Annotated[str, AfterValidator(_compiles)]


class Station(BaseModel):
    """One station, and where it writes into its images. All that is given must fit.

    `blank` lists rectangles as left, top, right, bottom in pixels from the upper left corner, right and bottom not
    included; negative numbers count from the right and from below, 0 as right or bottom is the edge. An empty list says
    that the station burns nothing in.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    Manufacturer: Pattern | None = None
    ManufacturerModelName: Pattern | None = None
    StationName: Pattern | None = None
    Modality: Pattern | None = None
    SOPClassUID: Pattern | None = None
    rows: Annotated[int, Field(gt=0)] | None = None
    columns: Annotated[int, Field(gt=0)] | None = None
    blank: tuple[tuple[int, int, int, int], ...]

    def fits(self, dataset: Dataset) -> bool:
        """Tell whether an image is of this station."""
        for keyword in ATTRIBUTES:
            pattern = getattr(self, keyword)
            if pattern is not None and not re.fullmatch(pattern, str(dataset.get(keyword, "") or "").strip()):
                return False
        return self.rows in (None, dataset.get("Rows")) and self.columns in (None, dataset.get("Columns"))


class Stations(BaseModel):
    """A table of stations; the first that fits counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stations: tuple[Station, ...] = ()

    @classmethod
    def read(cls, path: Path) -> "Stations":
        """Read a YAML file with the field ``stations``.

        Raises
        ------
        UserError
            With each field that is wrong.
        """
        try:
            return cls.model_validate(files.read_yaml(path))
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(str(part) for part in entry['loc'])}: {entry['msg']}" for entry in error.errors()
            )
            raise UserError(
                f"{path}: {problems}.", "a table of stations as docs/data-pull.md shows."
            ) from error

    def clean(self, dataset: Dataset) -> bool:
        """Blank an image where its station writes; decompress it for that.

        Parameters
        ----------
        dataset : Dataset
            With its pixels and its original header; it is changed.

        Returns
        -------
        bool
            Whether a station of the table fits, so that nothing is burned in any more.

        Raises
        ------
        BurnedInError
            If something is or may be burned in, and no station fits, or its pixels can't be read.
        """
        station = next((station for station in self.stations if station.fits(dataset)), None)
        if station is not None:
            if station.blank:
                _blank(dataset, station)
            return True
        if _says(dataset, "BurnedInAnnotation"):
            raise BurnedInError("text is burned in, and no station of the table fits")
        if _says(dataset, "RecognizableVisualFeatures"):
            raise BurnedInError("the patient can be recognised in it")
        if str(dataset.get("SOPClassUID", "")).startswith(_SECONDARY_CAPTURES) and not dataset.get(
            "BurnedInAnnotation"
        ):
            raise BurnedInError("a capture that does not say whether text is burned in, and no station fits")
        return False


def _says(dataset: Dataset, keyword: str) -> bool:
    return str(dataset.get(keyword, "") or "").strip().upper() == "YES"


def _blank(dataset: Dataset, station: Station) -> None:
    try:
        if dataset.file_meta.TransferSyntaxUID.is_encapsulated:
            dataset.decompress(as_rgb=True, generate_instance_uid=False)
        pixels = np.array(dataset.pixel_array)
    except Exception as error:  # decoders raise nearly anything, and none of it may end the export
        raise BurnedInError(f"its pixels can't be read ({type(error).__name__})") from error
    samples, frames = int(dataset.get("SamplesPerPixel", 1)), int(dataset.get("NumberOfFrames", 1) or 1)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    shaped = pixels.reshape(frames, rows, columns, samples)
    black = _black(dataset)
    for left, top, right, bottom in station.blank:
        down, along = slice(top, bottom or None), slice(left, right or None)
        if shaped[:, down, along].size == 0:
            raise BurnedInError(f"a rectangle of station '{station.name}' lies outside of it")
        shaped[:, down, along] = black
    dataset.PixelData = shaped.astype(shaped.dtype.newbyteorder("<")).tobytes()
    if len(dataset.PixelData) % 2:
        dataset.PixelData += b"\0"
    if samples > 1:
        dataset.PlanarConfiguration = 0
        if dataset.PhotometricInterpretation == "YBR_FULL_422":
            dataset.PhotometricInterpretation = "YBR_FULL"  # what pydicom gives for it is not subsampled


def _black(dataset: Dataset) -> np.ndarray | int:
    bits, signed = int(dataset.BitsStored), bool(dataset.get("PixelRepresentation", 0))
    lowest, highest = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    photometric = str(dataset.PhotometricInterpretation)
    if photometric.startswith("YBR"):
        return np.array([0, 128, 128])
    return highest if photometric == "MONOCHROME1" else lowest if photometric == "MONOCHROME2" else 0


def clear_unused_bits(dataset: Dataset) -> None:
    """Clear the bits of each sample that are not of the image.

    Older systems drew overlays there (PS3.5, section 8.1.2). The values of the image stay, negative ones too.

    Parameters
    ----------
    dataset : Dataset
        With its pixels and its original header; it is changed.

    Raises
    ------
    BurnedInError
        If an overlay is drawn in bits that can't be cleared: of compressed pixels, or of the image itself.
    """
    allocated, stored = int(dataset.get("BitsAllocated", 0) or 0), int(dataset.get("BitsStored", 0) or 0)
    high = int(dataset.get("HighBit", stored - 1) or 0)
    syntax = dataset.file_meta.TransferSyntaxUID
    elements = (element for element in dataset if element.tag.group & 0xFF01 == 0x6000)
    drawn = any(element.tag.element == _OVERLAY_BIT and element.value for element in elements)
    if drawn and (syntax.is_encapsulated or stored >= allocated):
        raise BurnedInError("an overlay is drawn in bits of its pixels that can't be cleared")
    if syntax.is_encapsulated or allocated not in (8, 16, 32) or not 0 < stored < allocated:
        return  # most codecs keep no such bits; single bits and floating point have none
    if not stored <= high + 1 <= allocated:
        high = stored - 1  # what decoders take for granted
    kind = "i" if dataset.get("PixelRepresentation", 0) else "u"
    order = "<" if syntax.is_little_endian else ">"
    size = allocated // 8
    samples = np.frombuffer(dataset.PixelData, f"{order}{kind}{size}", len(dataset.PixelData) // size)
    cleared = samples << (allocated - 1 - high) >> (allocated - stored) << (high + 1 - stored)
    dataset.PixelData = cleared.astype(samples.dtype).tobytes() + dataset.PixelData[samples.nbytes :]
