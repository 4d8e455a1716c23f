"""DICOM: the same image in every encoding, the shared files, and what must be refused."""

import csv
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openjpeg.utils import encode_array
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from freezeframe.imaging.decode import UnreadableImage, count_frames, decode
from freezeframe.imaging.dicom import read_header

ROWS, COLUMNS = 33, 45
RAMP_12 = (np.arange(ROWS * COLUMNS, dtype=np.uint16) * 2).reshape(ROWS, COLUMNS)
SYNTAXES = {
    "raw": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg-ls": JPEGLSLossless,
    "jpeg-2000": JPEG2000Lossless,
}


def make(pixels: np.ndarray, bits: int = 12, **elements: object) -> FileDataset:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        SecondaryCaptureImageStorage,
        generate_uid(),
    )
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    dataset.Modality, dataset.PatientID, dataset.ViewPosition = "DX", "P-7", "PA"
    colour = pixels.ndim >= 3 and pixels.shape[-1] == 3
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    dataset.SamplesPerPixel = 3 if colour else 1
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored = pixels.dtype.itemsize * 8, bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    dataset["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def save(dataset: FileDataset, path: Path, syntax: str = "raw") -> Path:
    uid = SYNTAXES[syntax]
    if uid == JPEG2000Lossless:
        frames = int(dataset.get("NumberOfFrames", 1))
        bits, signed = dataset.BitsAllocated // 8, "i" if dataset.PixelRepresentation else "u"
        shape = (frames, dataset.Rows, dataset.Columns, dataset.SamplesPerPixel)
        arrays = np.frombuffer(dataset.PixelData, f"{signed}{bits}", int(np.prod(shape))).reshape(shape)
        arrays = arrays[..., 0] if dataset.SamplesPerPixel == 1 else arrays
        codec = {"bits_stored": dataset.BitsStored, "use_mct": False}
        dataset.PixelData = encapsulate([encode_array(array, **codec) for array in arrays])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    elif uid.is_encapsulated:
        # GDCM aborts the process when it encodes RLE in colour.
        dataset.compress(
            uid, generate_instance_uid=False, encoding_plugin="pydicom" if uid == RLELossless else ""
        )
    elif uid == ExplicitVRBigEndian:
        size = dataset.BitsAllocated // 8
        dataset.PixelData = np.frombuffer(dataset.PixelData, f"<u{size}").astype(f">u{size}").tobytes()
    dataset.file_meta.TransferSyntaxUID = uid
    dcmwrite(
        path, dataset, implicit_vr=uid.is_implicit_VR, little_endian=uid.is_little_endian, overwrite=True
    )
    return path


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("bits", [12, 16])
def test_one_image_is_the_same_in_every_encoding(tmp_path: Path, syntax: str, photometric: str, bits: int):
    stored = RAMP_12 * np.uint16(2 ** (bits - 12))
    greatest = 2**bits - 1
    if photometric == "MONOCHROME1":
        stored = np.uint16(greatest) - stored
    dataset = make(
        stored, bits, PhotometricInterpretation=photometric, WindowCenter=2 ** (bits - 1), WindowWidth=2**bits
    )
    image = decode(save(dataset, tmp_path / "a.dcm", syntax))
    expected = np.rint(RAMP_12 * 2.0 ** (bits - 12) / greatest * 65535)
    assert image.pixels.dtype == np.uint16
    np.testing.assert_array_equal(image.pixels, expected)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_signed_values_are_the_same_in_every_encoding(tmp_path: Path, syntax: str):
    stored = RAMP_12.astype(np.int16) - 1024
    image = decode(save(make(stored, 16, RescaleSlope=1, RescaleIntercept=-1024), tmp_path / "a.dcm", syntax))
    np.testing.assert_array_equal(image.pixels, np.rint(RAMP_12 / RAMP_12.max() * 65535))


@pytest.mark.parametrize("syntax", ["raw", "implicit", "deflated", "rle", "jpeg-2000"])
def test_colour_and_its_frames_are_the_same_in_every_encoding(tmp_path: Path, syntax: str):
    frames = np.random.default_rng(0).integers(0, 256, (3, ROWS, COLUMNS, 3), np.uint8)
    path = save(make(frames, 8, NumberOfFrames=3), tmp_path / "a.dcm", syntax)
    assert count_frames(path) == 3
    for frame in range(3):
        np.testing.assert_array_equal(decode(path, frame).pixels, frames[frame])
    with pytest.raises(UnreadableImage, match="no frame 3"):
        decode(path, 3)


def test_one_bit_frames_that_share_bytes_are_separated(tmp_path: Path):
    frames = np.random.default_rng(0).integers(0, 2, (5, 7, 5), np.uint8)
    dataset = make(frames, 1, NumberOfFrames=5, BitsAllocated=1)
    packed = np.packbits(frames.ravel(), bitorder="little").tobytes()
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    path = save(dataset, tmp_path / "a.dcm")
    assert count_frames(path) == 5
    for frame in range(5):
        np.testing.assert_array_equal(decode(path, frame).pixels, frames[frame] * 255)


def test_values_that_lie_in_the_upper_bits_are_shifted(tmp_path: Path):
    elements = {"WindowCenter": 2048, "WindowWidth": 4096}
    shifted = make(RAMP_12 << 4, 12, HighBit=15, **elements)
    plain = decode(save(make(RAMP_12, 12, **elements), tmp_path / "plain.dcm")).pixels
    np.testing.assert_array_equal(decode(save(shifted, tmp_path / "shifted.dcm")).pixels, plain)


def test_32_bit_values_keep_their_order(tmp_path: Path):
    stored = RAMP_12.astype(np.uint32) * 100_000
    pixels = decode(save(make(stored, 32), tmp_path / "a.dcm")).pixels
    np.testing.assert_array_equal(pixels, np.rint(RAMP_12 / RAMP_12.max() * 65535))


def test_floating_point_pixel_data_is_read(tmp_path: Path):
    dataset = make(RAMP_12, 12)
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.BitsAllocated = 32
    dataset.FloatPixelData = (RAMP_12 / np.float32(7)).astype("<f4").tobytes()
    pixels = decode(save(dataset, tmp_path / "a.dcm")).pixels
    assert np.abs(pixels - RAMP_12 / RAMP_12.max() * 65535).max() <= 1


def test_ybr_and_planar_colour_become_rgb(tmp_path: Path):
    red = np.broadcast_to(np.array([76, 85, 255], np.uint8), (4, 4, 3))
    pixels = decode(save(make(red, 8, PhotometricInterpretation="YBR_FULL"), tmp_path / "ybr.dcm")).pixels
    assert np.abs(pixels.astype(int) - [255, 0, 0]).max() <= 2
    colour = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)
    dataset = make(colour, 8, PlanarConfiguration=1, PixelData=np.moveaxis(colour, 2, 0).tobytes())
    np.testing.assert_array_equal(decode(save(dataset, tmp_path / "planar.dcm")).pixels, colour)


