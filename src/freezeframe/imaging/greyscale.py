"""From stored values to what is meant to be seen: modality LUT, VOI LUT or window, polarity (PS3.3 C.11)."""

import numpy as np
from pydicom.dataset import Dataset

from freezeframe.imaging.header import first_item, integer, number, text
from freezeframe.imaging.image import scale_to_full_range


def displayed(stored: np.ndarray, header: Dataset, frame: int, bits: int, notes: list[str]) -> np.ndarray:
    """Turn the stored values of a grey frame into an image with 0 = black.

    Unsigned values of up to 8 bits without rescale, LUT and window are taken as they are, as viewers do. Else the
    first VOI LUT or window applies; without any, the least and the greatest value that is not padding become black
    and white. Padding is black.

    Parameters
    ----------
    stored : ndarray (H, W)
        Integers or floating point numbers, as stored.
    header : Dataset
        Elements that say what the values mean.
    frame : int
        Frame that the values are of, for enhanced multi-frame objects.
    bits : int
        Bits stored.
    notes : list of str
        Gets a sentence for each element that was not used because it makes no sense.

    Returns
    -------
    ndarray (H, W)
        uint8 in the case of unsigned values of up to 8 bits taken as they are, else uint16; full range.
    """
    inverse = text(header, "PhotometricInterpretation").upper() == "MONOCHROME1"
    # In a DX image INVERSE goes with MONOCHROME1 and says the same once more (PS3.3 C.8.11.3): not a second inversion.
    inverse |= text(header, "PresentationLUTShape").upper() == "INVERSE"
    if stored.dtype.kind == "f":
        values, index = stored.astype(np.float64), None
    else:
        # All arithmetic is done once a value instead of once a pixel where there are fewer values than pixels.
        low, high = int(stored.min()), int(stored.max())
        few = high - low < min(65536, stored.size)
        values = np.arange(low, high + 1, dtype=np.float64) if few else stored.astype(np.float64)
        index = np.subtract(stored, low, dtype=np.int64).astype(np.intp) if few else None
    present = _present(values, index)
    padding = _padding(values, header, bits) | ~np.isfinite(values)
    meaning = _modality(values, header, frame, notes)
    shown = _values_of_interest(meaning, header, frame, present, notes)
    if shown is None:
        if meaning is values and stored.dtype.kind == "u" and bits <= 8 and not (padding & present).any():
            pixels = scale_to_full_range(stored, bits)
            return np.iinfo(pixels.dtype).max - pixels if inverse else pixels
        sensible = meaning[present & ~padding] if (present & ~padding).any() else np.zeros(1)
        least, greatest = sensible.min(), sensible.max()
        # A frame of one value has nothing to show; as black, or as white if inverted, it would look like content.
        shown = (meaning - least) / (greatest - least) if greatest > least else np.zeros_like(meaning)
        inverse &= bool(greatest > least)
    if inverse:
        shown = 1 - shown
    shown = np.where(padding, 0, np.clip(np.nan_to_num(shown), 0, 1))
    pixels = np.rint(shown * 65535).astype(np.uint16)
    return pixels if index is None else pixels[index]


def _present(values: np.ndarray, index: np.ndarray | None) -> np.ndarray:
    if index is None:
        return np.ones(values.shape, bool)
    return np.bincount(index.ravel(), minlength=values.size) > 0


def _padding(values: np.ndarray, header: Dataset, bits: int) -> np.ndarray:
    """Mark the stored values that are padding (PS3.3 C.7.5.1.1.2)."""
    first = number(header, "PixelPaddingValue")
    if first is None:
        return np.zeros(values.shape, bool)
    last = number(header, "PixelPaddingRangeLimit", first)
    bounds = [first, first if last is None else last]
    if integer(header, "PixelRepresentation") == 1:  # often written as the unsigned number with the same bits
        bounds = [bound - 2**bits if bound >= 2 ** (bits - 1) else bound for bound in bounds]
    return (values >= min(bounds)) & (values <= max(bounds))


