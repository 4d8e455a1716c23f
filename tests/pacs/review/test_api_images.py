import contextlib
import io
import math
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image as Picture
from pydicom.uid import RLELossless
from small_images import COLUMNS, ROWS, make_image, write
from sqlalchemy import select

from freezeframe.errors import FreezeframeError
from freezeframe.imaging.decode import decode
from freezeframe.imaging.image import UnreadableImage
from freezeframe.pacs.review import decoder as decoding
from freezeframe.pacs.review.decoder import Decoder
from freezeframe.pacs.security import audit
from freezeframe.pacs.tables import AuditEntry, Image, Result

NOW = 1_790_000_000.0


@dataclass
class Imaged:
    """A study with one image in a node."""

    node: Any
    result: int
    study: str

    @property
    def uid(self) -> str:
        return f"{self.study}.1"

    @property
    def path(self) -> Path:
        return self.node.folder / f"images/{self.study}/{self.uid}.dcm"

    def get(self, rest: str = "") -> Any:
        return self.node.client.get(f"/api/images/{self.uid}{rest}")


@pytest.fixture(scope="module")
def node(lasting_node):
    lasting_node.client = lasting_node.as_("viewer")
    return lasting_node


@pytest.fixture
def imaged(node):
    """Makes a study with one image, which may be given."""

    def make(image=None) -> Imaged:
        result = node.result()
        made = Imaged(node, result.id, result.reading["study_uid"])
        write(made.path, make_image() if image is None else image)
        return made

    return make


