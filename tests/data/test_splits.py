"""Splits: by patient, stratified, the same for the same seed; overlaps refused."""

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freezeframe.data.manifest import Manifest
from freezeframe.data.sources import read_manifest
from freezeframe.data.splits import check_overlap, find_overlap, make_splits
from freezeframe.errors import UserError
from freezeframe.recipe import DataSource, Split


def manifest(rows: list[tuple[str, str, str, str]], classes: tuple[str, ...] = ("cat", "dog")) -> Manifest:
    """Make a manifest of (label, patient, split, sha256) rows; an empty sha256 stands for one of its own."""
    table = pd.DataFrame(rows, columns=["label", "patient", "split", "sha256"], dtype="str")
    table.insert(0, "image", [f"{number:05d}.png" for number in range(len(rows))])
    table["sha256"] = [
        own or f"hash of {image}" for own, image in zip(table["sha256"], table["image"], strict=True)
    ]
    return Manifest(table.assign(site=""), Path("/images"), classes)


def balanced(number: int, split: str = "", patients: bool = True) -> list[tuple[str, str, str, str]]:
    """Make rows of `number` patients with one image each, half of each class."""
    return [
        (("cat", "dog")[index % 2], f"{split}{index}" if patients else "", split, "")
        for index in range(number)
    ]


def counts(result: Manifest) -> dict[str, int]:
    return dict(Counter(result.table["split"]))


def test_a_set_without_splits_is_divided_70_15_15():
    result = make_splits(manifest(balanced(200)), Split(), seed=0)
    assert counts(result) == {"train": 140, "validation": 30, "test": 30}
    assert any(
        "seed 0: train 140 images, validation 30 images, test 30 images" in note for note in result.notes
    )


def test_shares_are_those_of_the_recipe():
    result = make_splits(manifest(balanced(200)), Split(validation=0.1, test=0.3), seed=0)
    assert counts(result) == {"train": 120, "validation": 20, "test": 60}


def test_a_split_that_is_not_wished_for_is_not_made():
    result = make_splits(manifest(balanced(100)), Split(test=0), seed=0)
    assert set(counts(result)) == {"train", "validation"}
    assert counts(make_splits(manifest(balanced(100)), Split(test=0, validation=0), seed=0)) == {"train": 100}


def test_usable_splits_are_kept():
    given_splits = manifest(balanced(60, "train") + balanced(20, "validation") + balanced(20, "test"))
    result = make_splits(given_splits, Split(), seed=0)
    pd.testing.assert_frame_equal(result.table, given_splits.table)
    assert (
        "The data set's own splits are kept: train 60 images, validation 20 images, test 20 images."
        in result.notes
    )


def test_a_validation_split_that_is_too_small_goes_to_training():
    result = make_splits(
        manifest(balanced(100, "train") + balanced(16, "validation") + balanced(40, "test")), Split(), 0
    )
    official = result.table["patient"].str.startswith("validation")
    assert "test" not in set(result.table["split"][official])
    assert counts(result)["test"] == 40
    assert abs(counts(result)["validation"] - 0.15 * 116) <= 1
    assert any(
        "validation split is too small: 16 images (8 cat, 8 dog), fewer than 10" in note
        for note in result.notes
    )


def test_a_test_split_that_is_too_small_keeps_its_images_and_gets_more():
    result = make_splits(
        manifest(balanced(100, "train") + balanced(40, "validation") + balanced(6, "test")), Split(), 0
    )
    official = result.table["patient"].str.startswith("test")
    assert set(result.table["split"][official]) == {"test"}
    assert abs(counts(result)["test"] - (6 + 15)) <= 1
    assert any("test split is too small: 6 images" in note and "stay in it" in note for note in result.notes)


def test_missing_splits_are_said():
    result = make_splits(manifest(balanced(100, "train")), Split(), seed=0)
    assert counts(result)["train"] == pytest.approx(70, abs=1)
    assert counts(result)["test"] == pytest.approx(15, abs=1)
    assert "There is no test split: patients are taken from train for it." in result.notes


def test_images_without_a_split_beside_others_go_to_training():
    rows = balanced(60, "train") + balanced(20, "validation") + balanced(20, "test") + balanced(6)
    result = make_splits(manifest(rows), Split(), seed=0)
    assert counts(result)["train"] == 66
    assert any(note.startswith("6 images without a split") for note in result.notes)


