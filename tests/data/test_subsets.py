"""A share of the training patients: nested, stratified, whole patients, other draws."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_splits import balanced, data_sets, manifest

from freezeframe.data.manifest import Manifest
from freezeframe.data.sources import read_manifest
from freezeframe.data.splits import make_splits
from freezeframe.recipe import DataSource, Split


def training(result: Manifest) -> set[str]:
    return set(result.subset("train").table["image"])


def shared(data: Manifest, share: float, draw: int = 0, seed: int = 0) -> Manifest:
    return make_splits(data, Split(train_share=share, draw=draw), seed)


def test_a_quarter_of_the_training_patients_of_each_class_is_used():
    result = shared(manifest(balanced(400)), 0.25)
    assert result.table["split"].value_counts().to_dict() == {"train": 70, "validation": 60, "test": 60}
    assert result.subset("train").table["label"].value_counts().to_dict() == {"cat": 35, "dog": 35}
    assert result.table.index.tolist() == list(range(190))
    assert any(
        note == "Training uses 70 of 280 patients (train_share 0.25, draw 0): 70 of 280 images; "
        "the others are left out."
        for note in result.notes
    )


def test_the_whole_share_changes_nothing():
    data = manifest(balanced(100))
    whole, plain = shared(data, 1.0, draw=3), make_splits(data, Split(), 0)
    pd.testing.assert_frame_equal(whole.table, plain.table)
    assert whole.notes == plain.notes


def test_other_draws_and_seeds_are_other_patients():
    data = manifest(balanced(200))
    split = {"train_share": 0.3, "seed": 5}
    draws = [training(make_splits(data, Split(**split, draw=draw), 0)) for draw in range(6)]
    assert len({tuple(sorted(draw)) for draw in draws}) == 6
    # Of 140 training patients, two draws of 42 share 12.6 on average.
    overlaps = [len(one & other) for one in draws for other in draws if one is not other]
    assert np.mean(overlaps) == pytest.approx(12.6, abs=4)


def test_the_smallest_share_has_a_patient_of_each_class():
    rows = [*balanced(200), *[("rare", f"r{number}", "", "") for number in range(4)]]
    result = shared(manifest(rows, ("cat", "dog", "rare")), 0.001)
    assert sorted(result.subset("train").table["label"]) == ["cat", "dog", "rare"]


def test_the_folds_of_a_share_keep_their_test_images():
    data = manifest(balanced(100))
    for fold in range(4):
        small = make_splits(data, Split(folds=4, fold=fold, train_share=0.2), 0)
        whole = make_splits(data, Split(folds=4, fold=fold), 0)
        for split in ("validation", "test"):
            pd.testing.assert_frame_equal(small.subset(split).table, whole.subset(split).table)
        assert training(small) < training(whole)


def test_kermany_s_shares_keep_the_classes_in_proportion(shared_data: Path):
    source = DataSource(path=shared_data / "kermany" / "compact_224", label_pattern="(NORMAL|bacteria|virus)")
    data = read_manifest(source)
    whole = make_splits(data, Split(), 0).subset("train")
    patients = pd.crosstab(whole.patients(), whole.labels()).gt(0).mean()
    for share in (0.02, 0.1, 0.5):
        part = shared(data, share).subset("train")
        own = pd.crosstab(part.patients(), part.labels()).gt(0)
        assert len(own) == round(share * len(np.unique(whole.patients())))
        assert abs(own.mean() - patients).max() < 0.05


@settings(deadline=None, max_examples=40)
@given(
    data_sets(),
    st.integers(0, 2**31),
    st.integers(0, 5),
    st.lists(st.floats(0.01, 1), min_size=2, max_size=4),
    st.randoms(use_true_random=False),
)
def test_shares_are_nested_whole_and_independent_of_the_order(data, seed, draw, shares, random):
    order = list(range(len(data)))
    random.shuffle(order)
    shuffled = Manifest(data.table.iloc[order].reset_index(drop=True), data.root, data.classes)
    whole = make_splits(data, Split(), seed)
    before: set[str] = set()
    for share in sorted(shares):
        result = shared(data, share, draw, seed)
        own = training(result)
        assert before <= own <= training(whole)
        assert own == training(shared(shuffled, share, draw, seed))
        for split in ("validation", "test"):
            pd.testing.assert_frame_equal(result.subset(split).table, whole.subset(split).table)
        train = result.subset("train")
        assert set(train.table["label"]) == {"cat", "dog"}
        rest = whole.table[~whole.table["image"].isin(list(result.table["image"]))]
        assert not set(rest["patient"]) & set(train.table["patient"])
        assert not set(rest["sha256"]) & set(train.table["sha256"])
        before = own
