"""The scikit-learn classifier on real images, in a cross-validation with groups."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, cross_val_score

from freezeframe.data.manifest import Manifest
from freezeframe.data.sources.patients import kermany_patient
from freezeframe.errors import UserError
from freezeframe.verbs.estimator import FreezeframeClassifier


@pytest.fixture(scope="module")
def images(shared_data) -> tuple[list[str], list[str], list[str]]:
    paths, labels = [], []
    for label in ("NORMAL", "PNEUMONIA"):
        files = sorted((shared_data / "kermany/compact_224/train" / label).iterdir())
        paths += [str(path) for path in files[:: len(files) // 24][:24]]
        labels += [label] * 24
    return paths, labels, [kermany_patient(path.rpartition("/")[2]) or path for path in paths]


@pytest.fixture
def classifier(tmp_path) -> FreezeframeClassifier:
    fields = {"preprocess": [{"resize": {"size": 96}}], "store": str(tmp_path / "store"), "device": "cpu"}
    return FreezeframeClassifier(epochs=4, validation=0.25, fields=fields, folder=tmp_path / "runs")


def test_cross_validation_with_groups_scores_each_fold_by_a_model_that_never_saw_it(
    images, classifier, tmp_path
):
    paths, labels, patients = images
    scores = cross_val_score(
        classifier,
        paths,
        labels,
        groups=patients,
        params={"groups": patients},
        cv=GroupKFold(2),
        scoring="roc_auc",
    )
    assert scores.min() > 0.6
    runs = [Manifest.read(path) for path in sorted((tmp_path / "runs").glob("*/manifest.parquet"))]
    assert len(runs) == 2
    assert not set(runs[0].table["image"]) & set(runs[1].table["image"])
    assert not set(runs[0].table["patient"]) & set(runs[1].table["patient"])


def test_probabilities_follow_the_labels_and_the_order_of_the_images(images, classifier):
    paths, labels, _ = images
    numbers = np.array([int(label == "PNEUMONIA") for label in labels])
    classifier.fit(paths, numbers)
    probabilities = classifier.predict_proba(paths[::-1])
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert classifier.classes_.tolist() == [0, 1]
    assert (classifier.predict(paths[::-1]) == numbers[::-1]).mean() > 0.8
    assert clone(classifier).get_params() == classifier.get_params()


def test_lists_of_other_lengths_are_refused(images, classifier):
    with pytest.raises(UserError, match="48 images, 1 labels"):
        classifier.fit(images[0], ["a"])
