"""Image files to arrays, in their full depth: JPEG, PNG, TIFF, WebP, BMP, and DICOM by its content."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# Pillow looks for TIFF and WebP among all its plugins only after these are imported (or after importing every one).
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError, WebPImagePlugin  # noqa: F401

from freezeframe.imaging.image import MAX_PIXELS, DecodedImage, UnreadableImage, check_size

__all__ = ["DecodedImage", "UnreadableImage", "count_frames", "decode", "is_dicom"]

# Only these: others, such as EPS, would start foreign programs.
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")
DICOM_SUFFIXES = ("", ".dcm", ".dicom", ".dic", ".ima")
_STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"II*\0", b"MM\0*", b"RIFF", b"BM")


def decode(path: Path, frame: int = 0) -> DecodedImage:
    """Decode one image, or one frame of a DICOM or TIFF file that holds several.

    Grey of 16 bits keeps its values, 1 bit becomes 0 and 255, palettes and CMYK become RGB, the EXIF orientation
    is applied, transparency is laid on black, and colour whose three channels are equal becomes grey. Colour and
    transparent images of 16 bits a channel are read with 8. Floating point in 0..1 becomes 0..65535, whole
    numbers in 0..65535 stay as they are. DICOM: see `freezeframe.imaging.dicom.decode`.

    Parameters
    ----------
    path : Path
        The file; what it is, is told by its content, not by its name.
    frame : int
        Which frame, from 0.

    Returns
    -------
    DecodedImage
        (H, W) or (H, W, 3), uint8 or uint16, 0 = black.

    Raises
    ------
    UnreadableImage
        With the reason: missing, empty, truncated, no image, or more pixels than `image.MAX_PIXELS`.
    """
    path = Path(path)
    if is_dicom(path):
        # Imported here because pydicom takes half a second, which a folder of JPEG files does not have to pay.
        from freezeframe.imaging import dicom

        return dicom.decode(path, frame)
    with _opened(path) as image:
        if not 0 <= frame < _pages(image):
            raise UnreadableImage(path, f"it has no frame {frame}: {_pages(image)} from 0 on.")
        image.seek(frame)
        check_size(path, image.height, image.width)
        image.load()
        with contextlib.suppress(Exception):  # broken EXIF data says nothing about the orientation
            image = ImageOps.exif_transpose(image)
        return DecodedImage(_to_array(path, image), {"mode": image.mode, "bits": _bits(image.mode)})


def count_frames(path: Path) -> int:
    """Count the frames of a DICOM or TIFF file without decoding any; other files have one.

    Raises
    ------
    UnreadableImage
        If the file is no image.
    """
    path = Path(path)
    if is_dicom(path):
        from freezeframe.imaging import dicom

        return dicom.count_frames(path)
    with _opened(path) as image:
        return _pages(image)


def is_dicom(path: Path) -> bool:
    """Tell whether a file is DICOM: by its 'DICM' mark, else by its first element and a fitting (or no) suffix.

    Raises
    ------
    UnreadableImage
        If the file can't be read or is empty.
    """
    try:
        with Path(path).open("rb") as handle:
            head = handle.read(132)
    except IsADirectoryError:
        raise UnreadableImage(path, "it is a folder, not an image.") from None
    except OSError as error:
        raise UnreadableImage(path, f"it can't be opened ({error.strerror or error}).") from error
    if not head:
        raise UnreadableImage(path, "it is empty (zero bytes).")
    if head[128:] == b"DICM":
        return True
    suffix = Path(path).suffix.lower()
    if head.startswith(_STARTS) or not (suffix in DICOM_SUFFIXES or suffix[1:].isdigit()):
        return False
    # Without preamble a data set begins with an element of group 2 (file meta) or 8 (identification).
    return len(head) >= 8 and (head[:2] in (b"\x02\0", b"\x08\0") or head[:2] in (b"\0\x02", b"\0\x08"))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about EXIF data and sizes: sizes are checked by `check_size`
            # From a path Pillow would map uncompressed files into memory, and get rotated TIFF files wrong.
            with path.open("rb") as handle, Image.open(handle, formats=FORMATS) as image:
                yield image
    except UnidentifiedImageError:
        raise UnreadableImage(path, f"it is no {', '.join(FORMATS)} or DICOM image.") from None
    except Image.DecompressionBombError:
        raise UnreadableImage(
            path, f"it declares far more than {MAX_PIXELS // 10**6} million pixels."
        ) from None
    except MemoryError:
        raise UnreadableImage(path, "there is not enough memory to decode it.") from None
    # Pillow's plugins raise what their parsers happen to meet: SyntaxError, struct.error, ValueError, EOFError ...
    except (OSError, SyntaxError, ValueError, ArithmeticError, LookupError, EOFError, TypeError) as error:
        raise UnreadableImage(path, f"it is damaged or truncated ({error}).") from error
    except Exception as error:
        if isinstance(error, UnreadableImage):
            raise
        raise UnreadableImage(path, f"it can't be decoded ({type(error).__name__}: {error}).") from error


def _pages(image: Image.Image) -> int:
    # Further pictures in other formats are previews or animation, not images of their own.
    return int(getattr(image, "n_frames", 1)) if image.format == "TIFF" else 1


def _bits(mode: str) -> int:
    return {"1": 1, "I": 32, "F": 32}.get(mode, 16 if mode.startswith("I;16") else 8)


def _to_array(path: Path, image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)  # to the machine's byte order
    if image.mode in ("I", "F"):
        return _from_wide(path, np.asarray(image))
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return np.array(image.convert("L"))
    if image.has_transparency_data:
        colour = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), colour)
    pixels = np.array(image.convert("RGB"))
    return np.ascontiguousarray(pixels[..., 0]) if _is_grey(pixels) else pixels


def _is_grey(pixels: np.ndarray) -> bool:
    # A look at every 16th row finds colour in nearly every colour image at a fraction of the cost.
    def equal(part: np.ndarray) -> bool:
        return bool((part[..., 0] == part[..., 1]).all() and (part[..., 0] == part[..., 2]).all())

    return equal(pixels[::16]) and equal(pixels)


def _from_wide(path: Path, pixels: np.ndarray) -> np.ndarray:
    low, high = float(pixels.min()), float(pixels.max())  # NaN in either where there is one
    if (
        low >= 0
        and high <= 65535
        and (pixels.dtype.kind in "iu" or (high > 1 and (pixels == np.rint(pixels)).all()))
    ):
        return pixels.astype(np.uint16)
    if pixels.dtype.kind == "f" and low >= 0 and high <= 1:
        return np.rint(pixels.astype(np.float64) * 65535).astype(np.uint16)
    raise UnreadableImage(
        path,
        f"its 32-bit pixels go from {low:g} to {high:g}, and what is black and white is not said; "
        "save it as 16-bit grey, or as floating point from 0 to 1.",
    )
