"""The images of the parity gate."""

from collections import Counter

from factories import make_manifest
from freezeframe.bundle.parity import choose_images


def test_few_images_are_all_taken(tmp_path):
    manifest = make_manifest(tmp_path, 40)
    assert choose_images(manifest).table.equals(manifest.table)


def test_of_many_a_part_is_taken_with_the_classes_shares_and_always_the_same(tmp_path):
    manifest = make_manifest(tmp_path, 300, classes=("a", "b", "c"))
    rare = manifest.table["label"].where(manifest.table.index > 2, "a")
    rare = rare.where(manifest.table["label"] != "c", "a")
    rare.iloc[200] = "c"
    manifest.table["label"] = rare
    chosen = choose_images(manifest, 30)
    assert Counter(chosen.table["label"].tolist()) == {"a": 20, "b": 10, "c": 1}
    assert chosen.table.equals(choose_images(manifest, 30).table)
    order = manifest.table["image"].tolist()
    assert sorted(chosen.table["image"], key=order.index) == chosen.table["image"].tolist()
