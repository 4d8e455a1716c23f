from functools import partial

import numpy as np
import pytest
from PIL import Image

from freezeframe.bundle.runtime.preparing import distinct, prepare
from freezeframe.data.manifest import ImageReference
from freezeframe.imaging.image import UnreadableImage
from freezeframe.imaging.preprocess import Preprocessing, prepare_image
from freezeframe.imaging.workers import map_images


def preprocessing(size: int = 32, *steps, mean: float = 0.5) -> Preprocessing:
    return Preprocessing.from_steps(
        [*steps, {"resize": {"size": size}}], (size, size), (mean,) * 3, (0.5,) * 3
    )


@pytest.fixture
def noise(tmp_path) -> ImageReference:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    return ImageReference(tmp_path / "noise.png")


def test_preprocessings_that_give_the_same_pixels_are_one_and_the_first_comes_first():
    entries = (preprocessing(48), preprocessing(32), preprocessing(48, mean=0.4))
    assert distinct(entries) == (preprocessing(48), preprocessing(32))


def test_worker_processes_prepare_an_image_once_for_each_preprocessing(noise):
    function = partial(prepare, preprocessings=(preprocessing(48), preprocessing(32)))
    [(_, prepared)] = map_images(function, [noise], workers=1)
    assert not isinstance(prepared, UnreadableImage)
    assert [image.shape for image in prepared.images] == [(48, 48), (32, 32)]
    assert prepared.size == (60, 90)
    assert prepared.attributes["mode"] == "L"
    assert prepared.pixels.thumbnail.shape == (32, 32)


def test_images_are_those_of_the_preprocessing_in_training(noise):
    own = preprocessing(48, "equalise")
    [image] = prepare(noise, (own,)).images
    assert np.array_equal(image, prepare_image(noise, own))


def test_a_step_that_fails_for_several_members_is_noted_once(tmp_path):
    Image.new("L", (60, 40), 128).save(tmp_path / "grey.png")
    steps = (preprocessing(48, "crop-lungs"), preprocessing(32, "crop-lungs"))
    assert prepare(ImageReference(tmp_path / "grey.png"), steps).notes == ("lungs-not-found",)


def test_an_unreadable_file_gives_its_reason(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(UnreadableImage, match="empty"):
        prepare(ImageReference(tmp_path / "empty.png"), (preprocessing(),))