def test_ybr_that_is_declared_as_subsampled_but_is_whole_is_read_as_it_is(tmp_path: Path):
    colour = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)
    whole = decode(save(make(colour, 8, PhotometricInterpretation="YBR_FULL"), tmp_path / "a.dcm"))
    declared = decode(save(make(colour, 8, PhotometricInterpretation="YBR_FULL_422"), tmp_path / "b.dcm"))
    np.testing.assert_array_equal(declared.pixels, whole.pixels)
    assert "none are left out" in declared.attributes["notes"]


def test_attributes_are_those_of_the_file(tmp_path: Path):
    path = save(make(RAMP_12, BodyPartExamined="CHEST", PatientAge="044Y"), tmp_path / "a.dcm")
    attributes = decode(path).attributes
    assert (attributes["Modality"], attributes["PatientID"], attributes["ViewPosition"]) == (
        "DX",
        "P-7",
        "PA",
    )
    assert (attributes["bits"], attributes["mode"], attributes["PatientAge"]) == (12, "MONOCHROME2", "044Y")
    header = read_header(path)
    assert header["SOPInstanceUID"] == attributes["SOPInstanceUID"]
    assert (header["AccessionNumber"], header["Rows"], header["has_pixels"]) == ("", ROWS, True)


@pytest.mark.parametrize("name", ["a.dcm", "a", "1.2.840.113619.2"])
@pytest.mark.parametrize("implicit", [True, False])
def test_a_data_set_without_preamble_and_meta_is_recognised(tmp_path: Path, name: str, implicit: bool):
    dataset = make(RAMP_12)
    with_meta = decode(save(dataset, tmp_path / "whole.dcm")).pixels
    bare = Dataset()
    bare.update(dataset)
    dcmwrite(tmp_path / name, bare, implicit_vr=implicit, little_endian=True, enforce_file_format=False)
    image = decode(tmp_path / name)
    np.testing.assert_array_equal(image.pixels, with_meta)
    assert "transfer syntax is missing" in image.attributes["notes"]


def test_compressed_pixels_without_transfer_syntax_are_recognised(tmp_path: Path):
    path = save(make(RAMP_12), tmp_path / "a.dcm", "jpeg-ls")
    expected = decode(path).pixels
    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(tmp_path / "wrong.dcm", enforce_file_format=False)
    image = decode(tmp_path / "wrong.dcm")
    np.testing.assert_array_equal(image.pixels, expected)
    assert "was taken as JPEG-LS" in image.attributes["notes"]


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"Rows": 65535, "Columns": 65535}, "million pixels"),
        ({"Rows": 0}, "0 pixels"),
        ({"Rows": ROWS * 2}, "truncated"),
        ({"BitsAllocated": 12}, "12 bits allocated"),
        ({"SamplesPerPixel": 4}, "4 samples per pixel"),
        ({"PhotometricInterpretation": "CMYK"}, "CMYK is not supported"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "damaged or not supported"),
    ],
)
def test_a_header_that_can_not_be_true_is_refused(tmp_path: Path, elements: dict[str, object], reason: str):
    path = save(make(RAMP_12, **elements), tmp_path / "a.dcm")
    with pytest.raises(UnreadableImage, match=reason) as caught:
        decode(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "elements", [{"BitsStored": 0}, {"BitsStored": 99}, {"PhotometricInterpretation": "RGB"}]
)
def test_a_header_that_can_be_mended_is_mended_and_said(tmp_path: Path, elements: dict[str, object]):
    image = decode(save(make(RAMP_12, **elements), tmp_path / "a.dcm"))
    np.testing.assert_array_equal(image.pixels, decode(save(make(RAMP_12), tmp_path / "b.dcm")).pixels)
    assert "taken as" in image.attributes["notes"]


