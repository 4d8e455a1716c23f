"""From the images of a job to what a bundle says of the study, through real decoder processes."""

import contextlib
import os
import signal
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pytest
from films import SYNTAXES, claim_on, encoded, make, radiograph, write
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian

from freezeframe.pacs.reading.findings import StudyReading
from freezeframe.pacs.reading.study_reader import DELETED, BundleReader, open_readers, without_quotes


@pytest.fixture(scope="module")
def reader(small_bundle, tmp_path_factory, configure):
    readers = open_readers(configure(tmp_path_factory.mktemp("node"), small_bundle), 1)
    with closing(readers["default"]) as opened:
        yield opened


@pytest.fixture
def impatient(small_bundle, tmp_path, configure):
    """A reader whose decoder has two seconds and a gigabyte for a file, and has started."""
    limits = {"seconds": 4, "memory_gigabytes": 1}
    readers = open_readers(configure(tmp_path / "node", small_bundle, limits=limits), 1)
    with closing(readers["default"]) as opened:
        opened.warm_up()
        yield opened


def decoders() -> list[int]:
    """Process ids of all decoders of this process that are alive."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            alive = child.status() != psutil.STATUS_ZOMBIE
            if alive and "worker_process" in " ".join(child.cmdline()):
                found.append(child.pid)
    return found


def has_ended(process_id: int) -> bool:
    """Whether a process has let go of its files."""
    try:
        return psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def reasons(reading: StudyReading) -> dict[str, str]:
    """Why images were not read, by the last component of their UIDs."""
    return {uid.rpartition(".")[2]: reason for uid, reason in reading.unreadable}


def probability(reader: BundleReader, folder: Path, name: str) -> float:
    found = reader.read(claim_on(name), folder).probability
    assert found is not None
    return found


@pytest.fixture(scope="module")
def as_it_was(reader, tmp_path_factory) -> float:
    folder = tmp_path_factory.mktemp("films")
    encoded(radiograph(3), folder / "a.dcm", "raw", "MONOCHROME2", 12)
    encoded(radiograph(4), folder / "b.dcm", "raw", "MONOCHROME2", 12)
    first = probability(reader, folder, "a.dcm")
    assert abs(first - probability(reader, folder, "b.dcm")) > 0.01, "other images have other probabilities"
    return first


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("bits", [12, 16])
def test_one_image_has_the_same_probability_in_every_encoding(
    reader, as_it_was, tmp_path, syntax, photometric, bits
):
    encoded(radiograph(3), tmp_path / "a.dcm", syntax, photometric, bits)
    assert probability(reader, tmp_path, "a.dcm") == pytest.approx(as_it_was, abs=1e-3)


def test_a_study_is_as_positive_as_its_most_positive_image(reader, tmp_path):
    names = [f"{seed}.dcm" for seed in range(5)]
    for seed, name in enumerate(names):
        write(make(radiograph(seed)), tmp_path / name)
    alone = [probability(reader, tmp_path, name) for name in names]
    reading = reader.read(claim_on(*names), tmp_path)
    assert reading.probability == pytest.approx(max(alone), abs=1e-5)
    found = [image.probabilities["PNEUMONIA"] for image in reading.images]
    assert found == sorted(found, reverse=True)
    assert sorted(found) == pytest.approx(sorted(alone), abs=1e-5)
    assert reading.outcome == ("positive" if max(alone) >= 0.5 else "negative")
    assert [image.positive for image in reading.images] == [value >= 0.5 for value in found]


def test_a_reading_names_the_bundle_and_its_members_and_survives_json(reader, small_bundle, tmp_path):
    write(make(radiograph(1)), tmp_path / "a.dcm")
    reading = reader.read(claim_on("a.dcm", version=3), tmp_path)
    assert (reading.version, reading.model.operating_point, reading.model.threshold) == (3, "youden", 0.5)
    assert reading.model.sha256 == reader.predictor.bundle.sha256
    (image,) = reading.images
    assert set(image.members) == {"member0", "member1"}
    assert all(sum(own.values()) == pytest.approx(1) for own in image.members.values())
    assert set(image.inputs) == {"mean", "standard deviation", "border"}
    assert all(0 <= value <= 1 for value in image.inputs.values())
    assert StudyReading.from_dict(reading.to_dict()) == reading


def test_without_an_operating_point_every_class_but_the_first_is_positive(
    dark_is_nothing, tmp_path, configure
):
    for seed in range(8):
        write(make(radiograph(seed)), tmp_path / f"{seed}.dcm")
    with closing(open_readers(configure(tmp_path / "node", dark_is_nothing), 1)["default"]) as opened:
        reading = opened.read(claim_on(*(f"{seed}.dcm" for seed in range(8))), tmp_path)
    assert reading.probability is None
    assert all(image.positive == (image.decision == "PNEUMONIA") for image in reading.images)
    assert all(image.spread is None for image in reading.images)
    assert reading.outcome == ("positive" if any(image.positive for image in reading.images) else "negative")


def test_a_heat_map_lies_in_the_frame_of_the_original_image(dark_is_nothing, tmp_path, configure):
    rows, columns = 600, 1200
    down, across = np.mgrid[:rows, :columns]
    spot = np.exp(-((down - 450) ** 2 + (across - 300) ** 2) / (2 * 60.0**2))
    write(make(np.rint(spot * 4095).astype(np.uint16)), tmp_path / "a.dcm")
    with closing(open_readers(configure(tmp_path / "node", dark_is_nothing), 1)["default"]) as opened:
        (image,) = opened.read(claim_on("a.dcm"), tmp_path).images
    assert (image.rows, image.columns) == (rows, columns)
    assert image.heat_map is not None
    with Image.open(tmp_path / image.heat_map) as picture:
        assert (picture.mode, picture.size) == ("L", (512, 256))
        heat = np.asarray(picture)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert abs(row * rows / 256 - 450) < 60
    assert abs(column * columns / 512 - 300) < 60
    assert image.region is not None
    middle = np.array(image.region.points[:-1]).mean(axis=0)
    assert np.abs(middle - [300, 450]).max() < 60


def test_every_frame_of_a_file_is_read_up_to_eight(reader, tmp_path):
    frames = np.stack([radiograph(seed) for seed in range(10)])
    write(make(frames[:3]), tmp_path / "three.dcm")
    write(make(frames), tmp_path / "ten.dcm")
    reading = reader.read(claim_on("three.dcm", "ten.dcm"), tmp_path)
    read = sorted((image.sop_instance_uid.rpartition(".")[2], image.frame) for image in reading.images)
    assert read == [("1", frame) for frame in range(3)] + [("2", frame) for frame in range(8)]
    assert reasons(reading) == {"2": "only the first 8 of its 10 frames were read."}
    assert len({image.heat_map for image in reading.images}) == 11


def test_a_large_study_is_read_in_parts(reader, tmp_path):
    for number in range(20):
        write(make(radiograph(number, 40, 32)), tmp_path / f"{number}.dcm")
    reading = reader.read(claim_on(*(f"{number}.dcm" for number in range(20))), tmp_path)
    assert len({image.sop_instance_uid for image in reading.images}) == 20


def test_a_study_of_which_nothing_can_be_read_is_refused(reader, tmp_path):
    (tmp_path / "text.dcm").write_text("This is no image.")
    report = make(radiograph(1))
    for keyword in ("Rows", "Columns", "PixelData"):
        delattr(report, keyword)
    write(report, tmp_path / "report.dcm")
    reading = reader.read(claim_on("text.dcm", "report.dcm", "missing.dcm", None), tmp_path)
    assert (reading.outcome, reading.probability, reading.images) == ("refused", None, ())
    assert set(reasons(reading)) == {"1", "2", "3", "4"}
    assert reasons(reading)["2"] == "it is a DICOM file without an image."
    assert reasons(reading)["4"] == DELETED


def deflated(path: Path, zeros: int) -> Path:
    """A file that is small, and whose data set is not: PS3.5, section A.5."""
    image = make(radiograph(1))
    del image.PixelData
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    content = write(image, path).read_bytes()
    # PS3.10, section 7.1: preamble, prefix, and the group's length, which counts what follows it.
    begins = 144 + int.from_bytes(content[140:144], "little")
    element = b"\xe0\x7f\x10\x00OW\0\0" + zeros.to_bytes(4, "little")
    press = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    parts = [press.compress(zlib.decompress(content[begins:], -zlib.MAX_WBITS) + element)]
    parts += [press.compress(bytes(2**24)) for _ in range(zeros // 2**24)]
    path.write_bytes(content[:begins] + b"".join(parts) + press.flush())
    return path


def test_decompression_bombs_cost_that_image_only(impatient, tmp_path):
    write(make(radiograph(1)), tmp_path / "good.dcm")
    write(make(radiograph(1), Rows=65535, Columns=65535), tmp_path / "declared.dcm")
    bomb = deflated(tmp_path / "deflated.dcm", 2**31)
    assert bomb.stat().st_size < 2**24
    reading = impatient.read(claim_on("declared.dcm", "deflated.dcm", "good.dcm"), tmp_path)
    assert [image.sop_instance_uid.rpartition(".")[2] for image in reading.images] == ["3"]
    assert "65,535 x 65,535" in reasons(reading)["1"]
    assert "memory" in reasons(reading)["2"] or "longer than 2 s" in reasons(reading)["2"]


def test_a_file_that_hangs_its_decoder_costs_that_image_only(impatient, tmp_path):
    write(make(radiograph(1)), tmp_path / "good.dcm")
    os.mkfifo(tmp_path / "endless.dcm")  # nobody ever writes into it
    reading = impatient.read(claim_on("endless.dcm", "good.dcm"), tmp_path)
    assert reasons(reading) == {"1": "it took longer than 2 s to decode."}
    assert len(reading.images) == 1


def test_a_file_that_crashes_its_decoder_costs_that_image_only(reader, tmp_path):
    reader.warm_up()
    write(make(radiograph(1)), tmp_path / "good.dcm")
    os.mkfifo(tmp_path / "crash.dcm")

    def crash() -> None:  # whenever a decoder looks into the file
        for _ in range(2):
            with (tmp_path / "crash.dcm").open("wb"):
                for decoder in decoders():
                    os.kill(decoder, signal.SIGKILL)
                    until(lambda: has_ended(decoder))  # noqa: B023 - called at once

    thread = threading.Thread(target=crash)
    thread.start()
    reading = reader.read(claim_on("crash.dcm", "good.dcm"), tmp_path)
    thread.join(60)
    assert reasons(reading) == {"1": "it crashes its decoder (SIGKILL)."}
    assert len(reading.images) == 1


def test_a_decoder_that_was_replaced_reads_on(reader, tmp_path):
    write(make(radiograph(1)), tmp_path / "a.dcm")
    before = probability(reader, tmp_path, "a.dcm")
    reader.restart()
    assert probability(reader, tmp_path, "a.dcm") == before


@pytest.mark.parametrize(
    "reason",
    [
        "its DICOM data is damaged or not supported (ValueError: 'PHANTOM^0001'\nis no number).",
        "it failed with KeyError: PHANTOM^0001",
    ],
)
def test_a_reason_quotes_nothing_of_the_file(reason):
    assert "PHANTOM" not in without_quotes(reason)
    assert len(without_quotes(reason)) > 20
