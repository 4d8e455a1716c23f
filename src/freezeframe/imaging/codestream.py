"""Compressed pixel data: what a codestream says of itself, and the one codec that pydicom does not offer."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import gdcm
import numpy as np
from pydicom.encaps import generate_fragments
from pydicom.uid import (
    JPEG2000,
    UID,
    JPEG2000TransferSyntaxes,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLSNearLossless,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
)

from freezeframe.imaging.image import UnreadableImage

# What GDCM prints about broken streams is in the exceptions too.
gdcm.Trace.WarningOff()
gdcm.Trace.ErrorOff()


def decode_12_bit_jpeg(coded: bytes, rows: int, columns: int) -> np.ndarray:
    """Decode lossy JPEG of 12 bits a sample to (H, W) uint16.

    pydicom refuses it because GDCM wraps around values beyond *Bits Stored*; told the stream's own 12 bits, it doesn't.
    """
    fragment, fragments = gdcm.Fragment(), gdcm.SequenceOfFragments.New()
    fragment.SetByteStringValue(coded)
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(
        gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2)
    )
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGExtendedProcess2_4))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, 0))
    # GDCM hands bytes over as text.
    content = image.GetBuffer().encode("utf-8", "surrogateescape")
    return np.frombuffer(content, np.uint16).reshape(rows, columns)


def fragments(stream: BinaryIO, most: int) -> Iterator[bytes]:
    """Yield the offset table and the fragments of encapsulated pixel data, as far as they are whole."""
    for count, fragment in enumerate(generate_fragments(stream)):
        if count >= most:
            return
        yield fragment


def syntax_of(coded: bytes) -> UID | None:
    """Tell a codestream's transfer syntax by its first bytes."""
    if coded.startswith(b"\xff\x4f\xff\x51"):
        return JPEG2000
    frame_headers = {
        0xC0: JPEGBaseline8Bit,
        0xC1: JPEGExtended12Bit,
        0xC3: JPEGLossless,
        0xF7: JPEGLSNearLossless,
    }
    header = _jpeg_frame_header(coded)
    return frame_headers.get(header[0]) if header else None


def _jpeg_frame_header(coded: bytes) -> tuple[int, int, int] | None:
    """Return marker, rows and columns of the first frame header of a JPEG or JPEG-LS stream (ITU-T T.81 B.2.2)."""
    if not coded.startswith(b"\xff\xd8"):
        return None
    position = 2
    while position + 9 <= len(coded) and coded[position] == 0xFF:
        marker = coded[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            height, width = (int.from_bytes(coded[position + at : position + at + 2], "big") for at in (5, 7))
            return marker, height, width
        position += 2 + int.from_bytes(coded[position + 2 : position + 4], "big")
    return None


def check_coded(path: Path, coded: bytes, syntax: UID, rows: int, columns: int) -> None:
    """Refuse a codestream that was cut, or whose own size is not the header's: codecs fill in grey, or crash."""
    if syntax not in (*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes, *JPEG2000TransferSyntaxes):
        return
    if b"\xff\xd9" not in coded[-64:]:
        raise UnreadableImage(path, "its compressed pixel data is truncated (no end marker).")
    size = None
    if coded.startswith(b"\xff\x4f\xff\x51"):  # SIZ of JPEG 2000, ITU-T T.800 A.5.1: extent minus offset
        width, height, left, top = (int.from_bytes(coded[at : at + 4], "big") for at in (8, 12, 16, 20))
        size = (height - top, width - left)
    elif header := _jpeg_frame_header(coded):
        size = header[1:]
    if size is not None and size != (rows, columns):
        raise UnreadableImage(
            path, f"its header says {columns} x {rows} pixels, its compressed data {size[1]} x {size[0]}."
        )
