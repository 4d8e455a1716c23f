"""A scikit-learn classifier on image files: `fit`, `predict_proba`, and `cross_val_score` with groups."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from freezeframe import files
from freezeframe.data.manifest import Manifest
from freezeframe.data.splits import make_splits
from freezeframe.errors import UserError
from freezeframe.recipe import Recipe


class FreezeframeClassifier(ClassifierMixin, BaseEstimator):
    """Fine-tune one network, as a scikit-learn classifier.

    ``X`` is a sequence of paths of image files. All folds of a cross-validation share the store, so the frozen part
    of an image is computed once for all of them.

    Parameters
    ----------
    backbone : str
        As in a recipe.
    unfreeze : str, dict or list
        As in a recipe.
    augment : str or dict
        As in a recipe.
    epochs : int
        Most passes over the training images.
    seed : int
        Seed of everything.
    validation : float
        Share of the patients (or images) given to `fit` that chooses the best epoch.
    fields : dict, optional
        Any other fields of the recipe.
    folder : str or Path, optional
        Where runs are kept, one for each set of images; a temporary folder that goes with the estimator where left
        out.

    Attributes
    ----------
    classes_ : array
        The labels in the order of `predict_proba`'s columns.
    run_ : Path
        The run's folder.

    Examples
    --------
    >>> from sklearn.model_selection import GroupKFold, cross_val_score
    >>> classifier = FreezeframeClassifier("efficientnet-lite0", epochs=5)
    >>> cross_val_score(
    ...     classifier, paths, labels, groups=patients, params={"groups": patients}, cv=GroupKFold(5), scoring="roc_auc"
    ... )  # doctest: +SKIP
    """

    def __init__(
        self,
        backbone: str = "efficientnet-lite0",
        unfreeze: str | dict[str, Any] | list[dict[str, Any]] = "head",
        augment: str | dict[str, Any] = "none",
        epochs: int = 30,
        seed: int = 0,
        validation: float = 0.15,
        fields: dict[str, Any] | None = None,
        folder: str | Path | None = None,
    ) -> None:
        self.backbone = backbone
        self.unfreeze = unfreeze
        self.augment = augment
        self.epochs = epochs
        self.seed = seed
        self.validation = validation
        self.fields = fields
        self.folder = folder

    def fit(
        self, X: Sequence[str | Path], y: Sequence[Any], groups: Sequence[Any] | None = None
    ) -> "FreezeframeClassifier":
        """Train on image files.

        Parameters
        ----------
        X : sequence of str or Path
            Image files, length N.
        y : sequence
            Their labels.
        groups : sequence, optional
            Their patients; the images of one are never both trained on and used to choose the best epoch.

        Raises
        ------
        UserError
            If the lengths differ, or the images won't do.
        """
        from freezeframe.training.fit import train

        if len(X) != len(y) or (groups is not None and len(groups) != len(X)):
            raise UserError(
                f"fit got {len(X)} images, {len(y)} labels and {len(X) if groups is None else len(groups)} groups.",
                "as many of each.",
            )
        self.classes_ = np.unique(np.asarray(y))
        names = {label: str(label) for label in self.classes_.tolist()}
        recipe = Recipe.parse(
            {
                **(self.fields or {}),
                "data": str(Path(X[0]).absolute().parent),
                "backbone": self.backbone,
                "unfreeze": self.unfreeze,
                "augment": self.augment,
                "epochs": self.epochs,
                "seed": self.seed,
                "split": {"validation": self.validation, "test": 0.0, "minimum_images": 1},
            }
        )
        manifest = _manifest(
            X, [names[label] for label in np.asarray(y).tolist()], groups, tuple(names.values())
        )
        # Kept as an attribute: it is deleted with the estimator.
        self._temporary = None if self.folder else tempfile.TemporaryDirectory(prefix="freezeframe-")
        # A run for each set of images: the folds of a cross-validation must never find one another's.
        content = {name: manifest.table[name].tolist() for name in ("image", "sha256", "label", "patient")}
        run = Path(self.folder or self._temporary.name)  # pyright: ignore[reportOptionalMemberAccess]
        run = run / files.sha256_json(content)[:16]
        if not (run / "manifest.parquet").exists():
            make_splits(manifest, recipe.split, recipe.seed).write(run / "manifest.parquet")
        self.run_ = train(recipe, run)
        return self

    def predict_proba(self, X: Sequence[str | Path]) -> np.ndarray:
        """Return class probabilities of image files, (N, C) float64.

        Raises
        ------
        UserError
            If an image can't be read: an array has no place for it.
        """
        from freezeframe.training.predict import predict_manifest

        check_is_fitted(self, "run_")
        manifest = _manifest(X, [""] * len(X), None, ())
        table, unreadable = predict_manifest(self.run_, manifest)
        if unreadable:
            raise UserError(
                f"{unreadable[0].image} can't be read: {unreadable[0].reason}.",
                "images that can all be read.",
            )
        logits = table[[f"logit_{label}" for label in self.classes_.tolist()]].to_numpy(np.float64)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        by_image = dict(zip(table["image"], shifted / shifted.sum(axis=1, keepdims=True), strict=True))
        return np.stack([by_image[_name(path)] for path in X])

    def predict(self, X: Sequence[str | Path]) -> np.ndarray:
        """Return the most probable label of image files, (N,)."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def _name(path: str | Path) -> str:
    return Path(path).absolute().as_posix().lstrip("/")


def _manifest(
    paths: Sequence[str | Path], labels: list[str], groups: Sequence[Any] | None, classes: tuple[str, ...]
) -> Manifest:
    names = [_name(path) for path in paths]
    table = pd.DataFrame(
        {
            "image": names,
            "label": labels,
            "patient": [""] * len(names) if groups is None else [str(group) for group in groups],
            "site": "",
            "split": "",
            "sha256": [files.sha256_file(Path(path)) for path in paths],
        }
    ).drop_duplicates("image")
    return Manifest(table.reset_index(drop=True), Path("/"), classes)
