import numpy as np
import pytest

from freezeframe.bundle.reference import fit_reference
from freezeframe.bundle.runtime.screening import Reference
from freezeframe.errors import FreezeframeError

RANDOM = np.random.default_rng(0)
# Features of images vary in few directions, and a little in all.
DIRECTIONS = RANDOM.normal(size=(10, 300))
BLOBS = np.exp(-((np.mgrid[0:32, 0:32] - 16) ** 2).sum(axis=0) / 50)


def features(count: int) -> np.ndarray:
    mixed = RANDOM.normal(size=(count, 10)) @ DIRECTIONS
    return (20 + mixed + 0.3 * RANDOM.normal(size=(count, 300))).astype(np.float32)


def thumbnails(count: int, noise: float = 0.1) -> np.ndarray:
    return (BLOBS + noise * RANDOM.normal(size=(count, 32, 32))).astype(np.float32)


def fitted(training: int = 200, validation: int = 200, **options) -> Reference:
    content = fit_reference(features(training), features(validation), thumbnails(training, **options))
    assert content is not None
    return Reference.load(content)


def test_one_in_a_hundred_like_the_training_images_is_flagged():
    reference = fitted()
    flagged = np.mean([reference.distance(row) > 1 for row in features(2000)])
    assert 0.001 <= flagged <= 0.03


def test_features_off_the_training_images_directions_are_flagged():
    reference = fitted()
    others = features(50) + 3 * RANDOM.normal(size=300)
    assert all(reference.distance(row) > 1 for row in others)


def test_the_distance_does_not_depend_on_how_strong_the_features_are():
    reference, row = fitted(), features(1)[0]
    assert reference.distance(7 * row) == pytest.approx(reference.distance(row), rel=1e-4)


def test_the_distance_is_the_reconstruction_error_of_scikit_learn_s_principal_components():
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import normalize

    training, validation, new = features(100), features(50), features(20)
    content = fit_reference(training, validation, thumbnails(100))
    assert content is not None
    analysis = PCA(25, svd_solver="full").fit(normalize(training))

    def errors(rows: np.ndarray) -> np.ndarray:
        rows = normalize(rows)
        return np.linalg.norm(rows - analysis.inverse_transform(analysis.transform(rows)), axis=1)

    expected = errors(new) / np.quantile(errors(validation), 0.99)
    found = [Reference.load(content).distance(row) for row in new]
    assert np.allclose(found, expected, rtol=1e-3)


def test_the_file_stays_under_a_megabyte_with_the_features_of_a_large_network():
    wide = RANDOM.normal(size=(400, 2048)).astype(np.float32)
    content = fit_reference(wide, wide[:50], thumbnails(400))
    assert content is not None
    assert len(content) < 1_000_000


@pytest.mark.parametrize("counts", [(19, 200), (200, 19), (0, 0)])
def test_too_few_images_give_none_and_it_is_said(counts, capsys):
    training, validation = counts
    assert fit_reference(features(training), features(validation), thumbnails(training)) is None
    assert "will not be flagged" in capsys.readouterr().err


def test_images_that_look_alike_have_a_look_that_99_in_100_of_them_reach():
    look = fitted().look
    assert look is not None
    assert np.abs(look.mean - BLOBS).max() < 0.1
    assert 0.5 < look.least < 0.95


def test_images_that_do_not_look_alike_have_none():
    assert fitted(noise=5).look is None


def test_the_look_is_the_mean_of_all_training_images():
    pictures = thumbnails(20)
    content = fit_reference(features(20), features(20), pictures)
    assert content is not None
    look = Reference.load(content).look
    assert look is not None
    assert np.allclose(look.mean, pictures.mean(axis=0), atol=1e-6)


def test_features_that_are_not_finite_are_refused():
    broken = features(30)
    broken[3, 5] = np.nan
    with pytest.raises(FreezeframeError, match="not finite"):
        fit_reference(broken, features(30), thumbnails(30))


def test_features_that_never_vary_are_refused():
    with pytest.raises(FreezeframeError, match="the same features"):
        fit_reference(np.ones((30, 300)), features(30), thumbnails(30))
