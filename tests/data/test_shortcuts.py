import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from freezeframe.data.shortcuts import FEATURES, cramers_v, find_shortcuts, roc_auc


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=2, max_size=60))
def test_the_auc_is_that_of_scikit_learn_with_ties(rows):
    scores, positive = (np.array(column) for column in zip(*rows, strict=True))
    if positive.all() or not positive.any():
        return
    assert roc_auc(scores.astype(float), positive)[0] == pytest.approx(roc_auc_score(positive, scores))


def test_the_standard_error_is_that_of_many_repeats():
    random = np.random.default_rng(0)
    positive = np.arange(120) < 50
    found = [roc_auc(random.normal(size=120) + positive, positive) for _ in range(2000)]
    aucs, errors = np.array(found).T
    assert errors.mean() == pytest.approx(aucs.std(), rel=0.05)


def _features(**columns) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    return pd.DataFrame({"split": ["train"] * count, **dict.fromkeys(FEATURES, 1.0), **columns})


def test_a_shortcut_counts_in_either_direction():
    labels = ["a"] * 20 + ["b"] * 20
    found = find_shortcuts(_features(label=labels, width=[2.0] * 20 + [1.0] * 20), ("a", "b"))
    assert [(one.label, one.feature, one.auc, one.direction) for one in found] == [
        ("b", "width", 1.0, "lower")
    ]


def test_each_of_three_classes_is_measured_against_the_rest():
    labels = ["a"] * 9 + ["b"] * 9 + ["c"] * 9
    found = find_shortcuts(_features(label=labels, height=[1.0] * 9 + [2.0] * 9 + [3.0] * 9), ("a", "b", "c"))
    assert {one.label: one.auc for one in found} == {"a": 1.0, "b": 0.5, "c": 1.0}


def test_unlabelled_images_and_constant_features_are_left_out():
    labels = ["a", "b", "a", "b", ""]
    found = find_shortcuts(_features(label=labels, width=[1.0, 1.0, 1.0, 1.0, 7.0]), ("a", "b"))
    assert found == []


def test_the_training_split_comes_before_the_test_split():
    features = _features(label=["a", "b"] * 20, brightness=np.tile([0.0, 1.0], 20))
    features["split"] = ["test"] * 20 + ["train"] * 20
    assert [one.split for one in find_shortcuts(features, ("a", "b"))] == ["train", "test"]


def test_sites_drawn_at_random_are_not_confounded_and_one_site_a_class_is():
    random = np.random.default_rng(0)
    labels = random.choice(["a", "b"], 200).tolist()
    assert cramers_v(random.choice([f"site {n}" for n in range(40)], 200).tolist(), labels) < 0.3
    assert cramers_v([f"site of {label}" for label in labels], labels) == pytest.approx(1)
    assert cramers_v(["one"] * 200, labels) == 0
