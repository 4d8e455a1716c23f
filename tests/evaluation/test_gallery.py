"""Which images are shown."""

import numpy as np
import pandas as pd

from freezeframe.evaluation import gallery

CLASSES = ("normal", "pneumonia")


def table(patients: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"image": [f"{i}.png" for i in range(len(patients))], "patient": patients})


def test_the_surest_come_first_and_only_so_many():
    positive = np.array([0.6, 0.9, 0.8, 0.7, 0.3, 0.1])
    chosen = gallery.choose(
        table(["a", "b", "c", "d", "e", "f"]),
        np.ones(6, int),
        np.stack([1 - positive, positive], 1),
        CLASSES,
        count=2,
    )
    assert chosen.loc[chosen["kind"] == "correct", "image"].tolist() == ["1.png", "2.png"]
    assert chosen.loc[chosen["kind"] == "wrong", "image"].tolist() == ["5.png", "4.png"]
    assert chosen["rank"].tolist() == [1, 2, 1, 2]
    assert chosen["predicted"].tolist() == ["pneumonia", "pneumonia", "normal", "normal"]


def test_a_patient_is_shown_once_in_a_row_and_an_unknown_one_is_each_image_of_its_own():
    positive = np.array([0.9, 0.8, 0.7, 0.6])
    probabilities = np.stack([1 - positive, positive], 1)
    chosen = gallery.choose(table(["a", "a", "", ""]), np.ones(4, int), probabilities, CLASSES)
    assert chosen["image"].tolist() == ["0.png", "2.png", "3.png"]


def test_the_choice_does_not_depend_on_the_order_of_the_rows():
    images, labels = table(list("abcdef")), np.array([0, 1, 0, 1, 0, 1])
    probabilities = np.tile([0.4, 0.6], (6, 1))
    order = np.array([5, 2, 0, 4, 1, 3])
    one = gallery.choose(images, labels, probabilities, CLASSES, count=2)
    other = gallery.choose(images.iloc[order], labels[order], probabilities[order], CLASSES, count=2)
    pd.testing.assert_frame_equal(one, other)


def test_no_wrong_images_are_no_rows():
    chosen = gallery.choose(table(["a", "b"]), np.array([0, 1]), np.eye(2), CLASSES)
    assert set(chosen["kind"]) == {"correct"}
    assert list(chosen.columns) == list(gallery.COLUMNS)
