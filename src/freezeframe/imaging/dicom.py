"""DICOM images to arrays, with pydicom and permissively licensed codecs."""

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
)

from freezeframe.imaging.codestream import check_coded, decode_12_bit_jpeg, fragments, syntax_of
from freezeframe.imaging.greyscale import displayed
from freezeframe.imaging.header import UNDEFINED_LENGTH, OpenedFile, integer, opened, text
from freezeframe.imaging.image import DecodedImage, UnreadableImage, check_size, scale_to_full_range

ATTRIBUTES = (
    "Modality",
    "BodyPartExamined",
    "ViewPosition",
    "PatientID",
    "PatientAge",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SOPInstanceUID",
    "AccessionNumber",
    "InstitutionName",
    "StationName",
    "PhotometricInterpretation",
    "ImageType",
    "PresentationIntentType",
)
_NUMBERS = ("Rows", "Columns", "BitsStored")
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_ITEM = b"\xfe\xff\x00\xe0"


def read_header(path: Path) -> dict[str, Any]:
    """Read what is said about a DICOM file's image, without its pixels.

    Returns
    -------
    dict
        The `ATTRIBUTES` as str ('' where missing); ``Rows``, ``Columns``, ``BitsStored`` as int (0 where missing);
        ``has_pixels`` as bool.

    Raises
    ------
    UnreadableImage
        If the file is no DICOM.
    """
    with opened(path) as file:
        return {**_attributes(file), "has_pixels": bool(file.keyword)}


def count_frames(path: Path) -> int:
    """Count the frames of a DICOM file that are really there, without decoding any.

    Raises
    ------
    UnreadableImage
        If the file is no DICOM image.
    """
    with opened(path) as file:
        return _Layout(file).frames


def decode(path: Path, frame: int = 0) -> DecodedImage:
    """Decode one frame of a DICOM file to what is meant to be seen.

    Grey goes through modality LUT or rescale, the first VOI LUT or window (see `greyscale.displayed`), and is inverted
    for MONOCHROME1; palettes and YBR become RGB. Objects without pixels, such as reports and plans, are refused.

    Returns
    -------
    DecodedImage
        uint8 or uint16 over the whole range of the type. Grey with a window, or of more than 8 bits, is uint16.

    Raises
    ------
    UnreadableImage
        With the reason.
    """
    with opened(path) as file:
        layout = _Layout(file)
        if not 0 <= frame < layout.frames:
            raise UnreadableImage(file.path, f"it has no frame {frame}: {layout.frames} from 0 on.")
        stored = layout.read(frame)
        if layout.photometric == "PALETTE COLOR":
            pixels = apply_color_lut(stored, file.header)
            if pixels.dtype == np.uint16 and not (pixels & 255).any():
                pixels = (pixels >> 8).astype(np.uint8)  # 8-bit entries in the upper half of 16, as is common
        elif layout.samples == 3:
            unsigned = stored.view(f"u{stored.dtype.itemsize}") if stored.dtype.kind == "i" else stored
            pixels = scale_to_full_range(unsigned, min(layout.bits_stored, 8 * unsigned.dtype.itemsize))
        else:
            pixels = displayed(stored, file.header, frame, layout.bits_stored, file.notes)
        attributes = {name: value for name, value in _attributes(file).items() if value not in ("", 0)}
        attributes |= {"mode": layout.photometric, "bits": layout.bits_stored}
    if file.notes:
        attributes["notes"] = " ".join(dict.fromkeys(file.notes))
    return DecodedImage(np.ascontiguousarray(pixels), attributes)


def _attributes(file: OpenedFile) -> dict[str, Any]:
    texts = {keyword: text(file.header, keyword) for keyword in ATTRIBUTES}
    return texts | {keyword: integer(file.header, keyword) or 0 for keyword in _NUMBERS}


