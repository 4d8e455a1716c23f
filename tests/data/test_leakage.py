from collections import Counter

import numpy as np
import pandas as pd
import pytest
from planting import KINDS, plant

from freezeframe.data.leakage import Duplicate, find_duplicates, group
from freezeframe.data.manifest import ImageReference
from freezeframe.files import sha256_file
from freezeframe.imaging.fingerprint import fingerprint

EXPECTED_KIND = {"jpeg": "re-encoded"} | {kind: kind for kind in KINDS if kind != "jpeg"}


def _find(paths):
    prints = [fingerprint(ImageReference(path)) for path in paths]
    return find_duplicates(
        [sha256_file(path) for path in paths],
        [one.pixel_hash for one in prints],
        np.stack([one.thumbnail for one in prints]),
        np.array([(one.width, one.height) for one in prints]),
    )


@pytest.mark.parametrize("folder", ["beans", "kermany/compact_224"])
def test_all_planted_duplicates_are_found_and_nothing_else(shared_data, tmp_path, folder):
    planted = plant(shared_data / folder, tmp_path, images=400, each=40)
    paths = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    row = {path.relative_to(tmp_path).as_posix(): number for number, path in enumerate(paths)}
    found = {(pair.first, pair.second): pair.kind for pair in _find(paths)}
    expected = {tuple(sorted((row[one.original], row[one.copy]))): EXPECTED_KIND[one.kind] for one in planted}
    assert Counter(expected.values()) == {EXPECTED_KIND[kind]: 40 for kind in KINDS}
    missed = {pair: kind for pair, kind in expected.items() if pair not in found}
    # A crop of several per cent at 96 pixels is the hardest; every other kind is found without exception.
    assert set(missed.values()) <= {"cropped"}
    assert len(missed) <= 1
    assert len(set(found) - set(expected)) <= 2
    wrong_kind = [pair for pair, kind in expected.items() if found.get(pair, kind) != kind]
    assert len(wrong_kind) <= 3


def test_images_of_one_lesion_at_another_magnification_are_found(shared_data):
    manifest = pd.read_csv(shared_data / "skin" / "manifest.csv")
    known = manifest[(manifest["split"] == "train") & manifest["ham10000_lesion_id"].notna()]
    repeated = known[known["group"].duplicated(keep=False)].sort_values("group").head(160)
    single = known[~known["group"].duplicated(keep=False)].head(240)
    rows = pd.concat([repeated, single])
    groups = rows["group"].to_numpy()
    true = {(a, b) for a, b in zip(*np.nonzero(np.triu(groups[:, None] == groups, 1)), strict=True)}
    found = {
        (pair.first, pair.second) for pair in _find([shared_data / "skin" / name for name in rows["file"]])
    }
    assert len(found & true) >= 0.9 * len(found)
    assert len(found & true) >= 0.4 * len(true)


def test_different_children_are_no_duplicates(shared_data):
    names = sorted((shared_data / "kermany" / "compact_224" / "train" / "NORMAL").glob("IM-*-0001.jpeg"))[
        :400
    ]
    assert _find(names) == []


def test_flat_images_are_not_duplicates_of_each_other():
    thumbnails = np.stack([np.full((96, 96), value, np.uint8) for value in (0, 0, 128, 255)])
    assert find_duplicates(list("abcd"), list("abcd"), thumbnails, np.full((4, 2), 96)) == []


def test_two_images_are_enough():
    picture = np.random.default_rng(0).integers(0, 256, (12, 12)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
    found = find_duplicates(
        ["a", "b"], ["a", "b"], np.stack([picture, picture[:, ::-1]]), np.full((2, 2), 96)
    )
    assert [(pair.first, pair.second, pair.kind) for pair in found] == [(0, 1, "flip-horizontal")]


def test_the_same_bytes_and_the_same_pixels_are_told_apart():
    flat = np.zeros((3, 96, 96), np.uint8)
    found = find_duplicates(["a", "a", "b"], ["p", "p", "p"], flat, np.full((3, 2), 96))
    assert [(pair.first, pair.second, pair.kind) for pair in found] == [(0, 1, "file"), (0, 2, "pixels")]


def test_groups_join_what_is_linked_through_others():
    pairs = [Duplicate(0, 1, "file", 1.0), Duplicate(1, 4, "view", 0.8), Duplicate(2, 5, "view", 0.8)]
    assert group(6, pairs).tolist() == [0, 0, 1, -1, 0, 1]
    assert group(2, []).tolist() == [-1, -1]
