import numpy as np
import pytest

from freezeframe.pacs.results.drawing import BAR_FOUND, CAUTION, SIDE, TEXT, Bar, Page, draw, eight_bit

BARS = [Bar("normal", 0.1, "10.0%", False, None), Bar("pneumonia", 0.9, "90.0%", True, 0.4)]


def page(**change) -> Page:
    down, across = np.mgrid[0:200, 0:100]
    heat = np.zeros((100, 50), np.uint8)
    heat[40:60, 10:20] = 255
    fields = {
        "notice": "AI RESULT, NOT VERIFIED",
        "title": "AI pneumonia-three 0.1.0 (3f9a1c2b)",
        "outcome": "Positive",
        "is_found": True,
        "captions": ("Original", "Heat map"),
        "image": ((down + across) * 200).astype(np.uint16),
        "heat": heat,
        "outline": ((20.0, 80.0), (40.0, 80.0), (40.0, 120.0), (20.0, 120.0), (20.0, 80.0)),
        "tables": (("Probabilities", BARS), ("Members", BARS)),
        "lines": [("A warning.", True)],
    }
    return Page(**{**fields, **change})


def has(picture: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((picture == np.array(colour, np.uint8)).all(axis=-1).any())


def test_a_page_has_notice_pictures_and_bars():
    drawn = draw(page())
    assert drawn.shape == (SIDE, SIDE, 3)
    assert drawn.dtype == np.uint8
    assert (drawn[5, 5] == CAUTION).all()
    assert has(drawn[640:760, :512], BAR_FOUND)
    assert has(drawn[640:760, 512:], BAR_FOUND)


def test_the_image_is_shown_as_it_is_and_beside_it_with_the_heat_map_and_the_outline():
    drawn = draw(page())
    left, right = drawn[132:608, 24:500].astype(int), drawn[132:608, 524:1000].astype(int)
    assert (left.max(axis=2) == left.min(axis=2)).all()
    hot = right[190:286, 167:214]
    assert (hot.max(axis=2) - hot.min(axis=2)).max() > 100
    cold = right[10:100, 130:340]
    assert (cold.max(axis=2) == cold.min(axis=2)).all()
    assert has(drawn[132:608, 524:1000], TEXT)


def test_without_a_heat_map_the_right_place_stays_empty():
    drawn = draw(page(heat=None))
    assert not drawn[140:600, 530:990].any()


def test_a_page_without_pictures_has_its_sentences_at_the_top():
    drawn = draw(page(image=None, heat=None, captions=None, tables=(), outline=()))
    assert has(drawn[130:170], CAUTION)
    assert not drawn[200:].any()


def test_sentences_that_do_not_fit_end_at_the_bottom():
    lines = [("one two three four five " * 12, True)] * 30
    assert draw(page(lines=lines)).shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize("shape", [(3000, 2500), (40, 30), (1, 500), (2421, 1296, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_images_of_all_sizes_and_depths_are_fitted_in(shape, dtype):
    white = np.full(shape, np.iinfo(dtype).max, dtype)
    fitted = eight_bit(white, (476, 476))
    assert max(fitted.shape[:2]) == 476
    assert fitted.min() == 255
