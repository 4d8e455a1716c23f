"""The grey pipeline of PS3.3 C.11 on values worked out by hand, and against pydicom's own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_windowing
from pydicom.sequence import Sequence

from freezeframe.imaging.greyscale import displayed, window

STORED = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def header(**elements: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in {
        "PhotometricInterpretation": "MONOCHROME2",
        "PixelRepresentation": 0,
        **elements,
    }.items():
        setattr(dataset, keyword, value)
    return dataset


def show(stored: np.ndarray = STORED, bits: int = 12, **elements: object) -> np.ndarray:
    return displayed(stored, header(**elements), 0, bits, [])


def notes_of(stored: np.ndarray = STORED, **elements: object) -> str:
    notes: list[str] = []
    displayed(stored, header(**elements), 0, 12, notes)
    return " ".join(notes)


def table(first: int, bits: int, data: list[int], entries: int | None = None) -> Sequence:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(data) if entries is None else entries, first, bits])
    item.add_new("LUTData", "US", data)
    return Sequence([item])


@given(
    center=st.floats(-500, 5000),
    width=st.floats(20, 5000),
    function=st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)
def test_windows_agree_with_pydicom(center: float, width: float, function: str):
    dataset = header(WindowCenter=f"{center:.4f}", WindowWidth=f"{width:.4f}", VOILUTFunction=function)
    dataset.BitsStored, dataset.BitsAllocated = 12, 16
    expected = apply_windowing(STORED, dataset) / 4095
    ours = window(STORED.astype(float), float(f"{center:.4f}"), float(f"{width:.4f}"), function)
    np.testing.assert_allclose(ours, expected, atol=1e-9)


def test_a_linear_window_has_the_values_of_the_standard():
    # PS3.3 C.11.2.1.2.1, note 2: centre 2048, width 4096 maps 0..4095 to the whole range.
    assert window(np.array([0.0, 4095.0]), 2048, 4096).tolist() == [0, 1]
    np.testing.assert_allclose(window(np.array([47.0, 49.5, 52.0]), 50, 6), [0, 0.5, 1])


def test_a_width_of_one_is_a_threshold():
    shown = show(WindowCenter=2048, WindowWidth=1)
    np.testing.assert_array_equal(shown, np.where(STORED > 2047, 65535, 0))


@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": 2000, "WindowWidth": 0},
        {"WindowCenter": 2000, "WindowWidth": -5},
        {"WindowCenter": 60000, "WindowWidth": 10},
        {"VOILUTSequence": table(0, 16, [1, 2, 3], entries=9)},
        {"VOILUTSequence": table(0, 16, [7] * 4096)},
    ],
)
def test_what_shows_nothing_is_not_applied_and_said(elements: dict[str, object]):
    np.testing.assert_array_equal(show(**elements), show())
    assert "not applied" in notes_of(**elements)


def test_without_a_window_the_least_and_greatest_become_black_and_white():
    shown = show(STORED[:32] + np.uint16(100))
    assert (shown.min(), shown.max(), shown.dtype) == (0, 65535, np.uint16)


def test_padding_is_black_and_does_not_count():
    stored = STORED.copy()
    stored[0, :4] = 60000
    shown = show(stored, bits=16, PixelPaddingValue=60000, PhotometricInterpretation="MONOCHROME1")
    assert shown[0, :4].tolist() == [0, 0, 0, 0]
    assert shown[0, 4] == 65535
    assert shown[-1, -1] == 0


def test_a_range_of_padding_written_as_unsigned_is_understood():
    stored = np.array([[-2000, -1990, 0, 100]], np.int16)
    shown = show(stored, 16, PixelRepresentation=1, PixelPaddingValue=63536, PixelPaddingRangeLimit=63546)
    assert shown.tolist() == [[0, 0, 0, 65535]]


def test_eight_bits_without_window_are_as_stored():
    stored = np.array([[10, 20], [30, 200]], np.uint8)
    np.testing.assert_array_equal(show(stored, 8), stored)
    np.testing.assert_array_equal(show(stored, 8, PhotometricInterpretation="MONOCHROME1"), 255 - stored)


def test_one_bit_is_black_and_white():
    assert show(np.array([[0, 1]], np.uint8), 1).tolist() == [[0, 255]]


def test_monochrome1_and_inverse_say_the_same():
    once = show(PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(once, 65535 - show())
    np.testing.assert_array_equal(
        show(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE"), once
    )
    np.testing.assert_array_equal(show(PresentationLUTShape="INVERSE"), once)


def test_the_window_is_in_rescaled_units():
    shown = show(RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=0.5, WindowWidth=1001)
    np.testing.assert_array_equal(shown, np.rint(np.clip((STORED * 2.0 - 1000) / 1000 + 0.5, 0, 1) * 65535))


def test_a_slope_of_zero_or_a_missing_intercept_is_mended():
    np.testing.assert_array_equal(show(RescaleSlope=0, RescaleIntercept=0), show())
    np.testing.assert_array_equal(
        show(RescaleSlope=2, WindowCenter=2000, WindowWidth=100),
        show(RescaleSlope=2, RescaleIntercept=0, WindowCenter=2000, WindowWidth=100),
    )
    assert "slope is 0" in notes_of(RescaleSlope=0)


def test_only_the_first_of_several_windows_applies():
    np.testing.assert_array_equal(
        show(WindowCenter=[500, 2000], WindowWidth=[100, 400]), show(WindowCenter=500, WindowWidth=100)
    )


def test_a_lookup_table_of_65536_entries_is_declared_as_0():
    stored = np.array([[0, 1, 65535]], np.uint16)
    data = list(range(65535, -1, -1))
    assert show(stored, 16, VOILUTSequence=table(0, 16, data, entries=0)).tolist() == [[65535, 65534, 0]]


def test_a_lookup_table_clips_outside_its_range():
    stored = np.array([[0, 9, 10, 11, 12, 4000]], np.uint16)
    shown = show(stored, 12, VOILUTSequence=table(10, 8, [0, 51, 255]))
    assert shown.tolist() == [[0, 0, 0, 13107, 65535, 65535]]


def test_a_table_of_12_bits_declared_as_16_is_not_dark():
    shown = show(VOILUTSequence=table(0, 16, list(range(4096))))
    assert shown.max() == 65535


def test_a_lookup_table_comes_before_a_window():
    both = show(VOILUTSequence=table(0, 12, list(range(4095, -1, -1))), WindowCenter=5, WindowWidth=10)
    np.testing.assert_array_equal(both, 65535 - show())


def test_a_modality_table_precedes_the_window():
    shown = show(
        ModalityLUTSequence=table(0, 16, [value * 2 for value in range(4096)]),
        WindowCenter=4096,
        WindowWidth=8192,
    )
    np.testing.assert_array_equal(shown, np.rint(np.clip((STORED * 2.0 - 4095.5) / 8191 + 0.5, 0, 1) * 65535))


def test_each_frame_of_an_enhanced_object_has_its_window():
    frames = []
    for center in (1000, 3000):
        item, group = Dataset(), Dataset()
        item.WindowCenter, item.WindowWidth = center, 500
        group.FrameVOILUTSequence = Sequence([item])
        frames.append(group)
    dataset = header(PerFrameFunctionalGroupsSequence=Sequence(frames))
    np.testing.assert_array_equal(
        displayed(STORED, dataset, 1, 12, []), show(WindowCenter=3000, WindowWidth=500)
    )


def test_floating_point_with_holes_is_shown():
    stored = np.array([[np.nan, 1.5, 2.5, np.inf]], np.float32)
    assert show(stored, 32).tolist() == [[0, 0, 65535, 0]]


def test_an_image_of_one_value_is_black():
    assert not show(np.full((4, 4), 77, np.uint16), PhotometricInterpretation="MONOCHROME1").any()