class _Layout:
    """How the pixel data is laid out: what the header declares, mended where it contradicts the data."""

    def __init__(self, file: OpenedFile) -> None:
        self.file = file
        self.header = header = file.header
        modality = text(header, "Modality")
        if not file.keyword:
            kind = f" (modality {modality})" if modality else ""
            raise UnreadableImage(file.path, f"it is a DICOM object without pixel data{kind}, not an image.")
        self.rows, self.columns = self._required("Rows"), self._required("Columns")
        check_size(file.path, self.rows, self.columns)
        self.samples = integer(header, "SamplesPerPixel") or 1
        if self.samples not in (1, 3):
            raise UnreadableImage(
                file.path, f"it declares {self.samples} samples per pixel; 1 or 3 can be read."
            )
        self.photometric = self._photometric()
        self._bits()
        self.transfer_syntax = self._transfer_syntax()
        self.decoder = self._decoder()
        self._check_colour()
        self.frames = self._count_frames()

    def _required(self, keyword: str) -> int:
        value = integer(self.header, keyword)
        if value is None:
            raise UnreadableImage(self.file.path, f"its DICOM element {keyword} is missing or no number.")
        return value

    def _photometric(self) -> str:
        declared = text(self.header, "PhotometricInterpretation").upper().replace("_COLOR", " COLOR")
        known = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR") if self.samples == 1 else _COLOUR
        if declared in known:
            return declared
        if declared.startswith("YBR_PARTIAL") or declared in ("HSV", "ARGB", "CMYK"):
            raise UnreadableImage(
                self.file.path, f"its photometric interpretation {declared} is not supported."
            )
        assumed = "MONOCHROME2" if self.samples == 1 else "RGB"
        if declared:
            odd = f"Its photometric interpretation {declared!r} does not fit {self.samples} samples per pixel"
        else:
            odd = "Its photometric interpretation is missing"
        self.file.notes.append(f"{odd} and was taken as {assumed}.")
        return assumed

    def _bits(self) -> None:
        """Set bits allocated and stored, and the shift of values that don't begin at the lowest bit."""
        if self.file.keyword != "PixelData":
            self.bits_allocated = self.bits_stored = 32 if self.file.keyword == "FloatPixelData" else 64
            self.shift = self.signed = 0
            return
        self.bits_allocated = self._required("BitsAllocated")
        if self.bits_allocated not in (1, 8, 16, 32):
            raise UnreadableImage(
                self.file.path,
                f"it has {self.bits_allocated} bits allocated per pixel; 1, 8, 16 or 32 can be read.",
            )
        stored = integer(self.header, "BitsStored")
        if stored is None or not 1 <= stored <= self.bits_allocated:
            self.file.notes.append(f"Its bits stored ({stored}) were taken as {self.bits_allocated}.")
            stored = self.bits_allocated
        self.bits_stored = stored
        high = integer(self.header, "HighBit")
        self.shift = high + 1 - stored if high is not None and stored <= high < self.bits_allocated else 0
        signed = integer(self.header, "PixelRepresentation")
        if signed not in (0, 1):
            self.file.notes.append(
                "Its pixel representation is missing or invalid and was taken as unsigned."
            )
        self.signed = int(signed == 1)

    def _transfer_syntax(self) -> UID:
        file = self.file
        file.stream.seek(file.start)
        encapsulated = file.length == UNDEFINED_LENGTH or file.stream.read(4) == _ITEM
        declared = (
            UID(text(file.header.file_meta, "TransferSyntaxUID"))
            if hasattr(file.header, "file_meta")
            else UID("")
        )
        if encapsulated:
            if declared.is_transfer_syntax and declared.is_encapsulated:
                return declared
            file.stream.seek(file.start)
            guessed = syntax_of(next(iter(list(fragments(file.stream, 2))[1:]), b""))
            if guessed is None:
                raise UnreadableImage(
                    file.path, "its pixels are compressed, and its transfer syntax does not say how."
                )
            file.notes.append(f"Its transfer syntax {declared or '(missing)'} was taken as {guessed.name}.")
            return guessed
        implicit, little = file.header.original_encoding
        native = (
            ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        )
        if not declared:
            file.notes.append(f"Its transfer syntax is missing; it was read as {native.name}.")
        elif declared.is_private or not declared.is_transfer_syntax:
            raise UnreadableImage(file.path, f"its transfer syntax {declared} is not supported.")
        elif declared.is_encapsulated:
            file.notes.append(f"Its transfer syntax says {declared.name}, but its pixels are not compressed.")
        return native

    def _decoder(self) -> Decoder:
        try:
            decoder = get_decoder(self.transfer_syntax)
        except NotImplementedError:
            decoder = None
        if decoder is None or not decoder.is_available:
            name = self.transfer_syntax.name
            raise UnreadableImage(self.file.path, f"its compression ({name}) is not supported.")
        return decoder

    def _check_colour(self) -> None:
        if not self.decoder.is_native:
            return
        if self.photometric in ("YBR_RCT", "YBR_ICT"):
            raise UnreadableImage(
                self.file.path, f"its colours are {self.photometric}, which only JPEG 2000 can have."
            )
        whole = (
            self.rows
            * self.columns
            * 3
            * self.bits_allocated
            // 8
            * (integer(self.header, "NumberOfFrames") or 1)
        )
        if self.photometric == "YBR_FULL_422" and self.file.available >= whole:
            self.file.notes.append("Its colours are declared as YBR_FULL_422, but none are left out.")
            self.photometric = "YBR_FULL"

    @property
    def frame_bits(self) -> int:
        """Bits that a frame takes when it is not compressed."""
        bits = self.rows * self.columns * self.samples * self.bits_allocated
        return bits // 3 * 2 if self.photometric == "YBR_FULL_422" and self.decoder.is_native else bits

    def _count_frames(self) -> int:
        file = self.file
        declared = integer(self.header, "NumberOfFrames")
        if self.decoder.is_native:
            there = file.available * 8 // self.frame_bits
        else:
            file.stream.seek(file.start)
            # The first is the offset table; every frame has a fragment of its own (PS3.5 A.4).
            there = sum(1 for _ in fragments(file.stream, (declared or 1) + 1)) - 1
        if declared is None or declared < 1:
            if "NumberOfFrames" in self.header:
                file.notes.append(
                    "Its number of frames is invalid and was found from the length of its pixel data."
                )
                return self._checked(there)
            return self._checked(min(there, 1))
        if there < declared:
            file.notes.append(f"It declares {declared:,} frames and has {max(there, 0):,}.")
        return self._checked(min(there, declared))

    def _checked(self, frames: int) -> int:
        if frames < 1:
            raise UnreadableImage(
                self.file.path,
                f"it is truncated: its pixel data has {self.file.available:,} bytes, "
                + (
                    "less than one frame."
                    if not self.decoder.is_native
                    else f"a frame {-(-self.frame_bits // 8):,}."
                ),
            )
        return frames

    def read(self, frame: int) -> np.ndarray:
        """Return the stored values of one frame, (H, W), or (H, W, 3) in RGB."""
        source, index, frames = self._bytes(frame)
        if self.transfer_syntax == JPEGExtended12Bit and self.samples == 1 and self.bits_stored > 8:
            coded = get_frame(source, 0, number_of_frames=1)
            pixels = decode_12_bit_jpeg(coded, self.rows, self.columns)
            unused = 16 - self.bits_stored
            return (pixels << unused).view(np.int16) >> unused if self.signed else pixels
        options: dict[str, Any] = {
            "rows": self.rows,
            "columns": self.columns,
            "samples_per_pixel": self.samples,
            "photometric_interpretation": self.photometric,
            "number_of_frames": frames,
            "bits_allocated": self.bits_allocated,
            "bits_stored": self.bits_stored + self.shift,
            "pixel_representation": self.signed,
            "planar_configuration": int(integer(self.header, "PlanarConfiguration") == 1),
            "pixel_keyword": self.file.keyword,
            "pixel_vr": self.file.value_representation or "OW",
        }
        pixels, _ = self.decoder.as_array(source, index=index, **options)
        return pixels >> self.shift if self.shift else pixels

    def _bytes(self, frame: int) -> tuple[bytes, int, int]:
        """Read the bytes that a frame is decoded from; return them, its index in them, and how many they hold."""
        stream, start = self.file.stream, self.file.start
        if not self.decoder.is_native:
            stream.seek(start)
            offsets = self._extended_offsets()
            coded = get_frame(stream, frame, number_of_frames=self.frames, extended_offsets=offsets)  # type: ignore[arg-type]
            check_coded(self.file.path, coded, self.transfer_syntax, self.rows, self.columns)
            return encapsulate([coded]), 0, 1
        size, rest = divmod(self.frame_bits, 8)
        if self.transfer_syntax == ExplicitVRBigEndian:
            # Bytes may be swapped in pairs across the borders of frames.
            stream.seek(start)
            return stream.read(-(-self.frame_bits * self.frames // 16) * 2), frame, self.frames
        if rest:  # frames of one bit a pixel that share bytes: cut this one out, aligned
            first, shift = divmod(frame * self.frame_bits, 8)
            stream.seek(start + first)
            packed = np.frombuffer(stream.read(size + 2), np.uint8)
            bits = np.unpackbits(packed, bitorder="little")[shift : shift + self.frame_bits]
            content = np.packbits(bits, bitorder="little").tobytes()
            return content + b"\0" * (len(content) % 2), 0, 1
        stream.seek(start + frame * size)
        return stream.read(size) + b"\0" * (size % 2), 0, 1

    def _extended_offsets(self) -> tuple[bytes, bytes] | None:
        table, lengths = self.header.get("ExtendedOffsetTable"), self.header.get("ExtendedOffsetTableLengths")
        return (table, lengths) if table and lengths else None