@pytest.mark.parametrize("frames", ["0", "-3", "1A", "99999999"])
def test_a_wrong_number_of_frames_is_found_from_the_data(tmp_path: Path, frames: str):
    path = save(make(np.stack([RAMP_12, RAMP_12 // 2]), NumberOfFrames="12345678"), tmp_path / "a.dcm")
    content = path.read_bytes()
    assert content.count(b"12345678") == 1
    path.write_bytes(content.replace(b"12345678", frames.encode().ljust(8)))
    assert count_frames(path) == 2
    assert decode(path, 1).pixels.shape == (ROWS, COLUMNS)


@pytest.mark.parametrize("syntax", ["rle", "jpeg-ls", "jpeg-2000"])
def test_truncated_compressed_data_is_refused(tmp_path: Path, syntax: str):
    noise = np.random.default_rng(0).integers(0, 4096, (64, 64), np.uint16)
    path = save(make(noise), tmp_path / "a.dcm", syntax)
    dataset = dcmread(path)
    frame = dataset.PixelData[16:]  # after the empty offset table and the item's own header
    dataset.PixelData = encapsulate([frame[: len(frame) // 2]])
    dataset.save_as(tmp_path / "frame.dcm")
    (tmp_path / "file.dcm").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for name in ("frame.dcm", "file.dcm"):
        with pytest.raises(UnreadableImage):
            decode(tmp_path / name)


@pytest.mark.parametrize("syntax", ["jpeg-ls", "jpeg-2000"])
def test_a_compressed_size_that_is_not_the_headers_is_refused(tmp_path: Path, syntax: str):
    path = save(make(RAMP_12), tmp_path / "a.dcm", syntax)
    dataset = dcmread(path)
    dataset.Rows = 9
    dataset.save_as(path)
    with pytest.raises(UnreadableImage, match=f"45 x 9 pixels, its compressed data 45 x {ROWS}"):
        decode(path)


def test_a_file_without_meta_is_its_explicit_twin(shared_data: Path):
    folder = shared_data / "dicom" / "chest_cr"
    bare, whole = (
        decode(folder / "cr_mono1_10bit_no_file_meta.dcm"),
        decode(folder / "cr_mono1_10bit_explicit_le.dcm"),
    )
    np.testing.assert_array_equal(bare.pixels, whole.pixels)
    assert whole.pixels.std() > 5000


@pytest.mark.parametrize("name", ["RG3_JLSL", "RG3_JPLL", "RG3_RLE", "RG3_JPLY", "RG3_JLSN", "RG3_J2KI"])
def test_a_radiograph_is_the_same_in_every_compression(shared_data: Path, name: str):
    folder = shared_data / "dicom" / "cr_other"
    reference = decode(folder / "RG3_J2KR.dcm").pixels.astype(float)
    difference = np.abs(decode(folder / f"{name}.dcm").pixels - reference) / 65535
    if name in ("RG3_JLSL", "RG3_JPLL", "RG3_RLE"):
        assert difference.max() == 0
    else:  # lossy
        assert difference.mean() < 0.01
        assert difference.max() < 0.15


def test_every_shared_file_is_decoded_or_refused_by_name(shared_data: Path):
    folder = shared_data / "dicom"
    with (folder / "index.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    files = [row for row in rows if (folder / row["file"]).is_file()]
    assert len(files) >= 99
    refused = {}
    for row in files:
        path = folder / row["file"]
        try:
            image = decode(path)
        except UnreadableImage as error:
            refused[path] = (str(error), row["decode"])
            continue
        assert image.pixels.dtype in (np.uint8, np.uint16)
        assert image.pixels.shape[:2] == (int(row["rows"]), int(row["columns"]))
        assert np.ptp(image.pixels) > 0, f"{path} came out as one value"
    for path, (message, other_decoder) in refused.items():
        assert message.startswith(f"{path}: ")
        assert other_decoder != "ok", message


@settings(deadline=None, max_examples=100)
@given(
    damage=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
    cut=st.floats(0.05, 1),
)
def test_a_damaged_file_is_decoded_or_refused(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, int]], cut: float
):
    path = save(
        make(RAMP_12, WindowCenter=2048, WindowWidth=4096), tmp_path_factory.getbasetemp() / "damaged.dcm"
    )
    content = bytearray(path.read_bytes())
    for position, value in damage:
        content[position % min(len(content), 1200)] = value  # the header; in the pixels anything goes
    path.write_bytes(content[: int(len(content) * cut)])
    try:
        pixels = decode(path).pixels
    except UnreadableImage:
        return
    assert pixels.dtype in (np.uint8, np.uint16)
