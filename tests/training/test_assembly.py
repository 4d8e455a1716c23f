"""What a recipe asks for becomes network, cut and preprocessing."""

import numpy as np

from freezeframe.backbones.catalogue import describe
from freezeframe.study.sharing import groups
from freezeframe.study.spec import Study
from freezeframe.training.assembly import preprocessing_of
from freezeframe.training.fit import train
from freezeframe.training.run import read_status
from freezeframe.training.shared import Shared


def test_images_are_normalised_by_the_weights_own_mean_and_deviation_or_not_at_all(recipe):
    backbone = describe("resnet18")
    white = np.full((1, 4, 4), 255, np.uint8)
    ours = preprocessing_of(recipe, backbone).normalise(white)
    assert np.allclose(ours[0, :, 0, 0], [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    plain = preprocessing_of(recipe.changed(normalise="none"), backbone)
    assert np.array_equal(plain.normalise(white), np.ones((1, 3, 4, 4), np.float32))
    assert np.array_equal(plain.normalise(0 * white), np.zeros((1, 3, 4, 4), np.float32))


def test_trainings_with_and_without_normalisation_share_prepared_pixels_but_no_activations(recipe, tmp_path):
    shared = Shared()
    recipe = recipe.changed(epochs=1)
    runs = [train(recipe.changed(normalise=how), tmp_path / how, shared) for how in ("weights", "none")]
    assert read_status(runs[1])["preprocessing"]["mean"] == [0, 0, 0]
    first, second = (shared.assemble(recipe.changed(normalise=how), 2) for how in ("weights", "none"))
    assert first.pixels.preprocessing.key() == second.pixels.preprocessing.key()
    assert first.pack().folder != second.pack().folder


def test_a_study_puts_normalised_and_plain_images_through_the_frozen_part_apart(recipe):
    base = {"data": "images/", "backbone": "efficientnet-lite0"}
    study = Study.parse({"recipe": base, "axes": {"normalise": ["weights", "none"]}})
    assert [len(group) for group in groups(study.cells())] == [1, 1]