def test_another_seed_divides_otherwise():
    first, again, other = (
        make_splits(manifest(balanced(100)), Split(), seed).table["split"].tolist() for seed in (1, 1, 2)
    )
    assert first == again != other


def test_the_split_s_own_seed_comes_first():
    data = manifest(balanced(100))
    assert (
        make_splits(data, Split(seed=5), 1).table["split"].tolist()
        == make_splits(data, Split(), 5).table["split"].tolist()
    )


def test_patients_with_identical_images_stay_together_and_are_named():
    rows = [*balanced(98), ("cat", "twin a", "", "same"), ("cat", "twin b", "", "same")]
    for seed in range(20):
        result = make_splits(manifest(rows), Split(), seed)
        assert result.table["split"].iloc[-2] == result.table["split"].iloc[-1]
    assert any(
        "share identical images and are kept together: 'twin a', 'twin b'" in note for note in result.notes
    )


def test_files_without_content_join_nobody():
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    rows = [(label, patient, "", empty) for label, patient, _, _ in balanced(40)]
    assert len(counts(make_splits(manifest(rows), Split(), 0))) == 3


def test_large_and_small_patients_are_found_in_every_split():
    rows = [
        (("cat", "dog")[person % 2], f"{person}", "", "")
        for person in range(480)
        for _ in range(1 + person % 4)
    ]
    result = make_splits(manifest(rows), Split(), seed=3)
    images = result.table.groupby(["split", "patient"]).size().groupby("split").mean()
    assert images.max() / images.min() < 1.15


def test_the_largest_patient_of_a_class_is_not_bound_to_one_split():
    rows = balanced(100) + [("cat", "large", "", "")] * 5
    found = Counter(make_splits(manifest(rows), Split(), seed).table["split"].iloc[-1] for seed in range(100))
    assert found["train"] == pytest.approx(70, abs=14)
    assert min(found["validation"], found["test"]) >= 5


def test_one_class_is_refused():
    with pytest.raises(UserError, match=r"holds one class only, 'cat'"):
        make_splits(manifest([("cat", f"{number}", "", "") for number in range(20)]), Split(), 0)


def test_images_without_labels_are_refused():
    with pytest.raises(UserError, match=r"1 image of 21 have no label: '00020.png'"):
        make_splits(manifest([*balanced(20), ("", "x", "", "")]), Split(), 0)


def test_a_class_with_fewer_patients_than_splits_is_named():
    rows = [("cat", f"{number}", "", "") for number in range(20)] + [
        ("dog", "1d", "", ""),
        ("dog", "2d", "", ""),
    ]
    with pytest.raises(
        UserError, match=r"Too few patients to be in train, validation, test: class 'dog' has 2"
    ):
        make_splits(manifest(rows), Split(), 0)
    assert len(make_splits(manifest(rows), Split(test=0), 0)) == 22


def test_three_patients_of_a_class_are_in_three_splits():
    rows = [("cat", f"{number}", "", "") for number in range(30)] + [
        ("dog", f"{number}d", "", "") for number in range(3)
    ]
    for seed in range(20):
        result = make_splits(manifest(rows), Split(), seed)
        assert set(result.table["split"][result.table["label"] == "dog"]) == {"train", "validation", "test"}
    assert any("has only" in note and "dog" in note for note in result.notes)


def test_patients_of_mixed_class_that_can_t_be_divided_are_refused():
    rows = [(label, f"{number}", "", "") for number in range(2) for label in ("cat", "dog")]
    with pytest.raises(UserError, match="Too few patients"):
        make_splits(manifest(rows), Split(), 0)


def test_a_set_with_only_a_test_split_can_t_be_trained_on():
    with pytest.raises(UserError, match="has only the split 'test'"):
        make_splits(manifest(balanced(40, "test")), Split(), 0)


