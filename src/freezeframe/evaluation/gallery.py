"""Which images to look at: those that a model was surest of, rightly and wrongly."""

import numpy as np
import pandas as pd

COLUMNS = ("image", "patient", "label", "predicted", "probability", "kind", "rank")


def choose(
    images: pd.DataFrame,
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: tuple[str, ...],
    count: int = 4,
) -> pd.DataFrame:
    """Choose the most confident correct and the most confident wrong images of each class, one a patient.

    Parameters
    ----------
    images : DataFrame (N rows)
        With the columns ``image`` and ``patient``, '' where the patient is unknown.
    labels : ndarray of int (N,)
        Index of each image's true class.
    probabilities : ndarray of float (N, C)
        Of the classes.
    classes : tuple of str
        Their names.
    count : int
        Images for each class and kind.

    Returns
    -------
    DataFrame
        One row an image: ``image``, ``patient``, ``label``, ``predicted``, ``probability`` (of the
        predicted class), ``kind`` ('correct' or 'wrong') and ``rank`` from 1, by class, kind and falling
        probability. Fewer rows where there are fewer such images.

    Examples
    --------
    >>> images = pd.DataFrame({"image": ["a", "b", "c"], "patient": ["1", "1", "2"]})
    >>> probabilities = np.array([[0.1, 0.9], [0.2, 0.8], [0.7, 0.3]])
    >>> chosen = choose(images, np.array([1, 1, 1]), probabilities, ("normal", "pneumonia"))
    >>> chosen[["image", "predicted", "kind", "rank"]].values.tolist()
    [['a', 'pneumonia', 'correct', 1], ['c', 'normal', 'wrong', 1]]
    """
    predicted = probabilities.argmax(axis=1)
    names = np.array(classes, dtype=object)
    table = pd.DataFrame(
        {
            "image": images["image"].to_numpy(),
            "patient": images["patient"].to_numpy(),
            "label": names[labels],
            "predicted": names[predicted],
            "probability": probabilities.max(axis=1),
            "kind": np.where(predicted == labels, "correct", "wrong"),
            "class": labels,
            "person": np.where(images["patient"] == "", images["image"], images["patient"]),
        }
    )
    # The image's name settles ties, so that the choice does not depend on the order of the rows.
    table = table.sort_values(["class", "kind", "probability", "image"], ascending=[True, True, False, True])
    table = table.drop_duplicates(["class", "kind", "person"])
    table["rank"] = table.groupby(["class", "kind"]).cumcount() + 1
    return table.loc[table["rank"] <= count, [*COLUMNS]].reset_index(drop=True)