def frame(imaged: Imaged, number: int = 0) -> np.ndarray:
    about = imaged.get().json()
    answer = imaged.get(f"/frames/{number}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    shape = (about["rows"], about["columns"], *([3] if about["channels"] == 3 else []))
    return np.frombuffer(answer.content, f"<u{about['bits'] // 8}").reshape(shape)


def test_a_frame_is_given_as_the_bundle_saw_it(imaged):
    made = imaged()
    assert np.array_equal(frame(made), decode(made.path).pixels)


def test_the_image_says_its_size_depth_window_and_spacing(imaged):
    assert imaged(make_image(ImagerPixelSpacing=[0.2, 0.3])).get().json() == {
        "rows": ROWS, "columns": COLUMNS, "frames": 1, "bits": 16, "channels": 1, "window_center": 32768.0,
        "window_width": 65536, "pixel_spacing": [0.2, 0.3],
    }  # fmt: skip


@pytest.mark.parametrize("spacing", [[0, 0.1], [float("1e9"), 0.1], None])
def test_spacing_that_can_not_be_is_left_out(imaged, spacing):
    made = imaged(make_image() if spacing is None else make_image(PixelSpacing=spacing))
    assert made.get().json()["pixel_spacing"] is None


def test_monochrome1_is_turned_so_that_black_is_0(imaged):
    shown = frame(imaged(make_image(PhotometricInterpretation="MONOCHROME1")))
    assert shown[0, 0] > shown[-1, -1]


def test_colour_has_three_channels_of_8_bits(imaged):
    pixels = np.random.default_rng(0).integers(0, 255, (ROWS, COLUMNS, 3), dtype=np.uint8)
    image = make_image(
        SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation="RGB", BitsAllocated=8, BitsStored=8,
        HighBit=7, PixelData=pixels.tobytes(),
    )  # fmt: skip
    assert np.array_equal(frame(imaged(image)), pixels)


def test_each_frame_of_several_has_its_number(imaged):
    pixels = np.arange(3 * ROWS * COLUMNS, dtype="<u2").reshape(3, ROWS, COLUMNS)
    made = imaged(make_image(NumberOfFrames=3, PixelData=pixels.tobytes()))
    assert made.get().json()["frames"] == 3
    assert np.array_equal(frame(made, 2), decode(made.path, 2).pixels)
    assert made.get("/frames/3").status_code == 422


def test_a_compressed_image_is_decoded_for_the_page(imaged):
    image = make_image()
    expected = image.pixel_array
    image.compress(RLELossless)
    shown = frame(imaged(image))
    assert np.array_equal(np.argsort(shown.ravel()), np.argsort(expected.ravel()))


@pytest.mark.parametrize(
    "elements", [{"Rows": 60_000, "Columns": 60_000}, {"Rows": 9000, "Columns": 9000}, {"PixelData": b"\0\0"}]
)
def test_an_image_that_can_not_be_decoded_is_said_so_and_others_are_shown_all_the_same(imaged, elements):
    answer = imaged(make_image(PatientName="PHANTOM^SECRET", **elements)).get()
    assert (answer.status_code, answer.json()) == (422, {"detail": "This frame can't be decoded."})
    assert imaged().get().status_code == 200


def test_an_image_that_retention_deleted_is_gone(imaged):
    made = imaged()
    assert made.get().status_code == 200
    with made.node.rows.database.transaction() as session:
        image = session.scalars(select(Image).where(Image.sop_instance_uid == made.uid)).one()
        image.deleted_at = NOW
    assert made.get("/frames/0").status_code == 410


@pytest.mark.parametrize("uid", ["1.9", "..", "x", "1" * 70, "%2e%2e%2fnode.sqlite", "%00"])
def test_an_image_that_is_not_there_is_not_found(node, uid):
    assert node.client.get(f"/api/images/{uid}/frames/0").status_code == 404


def test_opening_an_image_is_audited_with_its_study(imaged):
    made = imaged()
    frame(made)
    with made.node.rows.database.reading() as session:
        query = select(AuditEntry).where(AuditEntry.what == audit.IMAGE_OPENED)
        (line,) = session.scalars(query.where(AuditEntry.target == made.study))
    assert (line.who, line.detail) == ("viewer", made.uid)


def put_heat_map(imaged: Imaged, path: str) -> bytes:
    buffer = io.BytesIO()
    Picture.new("L", (4, 4), 255).save(buffer, "PNG")
    file = imaged.node.folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(buffer.getvalue())
    with imaged.node.rows.database.transaction() as session:
        result = session.get_one(Result, imaged.result)
        images = [{**image, "heat_map": path} for image in result.reading["images"]]
        result.reading = {**result.reading, "images": images}
    return buffer.getvalue()


def heat_map(imaged: Imaged, result: int | None = None, frame: int = 0) -> Any:
    return imaged.node.client.get(f"/api/results/{result or imaged.result}/heat-maps/{imaged.uid}/{frame}")


def test_a_heat_map_is_a_png(imaged):
    made = imaged()
    content = put_heat_map(made, f"results/{made.study}/1.png")
    answer = heat_map(made)
    assert (answer.content, answer.headers["content-type"]) == (content, "image/png")


def test_a_heat_map_outside_the_nodes_folder_is_not_given(imaged):
    made = imaged()
    put_heat_map(made, "../outside.png")
    assert heat_map(made).status_code == 404


def test_a_heat_map_that_is_not_there_is_not_found(imaged):
    made = imaged()
    assert heat_map(made).status_code == 404
    put_heat_map(made, f"results/{made.study}/1.png")
    assert heat_map(made, frame=7).status_code == 404
    assert heat_map(made, result=10_000).status_code == 404


@pytest.mark.parametrize("path", ["0/heat-maps/1.2/0", "99999999999999999999/heat-maps/1.2/0"])
def test_a_number_that_no_result_has_is_refused(node, path):
    assert node.client.get(f"/api/results/{path}").status_code == 422


@pytest.fixture
def decoder():
    made = Decoder(processes=1, cache_bytes=5000)
    yield made
    made.close()


def test_a_decoder_that_dies_is_replaced(decoder, tmp_path):
    first, second = write(tmp_path / "a.dcm", make_image()), write(tmp_path / "b.dcm", make_image(2))
    decoder.frame(first, 0)
    for child in psutil.Process().children():
        if "imaging.worker_process" in " ".join(child.cmdline()):
            child.kill()
    assert decoder.frame(second, 0).rows == ROWS


def test_a_decoder_that_can_not_be_started_is_tried_again(decoder, tmp_path, monkeypatch):
    path = write(tmp_path / "a.dcm", make_image())
    with monkeypatch.context() as without, pytest.raises(OSError, match="nowhere"):
        without.setattr(sys, "executable", str(tmp_path / "nowhere"))
        decoder.frame(path, 0)
    assert decoder.frame(path, 0).rows == ROWS


@pytest.fixture
def decoder_of(monkeypatch):
    """Gives a decoder whose process does something else."""
    with contextlib.ExitStack() as held:

        def make(function: Any) -> Decoder:
            monkeypatch.setattr(decoding, "read", function)
            return held.enter_context(contextlib.closing(Decoder(processes=1)))

        yield make


Answer = tuple[decoding.Description, np.ndarray | None]


def die(_) -> Answer:
    os.abort()


def hang(_) -> Answer:
    threading.Event().wait()
    raise AssertionError("it waits for ever")


def test_a_file_on_which_the_decoder_dies_each_time_is_unreadable(decoder_of, tmp_path):
    with pytest.raises(UnreadableImage, match="crashes its decoder"):
        decoder_of(die).frame(write(tmp_path / "a.dcm", make_image()), 0)


def test_a_file_that_takes_too_long_is_given_up(decoder_of, tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "_SECONDS", 2.0)
    with pytest.raises(UnreadableImage, match="longer than 2 s"):
        decoder_of(hang).frame(write(tmp_path / "a.dcm", make_image()), 0)


def says_numbers(_) -> Answer:
    return decoding.Description(2, 3, 1, None), np.zeros((2, 3))


def says_five_channels(_) -> Answer:
    return decoding.Description(2, 3, 1, None), np.zeros((2, 3, 5), np.uint8)


def says_a_line(_) -> Answer:
    return decoding.Description(2, 3, 1, None), np.zeros(6, np.uint8)


def says_nothing(_) -> Answer:
    return decoding.Description(2, 3, 1, None), None


@pytest.mark.parametrize("function", [says_numbers, says_five_channels, says_a_line, says_nothing])
def test_what_is_no_image_is_not_taken_for_one(decoder_of, tmp_path, function):
    with pytest.raises(UnreadableImage, match="no image"):
        decoder_of(function).frame(write(tmp_path / "a.dcm", make_image()), 0)


def says_what_no_header_says(_) -> Answer:
    description = decoding.Description(2, 3, 1, None)
    object.__setattr__(description, "pixel_spacing", (math.nan, 1.0))
    return description, None


def test_a_header_that_can_not_be_is_refused(decoder_of, tmp_path):
    with pytest.raises(UnreadableImage, match="no image has such a header"):
        decoder_of(says_what_no_header_says).describe(write(tmp_path / "a.dcm", make_image()))


def test_who_waits_for_a_decoder_that_is_closed_is_told(decoder_of, tmp_path):
    decoder = decoder_of(hang)
    path = write(tmp_path / "a.dcm", make_image())
    closing = threading.Timer(1.0, decoder.close)
    closing.start()
    with pytest.raises(FreezeframeError, match="closed"):
        decoder.frame(path, 0)
    closing.join()


def test_the_memory_of_frames_is_bounded(decoder, tmp_path):
    size = ROWS * COLUMNS * 2
    for number in range(1, 31):
        decoder.frame(write(tmp_path / f"{number}.dcm", make_image(number)), 0)
    assert decoder._bytes == len(decoder._frames) * size <= 5000
    assert decoder.frame(tmp_path / "30.dcm", 0) is decoder.frame(tmp_path / "30.dcm", 0)


def test_frames_are_decoded_for_several_at_once(tmp_path):
    decoder = Decoder(processes=2)
    paths = [write(tmp_path / f"{number}.dcm", make_image(number)) for number in range(1, 9)]
    found: dict[int, bytes] = {}
    threads = [
        threading.Thread(
            target=lambda number=number: found.update({number: decoder.frame(paths[number], 0).content})
        )
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    decoder.close()
    assert found == {number: decode(path).pixels.astype("<u2").tobytes() for number, path in enumerate(paths)}