def test_overlaps_are_listed_and_refused_by_name():
    rows = balanced(10, "train") + balanced(10, "test")
    rows += [
        ("cat", "both", "train", ""),
        ("cat", "both", "test", ""),
        ("dog", "p", "train", "same"),
        ("dog", "q", "test", "same"),
    ]
    found = find_overlap(manifest(rows))
    assert [(one.kind, one.name, one.splits, one.images) for one in found] == [
        ("patient", "both", ("train", "test"), ("00020.png", "00021.png")),
        ("image", "00022.png", ("train", "test"), ("00022.png", "00023.png")),
    ]
    with pytest.raises(
        UserError, match=r"1 patient in more than one split: both \(train, test\)\. 1 identical image"
    ):
        check_overlap(manifest(rows))


def test_no_more_than_ten_patients_are_named():
    rows = [("cat", f"p{number:02d}", split, "") for split in ("train", "test") for number in range(12)]
    with pytest.raises(UserError, match=r"12 patients .*p09 \(train, test\); and 2 more") as caught:
        check_overlap(manifest(rows))
    assert "p10" not in str(caught.value)


def test_images_without_a_split_overlap_with_nothing():
    assert find_overlap(manifest([("cat", "p", "train", ""), ("dog", "p", "", "")])) == []


def test_kermany_gets_a_validation_and_a_test_split_by_patient(shared_data: Path):
    result = make_splits(
        read_manifest(DataSource(path=shared_data / "kermany" / "compact_224")), Split(), seed=0
    )
    check_overlap(result)
    pneumonia = result.table["label"].eq("PNEUMONIA").groupby(result.table["split"]).mean()
    sizes = result.table["split"].value_counts(normalize=True)
    assert sizes["validation"] == pytest.approx(0.15, abs=0.005)
    assert sizes["test"] == pytest.approx(0.15, abs=0.005)
    assert pneumonia.max() - pneumonia.min() < 0.01
    assert any("too small: 16 images" in note for note in result.notes)
    assert any("no test split" in note for note in result.notes)


@st.composite
def data_sets(draw: st.DrawFn) -> Manifest:
    """Patients with one to five images, of one class or of two; some images are copies of another patient's."""
    people = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5)), min_size=12, max_size=60))
    rows = [(("cat", "dog")[person % 2], f"sure{person}", "", "") for person in range(6)]
    for person, (kind, number) in enumerate(people):
        for image in range(number):
            label = ("cat", "dog")[image % 2 if kind == 2 else kind]
            rows.append(
                (label, f"p{person}", "", draw(st.sampled_from(["", "", "", "", "same 1", "same 2"])))
            )
    return manifest(rows)


@settings(deadline=None, max_examples=60)
@given(data_sets(), st.integers(0, 2**31), st.randoms(use_true_random=False))
def test_splits_are_whole_complete_and_independent_of_the_order(data: Manifest, seed: int, random):
    result = make_splits(data, Split(), seed)
    assert set(result.table["split"]) == {"train", "validation", "test"}
    assert find_overlap(result) == []

    order = list(range(len(data)))
    random.shuffle(order)
    shuffled = make_splits(
        Manifest(data.table.iloc[order].reset_index(drop=True), data.root, data.classes), Split(), seed
    )
    by_image = dict(zip(shuffled.table["image"], shuffled.table["split"], strict=True))
    assert by_image == dict(zip(result.table["image"], result.table["split"], strict=True))


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from([0, 0, 0, 1]), st.integers(1, 6)), min_size=300, max_size=400),
    st.integers(0, 1000),
    st.sampled_from([(0.15, 0.15), (0.1, 0.2), (0.3, 0.3)]),
)
def test_shares_and_classes_are_as_wished_with_many_small_patients(
    people, seed: int, shares: tuple[float, float]
):
    rows = [
        (("cat", "dog")[kind], f"p{person}", "", "")
        for person, (kind, number) in enumerate(people)
        for _ in range(number)
    ]
    rows += [("dog", f"sure{person}", "", "") for person in range(50)]
    result = make_splits(manifest(rows), Split(validation=shares[0], test=shares[1]), seed)
    splits = np.array(result.table["split"].tolist())
    for name, share in zip(("validation", "test"), shares, strict=True):
        for label in range(2):
            assert np.mean(splits[result.labels() == label] == name) == pytest.approx(share, abs=0.03)
    patients = result.table.drop_duplicates("patient")["split"].value_counts(normalize=True)
    assert patients["validation"] == pytest.approx(shares[0], abs=0.04)
    assert patients["test"] == pytest.approx(shares[1], abs=0.04)
