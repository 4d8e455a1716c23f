"""The tables of a report."""

from pathlib import Path

import pandas as pd

from freezeframe.data.manifest import Manifest
from freezeframe.report.contents import Contents
from freezeframe.report.html import _synthetic
from freezeframe.report.language import load
from freezeframe.report.sections import images_table


def contents(synthetic: list[str]) -> Contents:
    table = pd.DataFrame(
        {
            "image": ["a.png", "b.png", "c.png", "/made/d.png"],
            "label": ["cat", "cat", "dog", "dog"],
            "patient": ["p", "p", "q", ""],
            "site": "",
            "split": ["train", "train", "test", "train"],
            "sha256": ["1", "2", "3", "4"],
            "synthetic": synthetic,
        },
        dtype="str",
    )
    manifest = Manifest(table, Path("/images"), ("cat", "dog"))
    return Contents({}, {}, pd.DataFrame(), ("cat", "dog"), 1, (), manifest, None, None)


def test_synthetic_images_of_the_training_set_are_images_but_no_patients():
    table = images_table(contents(["", "", "", "added"]), load("en"))
    assert table is not None
    assert table.rows == (
        ("cat", 2, 0, 2, 1),
        ("dog", 1, 1, 2, 1),
        ("All images", 3, 1, 4, 2),
        ("Patients", 1, 1, 2, 2),
    )


def test_a_training_set_with_some_synthetic_images_is_not_announced_as_invented():
    assert not _synthetic(contents(["", "", "", "added"]))
    assert _synthetic(contents(["true"] * 4))