def _modality(values: np.ndarray, header: Dataset, frame: int, notes: list[str]) -> np.ndarray:
    """Apply the modality LUT or the rescale (PS3.3 C.11.1); the same array where there is neither."""
    table = first_item(header, "ModalityLUTSequence")
    if table is not None:
        mapped = _look_up(values, table)
        if mapped is not None:
            return mapped[0]
        notes.append("Its modality LUT is damaged and was not applied.")
    holder = first_item(header, "PixelValueTransformationSequence", frame) or header
    slope, intercept = number(holder, "RescaleSlope", 1.0), number(holder, "RescaleIntercept", 0.0)
    if not slope:
        notes.append("Its rescale slope is 0 and was taken as 1.")
        slope = 1.0
    return values if (slope, intercept) == (1, 0) else values * slope + (intercept or 0.0)


def _values_of_interest(
    values: np.ndarray, header: Dataset, frame: int, present: np.ndarray, notes: list[str]
) -> np.ndarray | None:
    """Apply the first VOI LUT, else the first window (PS3.3 C.11.2); None where there is none that shows anything."""
    several = values[present].size and np.ptp(values[present][np.isfinite(values[present])], axis=None) > 0
    table = first_item(header, "VOILUTSequence")
    if table is not None:
        mapped = _look_up(values, table)
        if mapped is not None:
            output, full = mapped
            if not several or np.ptp(output[present]) > 0:
                return output / full
        notes.append("Its VOI LUT is damaged or shows nothing and was not applied.")
    holder = first_item(header, "FrameVOILUTSequence", frame) or header
    center, width = number(holder, "WindowCenter"), number(holder, "WindowWidth")
    if center is None or width is None:
        return None
    function = text(holder, "VOILUTFunction").upper() or "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        notes.append(f"Its VOI LUT function {function!r} is unknown and was taken as LINEAR.")
        function = "LINEAR"
    if width >= (1 if function == "LINEAR" else np.finfo(float).tiny):
        output = window(values, center, width, function)
        if not several or np.ptp(output[present]) > 0:
            return output
    notes.append(f"Its window (centre {center:g}, width {width:g}) shows nothing and was not applied.")
    return None


def window(values: np.ndarray, center: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """Apply a window (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    Parameters
    ----------
    values : ndarray
        After the modality LUT, any shape.
    center, width : float
        Window Center and Window Width; the width at least 1 for LINEAR, above 0 else.
    function : {'LINEAR', 'LINEAR_EXACT', 'SIGMOID'}
        VOI LUT Function.

    Returns
    -------
    ndarray of float64
        From 0 to 1.
    """
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0, 1)
    center, width = center - 0.5, width - 1
    if width == 0:
        return (values > center).astype(np.float64)
    return np.clip((values - center) / width + 0.5, 0, 1)


def _look_up(values: np.ndarray, item: Dataset) -> tuple[np.ndarray, float] | None:
    """Map values through a LUT item; return them with the greatest output, or None if the table is damaged."""
    try:
        entries, first, bits = (int(part) for part in item["LUTDescriptor"].value)
        data = item["LUTData"].value
    except Exception:  # missing, or not three numbers and a table
        return None
    entries = entries or 65536  # 0 stands for 2**16, which the element has no room for
    if isinstance(data, bytes):
        narrow = len(data) < 2 * entries  # 8-bit entries, packed
        table = np.frombuffer(data[: len(data) // 2 * 2], "<u1" if narrow else "<u2").astype(np.float64)
    else:
        table = np.atleast_1d(np.asarray(data, np.float64)) % 65536
    if not 1 <= entries <= table.size:
        return None
    table = table[:entries]
    full = 2.0 ** min(max(bits, 1), 16) - 1
    # Some devices declare 16 bits for a table of 12: the image would come out all but black.
    if table.max() > full or table.max() < full / 4:
        full = max(table.max(), 1.0)
    if first >= 32768 and values.min() < 0:
        first -= 65536  # written as unsigned, meant as signed
    position = np.clip(np.nan_to_num(values) - first, 0, entries - 1)
    return table[np.rint(position).astype(np.intp)], full
