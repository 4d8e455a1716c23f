"""Crops to the lung fields and to the lesion, and what happens where there is none."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from freezeframe.data.manifest import Manifest
from freezeframe.data.sources import read_manifest
from freezeframe.imaging.crops import find_lesion, find_lungs
from freezeframe.imaging.decode import decode
from freezeframe.imaging.image import DecodedImage
from freezeframe.imaging.preprocess import Preprocessing
from freezeframe.recipe import DataSource
from freezeframe.stores.pixels import Pixels


def preprocessing(*steps: str | dict) -> Preprocessing:
    return Preprocessing.from_steps(list(steps), (64, 64), (0.5,) * 3, (0.5,) * 3)


def chest(dtype: type = np.uint8) -> np.ndarray:
    """Draw a body with two dark lungs: rows 60 to 200, columns 50 to 210 of 256 x 256."""
    rows, columns = np.mgrid[:256, :256]
    values = np.where(np.abs(columns - 128) < 115, 0.75, 0.02)
    for centre in (85, 171):
        values[((rows - 130) / 70) ** 2 + ((columns - centre) / 35) ** 2 < 1] = 0.3
    values += np.random.default_rng(0).normal(0, 0.01, values.shape)
    return np.rint(np.clip(values, 0, 1) * np.iinfo(dtype).max).astype(dtype)


def skin() -> np.ndarray:
    """Draw skin with a dark lesion: rows 70 to 130, columns 60 to 150 of 200 x 240, and black corners."""
    rows, columns = np.mgrid[:200, :240]
    image = np.tile(np.array([220, 170, 150], np.uint8), (200, 240, 1))
    image[((rows - 100) / 30) ** 2 + ((columns - 105) / 45) ** 2 < 1] = (110, 70, 50)
    image[np.hypot(rows - 100, columns - 120) > 135] = 0
    return image


def test_lungs_are_found_where_they_are():
    box = find_lungs(chest())
    assert box is not None
    np.testing.assert_allclose(box, [60 / 256, 50 / 256, 200 / 256, 206 / 256], atol=0.09)
    assert box.top < 64 / 256  # larger it may be, but it cuts nothing off
    assert box.left < 54 / 256
    assert box.bottom > 196 / 256
    assert box.right > 202 / 256


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_crop_is_the_box_and_its_margin_in_full_depth(dtype):
    narrow, wide = (
        list(preprocessing({"crop-lungs": {"margin": margin}}).stages(DecodedImage(chest(dtype))))[1].pixels
        for margin in (0, 0.1)
    )
    assert narrow.dtype == dtype
    box = find_lungs(chest(dtype))
    assert box is not None
    height, width = 256 * (box.bottom - box.top), 256 * (box.right - box.left)
    assert narrow.shape == pytest.approx((height, width), abs=1)
    assert wide.shape == pytest.approx((1.2 * height, 1.2 * width), abs=2)


def test_a_lesion_is_found_beside_black_corners():
    box = find_lesion(skin())
    assert box is not None
    np.testing.assert_allclose(box, [70 / 200, 60 / 240, 130 / 200, 150 / 240], atol=0.03)


@pytest.mark.parametrize(
    ("step", "note"), [("crop-lungs", "lungs-not-found"), ("crop-lesion", "lesion-not-found")]
)
def test_where_nothing_is_found_the_image_stays_whole_and_that_is_said(step, note):
    nothing = np.full((64, 64), 128, np.uint8)
    pixels, notes = preprocessing(step).prepare_with_notes(DecodedImage(nothing), channels=1)
    assert notes == (note,)
    np.testing.assert_array_equal(pixels, nothing)
    assert (
        preprocessing(step).prepare_with_notes(DecodedImage(chest() if step == "crop-lungs" else skin()))[1]
        == ()
    )


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_found_in_noise(seed):
    noise = np.random.default_rng(seed).normal(128, 9, (150, 160))
    assert find_lungs(noise.astype(np.uint8)) is None
    assert find_lesion(noise.astype(np.uint8)) is None


def test_one_lung_alone_is_not_cropped_to():
    image = chest()
    image[:, 128:] = image[0, 128]
    assert find_lungs(image) is None


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.tuples(st.integers(1, 90), st.integers(1, 90)).flatmap(
            lambda sides: st.sampled_from([sides, (*sides, 3)])
        ),
    )
)
def test_any_image_at_all_gives_a_part_of_itself(pixels):
    for step in ("crop-lungs", "crop-lesion"):
        cropped = list(preprocessing(step).stages(DecodedImage(pixels)))[1].pixels
        assert cropped.dtype == pixels.dtype
        assert 0 < cropped.shape[0] <= pixels.shape[0]
        assert 0 < cropped.shape[1] <= pixels.shape[1]


def test_a_crop_after_the_last_resize_is_followed_by_a_resize():
    steps = preprocessing({"resize": {"size": 200}}, "crop-lungs")
    assert [step.name for step in steps.steps] == ["resize", "crop-lungs", "resize"]
    assert steps.prepare(DecodedImage(chest())).shape == (64, 64, 3)


def test_plausible_lungs_are_found_on_most_real_radiographs(shared_data):
    folder = shared_data / "kermany/compact_320_subset/train/NORMAL"
    boxes = [find_lungs(decode(path).pixels) for path in sorted(folder.iterdir())[:400:40]]
    found = [box for box in boxes if box is not None]
    assert len(found) >= 7
    for box in found:
        assert box.left < 0.45 < 0.55 < box.right
        assert box.bottom - box.top > 0.45


def test_the_store_says_how_many_images_stayed_whole(tmp_path, capsys):
    for place, image in enumerate([chest(), np.full((256, 256), 128, np.uint8), chest()[:, ::-1]]):
        (tmp_path / "images" / "ab"[place % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(tmp_path / "images" / "ab"[place % 2] / f"{place}.png")
    manifest: Manifest = read_manifest(DataSource.model_validate(str(tmp_path / "images")))
    Pixels(tmp_path / "store", preprocessing("crop-lungs")).fill(manifest)
    assert "kept the whole image in 1 of 3 images" in capsys.readouterr().err
