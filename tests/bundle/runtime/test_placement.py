import numpy as np
import pytest

from freezeframe.bundle.runtime.placement import Placement, moved, placement
from freezeframe.imaging.preprocess import Preprocessing, ResizeParameters, resize


def preprocessing(*steps) -> Preprocessing:
    return Preprocessing.from_steps(list(steps), (60, 60), (0.5,) * 3, (0.5,) * 3)


def of(mode: str, size: int = 60) -> dict:
    return {"resize": {"size": size, "mode": mode}}


@pytest.mark.parametrize(
    ("steps", "frame"),
    [
        ([of("pad")], (-10, 0, 50, 60)),
        ([of("crop")], (0, 10, 40, 50)),
        ([of("stretch")], (0, 0, 40, 60)),
        (["equalise", "grey", of("pad", 90), of("pad")], (-10, 0, 50, 60)),
        ([{"resize": {"size": [40, 80], "mode": "pad"}}, of("crop")], (0, 10, 40, 50)),
    ],
)
def test_the_frame_of_an_image_of_40_by_60_is_where_the_steps_put_it(steps, frame):
    assert placement(preprocessing(*steps), 40, 60) == pytest.approx(frame)


def test_a_crop_to_what_is_found_has_no_known_frame():
    assert placement(preprocessing("crop-lungs"), 40, 60) is None


@pytest.mark.parametrize(
    ("mode", "other"), [("pad", "stretch"), ("stretch", "pad"), ("pad", "crop"), ("crop", "crop")]
)
def test_a_picture_moved_to_another_frame_is_what_that_frame_shows(mode, other):
    rows, columns = np.mgrid[0:400, 0:600]
    image = np.rint(30000 + 40 * rows + 9000 * np.sin(columns / 100)).astype(np.uint16)
    shown = [
        resize(image, ResizeParameters(size=(60, 60), mode=way)).astype(np.float32) for way in (mode, other)
    ]
    frames = [placement(preprocessing(of(way)), 400, 600) for way in (mode, other)]
    assert frames[0] is not None
    assert frames[1] is not None
    result = moved(shown[0], frames[0], frames[1], (60, 60))
    # The middle, which both show whatever the modes.
    inside = (slice(15, 45), slice(15, 45))
    assert np.abs(result[inside] - shown[1][inside]).max() < 0.01 * 65535


def test_where_the_first_frame_does_not_reach_there_is_nothing():
    result = moved(np.ones((10, 10), np.float32), Placement(0, 0, 10, 5), Placement(0, 0, 10, 10), (10, 10))
    assert result[:, :4].min() == 1
    assert result[:, 6:].max() == 0
