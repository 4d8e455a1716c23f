import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from freezeframe.bundle.runtime.pixel_facts import measure, thumbnail
from freezeframe.bundle.runtime.screening import Look, correlation, from_pixels
from freezeframe.bundle.runtime.sentences import SENTENCES, InputWarning
from freezeframe.imaging.decode import decode
from freezeframe.imaging.steps import NOTES


def keys(pixels: np.ndarray, look: Look | None = None) -> list[str]:
    return [warning.key for warning in from_pixels(measure(pixels, pixels), look)]


@pytest.fixture(scope="module")
def films(shared_data) -> list[np.ndarray]:
    paths = sorted((shared_data / "kermany/compact_224/train").rglob("*.jpeg"))
    return [decode(path).pixels for path in paths[:: len(paths) // 60][:60]]


@pytest.fixture(scope="module")
def look(films) -> Look:
    return Look(np.mean([thumbnail(film) for film in films[:30]], axis=0), 0.4)


def test_radiographs_of_children_are_not_flagged(films, look):
    assert [keys(film, look) for film in films[30:]] == [[]] * 30


def test_inverted_radiographs_are_flagged_as_that(films, look):
    flagged = [keys(255 - film, look) == ["inverted"] for film in films[30:]]
    assert np.mean(flagged) > 0.9


def test_without_a_common_look_nothing_is_called_inverted(films):
    assert keys(255 - films[0]) == []


@pytest.mark.parametrize("value", [0, 200, 255])
def test_an_image_that_is_mostly_border_is_flagged_whatever_its_brightness(value):
    pixels = np.full((300, 400), value, np.uint8)
    pixels[100:220, 120:280] = np.random.default_rng(0).integers(0, 256, (120, 160))
    assert keys(pixels) == ["border"]


def test_sixteen_bits_of_almost_no_contrast_are_flagged():
    pixels = np.random.default_rng(0).integers(30000, 31500, (200, 200)).astype(np.uint16)
    assert keys(pixels) == ["contrast"]


def test_an_image_of_one_value_is_border_without_contrast():
    assert keys(np.full((50, 60, 3), 7, np.uint8)) == ["border", "contrast"]


@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_any_image_can_be_measured(pixels):
    facts = measure(pixels, pixels)
    assert 0 <= facts.border <= 1
    assert 0 <= facts.contrast <= 1
    assert np.isfinite(facts.thumbnail).all()


def test_correlation_is_numpy_s():
    one, other = np.random.default_rng(0).normal(size=(2, 32, 32))
    assert correlation(one, one + other) == pytest.approx(
        np.corrcoef(one.ravel(), (one + other).ravel())[0, 1]
    )


def test_every_warning_has_a_sentence_in_each_language():
    assert SENTENCES["en"].keys() == SENTENCES["es"].keys() >= NOTES.keys()
    for lang in SENTENCES:
        for key in SENTENCES[lang]:
            assert "{" not in InputWarning(key, "0.7").sentence(lang)


def test_shares_are_written_as_the_language_does():
    assert "70%" in InputWarning("border", "0.7").sentence("en")
    assert "70\u00a0%" in InputWarning("border", "0.7").sentence("es")
