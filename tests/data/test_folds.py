"""Cross-validation: folds by patient, stratified, the same for each of them."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from test_splits import balanced, counts, data_sets, manifest

from freezeframe.data.manifest import Manifest
from freezeframe.data.sources import read_manifest
from freezeframe.data.splits import find_overlap, make_splits
from freezeframe.errors import UserError
from freezeframe.recipe import DataSource, Split


def all_folds(data: Manifest, folds: int, seed: int, **fields) -> list[Manifest]:
    return [make_splits(data, Split(folds=folds, fold=fold, **fields), seed) for fold in range(folds)]


def test_each_image_is_tested_in_one_fold_of_equal_size():
    results = all_folds(manifest(balanced(100)), 5, 0)
    assert [counts(result)["test"] for result in results] == [20] * 5
    assert [counts(result)["validation"] for result in results] == [12] * 5  # 15 % of the other 80
    tested = Counter(
        image for result in results for image in result.table["image"][result.table["split"] == "test"]
    )
    assert set(tested.values()) == {1}
    assert len(tested) == 100


def test_given_splits_are_not_used_and_the_note_says_so():
    rows = balanced(60, "train") + balanced(20, "validation") + balanced(20, "test")
    result = make_splits(manifest(rows), Split(folds=4, fold=2), 0)
    moved = result.table["split"].to_numpy() != manifest(rows).table["split"].to_numpy()
    assert moved.any()
    assert "The data set's own splits are not used (folds): 100 images had one." in result.notes
    assert any(
        note.startswith("Fold 2 of 4, counted from 0, is the test split; divided by patient")
        for note in result.notes
    )


def test_no_validation_is_made_where_none_is_asked_for():
    result = make_splits(manifest(balanced(100)), Split(folds=5, validation=0), 0)
    assert counts(result) == {"train": 80, "test": 20}
    assert not any("validation" in note for note in result.notes)


def test_another_seed_deals_other_folds_and_the_split_s_own_comes_first():
    data = manifest(balanced(60))
    one, other, own = (
        make_splits(data, split, seed).table["split"].tolist()
        for split, seed in ((Split(folds=3), 1), (Split(folds=3), 2), (Split(folds=3, seed=1), 2))
    )
    assert one == own != other


def test_a_class_with_fewer_patients_than_folds_is_named():
    rows = [*balanced(40), *[("rare", f"r{number}", "", "") for number in range(4)]]
    data = manifest(rows, ("cat", "dog", "rare"))
    with pytest.raises(
        UserError, match=r"Too few patients to be in fold 0, .*class 'rare' has 4\..*fewer folds"
    ):
        make_splits(data, Split(folds=5), 0)
    assert {counts(result)["test"] for result in all_folds(data, 4, 0)} == {11}


def test_a_class_with_too_few_patients_beside_the_test_fold_is_named():
    data = manifest([*balanced(40), ("rare", "r0", "", ""), ("rare", "r1", "", "")], ("cat", "dog", "rare"))
    with pytest.raises(UserError, match=r"Too few patients to be in train, validation: class 'rare' has 1"):
        make_splits(data, Split(folds=2), 0)


def test_kermany_s_folds_are_balanced_in_images_patients_and_classes(shared_data: Path):
    data = read_manifest(DataSource(path=shared_data / "kermany" / "compact_224"))
    tests = [result.subset("test") for result in all_folds(data, 5, 0)]
    assert max(map(len, tests)) - min(map(len, tests)) <= 10
    shares = [np.mean(test.labels()) for test in tests]
    assert max(shares) - min(shares) < 0.005
    patients = [len(np.unique(test.patients())) for test in tests]
    assert max(patients) / min(patients) < 1.05


@settings(deadline=None, max_examples=40)
@given(data_sets(), st.integers(2, 5), st.integers(0, 2**31), st.randoms(use_true_random=False))
def test_folds_are_disjoint_whole_and_independent_of_the_order(data: Manifest, folds: int, seed: int, random):
    more = manifest(balanced(16, patients=True)).table
    more = more.assign(**{name: "more " + more[name] for name in ("image", "patient", "sha256")})
    data = Manifest(pd.concat([data.table, more], ignore_index=True), data.root, data.classes)
    order = list(range(len(data)))
    random.shuffle(order)
    shuffled = Manifest(data.table.iloc[order].reset_index(drop=True), data.root, data.classes)
    try:
        results = all_folds(data, folds, seed)
    except UserError:  # one group of many joined patients can outweigh all the others of its class
        reject()
    tested: list[str] = []
    for result, again in zip(results, all_folds(shuffled, folds, seed), strict=True):
        assert find_overlap(result) == []
        assert set(result.table["split"]) == {"train", "validation", "test"}
        assert set(result.subset("test").table["label"]) == {"cat", "dog"}
        tested += result.subset("test").table["image"].tolist()
        assert dict(zip(result.table["image"], result.table["split"], strict=True)) == dict(
            zip(again.table["image"], again.table["split"], strict=True)
        )
    assert sorted(tested) == sorted(data.table["image"])


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.tuples(st.sampled_from([0, 0, 0, 1]), st.integers(1, 6)), min_size=150, max_size=250),
    st.integers(2, 10),
    st.integers(0, 1000),
)
def test_folds_hold_equal_shares_of_each_class_with_many_small_patients(people, folds: int, seed: int):
    rows = [
        (("cat", "dog")[kind], f"p{person}", "", "")
        for person, (kind, number) in enumerate(people)
        for _ in range(number)
    ]
    rows += [("dog", f"sure{person}", "", "") for person in range(40)]
    data = manifest(rows)
    for label in range(2):
        of_class = [
            int((result.subset("test").labels() == label).sum()) for result in all_folds(data, folds, seed)
        ]
        assert max(of_class) - min(of_class) <= 7  # the largest patient has six images
