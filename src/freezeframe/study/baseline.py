"""What any study should beat: a linear probe, and PCA with logistic regression, on the frozen network's answers.

Both take the activations right before the head of the images as they are (view 0), which the study's own pass through
the frozen part writes on the way, so that they cost seconds. How strongly they are regularised, and how many principal
components are kept, is chosen by the log loss on the validation images; the test images only judge.
"""

import math
import re
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.special import log_softmax
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from freezeframe import files
from freezeframe.data.manifest import Manifest
from freezeframe.errors import UserError
from freezeframe.recipe import Recipe
from freezeframe.seeds import derive_seed
from freezeframe.study.sharing import group_key
from freezeframe.training.fit import run_manifest
from freezeframe.training.fitting import PREDICTED_SPLITS, Fitting
from freezeframe.training.predict import write_predictions
from freezeframe.training.run import read_status, write_status
from freezeframe.training.shared import Shared

Method = Literal["linear probe", "PCA + logistic regression"]
METHODS: tuple[Method, ...] = ("linear probe", "PCA + logistic regression")

# Inverse strengths of the regularisation, from almost a constant answer to almost none.
STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
COMPONENTS = (2, 4, 8, 16, 32, 64, 128, 256)
ITERATIONS = 500
BATCH = 256
# Beside the frozen network, what decides which images a baseline learns from.
DATA_FIELDS = ("data", "split", "check_overlap")


@dataclass(frozen=True, eq=False)
class Features:
    """The frozen network's answers to the images of a recipe.

    Attributes
    ----------
    manifest : Manifest
        The readable images.
    values : dict of str to ndarray of float32 (N, D)
        Of 'train', 'validation' and, where there are any, 'test'; maps are averaged over their area.
    labels : dict of str to ndarray of int64 (N,)
        Their classes.
    """

    manifest: Manifest
    values: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Baseline:
    """A fitted baseline.

    Attributes
    ----------
    method : str
        Of `METHODS`.
    model : Pipeline
        Scikit-learn's: standardisation, PCA where it is used, logistic regression.
    c : float
        Its inverse strength of regularisation.
    components : int or None
        Its number of principal components.
    validation_loss : float
        Log loss on the validation images, by which both were chosen.
    """

    method: Method
    model: Pipeline
    c: float
    components: int | None
    validation_loss: float

    def log_probabilities(self, values: np.ndarray, n_classes: int) -> np.ndarray:
        """Answer for some images.

        Parameters
        ----------
        values : ndarray of float (N, D)
            The frozen network's.
        n_classes : int
            Number of classes C, also those that no training image has.

        Returns
        -------
        ndarray of float32 (N, C)
            Logarithms of the probabilities, which are logits too.
        """
        # Of a class that it was never shown, and of one that it rules out, the least that a float32 can hold.
        least = math.log(np.finfo(np.float32).tiny)
        answers = np.full((len(values), n_classes), least, dtype=np.float32)
        decision = np.asarray(self.model.decision_function(values))
        if decision.ndim == 1:  # of two classes scikit-learn gives the log odds of the second
            decision = np.stack([np.zeros_like(decision), decision], axis=1)
        answers[:, self.model.classes_] = np.maximum(log_softmax(decision, axis=1), least)
        return answers

    @property
    def parameters(self) -> int:
        """Numbers that the regression learned; those of standardisation and PCA are not among them."""
        regression: LogisticRegression = self.model.named_steps["regression"]
        return int(np.size(regression.coef_) + np.size(regression.intercept_))


def recipe_of(recipe: Recipe) -> Recipe:
    """Return the recipe that asks the store for what baselines need: images as they are, right before the head."""
    return recipe.changed(
        unfreeze="head",
        hidden=None,
        dropout=0.0,
        augment="none",
        views=None,
        imbalance="none",
        epochs=1,
        activations="store",
    )


def names(recipe: Recipe) -> dict[str, Method]:
    """Name the baselines of a recipe; recipes that begin with one frozen network and the same images share them.

    Returns
    -------
    dict of str to str
        Name of the folder -> method.
    """
    plain = recipe.to_dict()
    seed = recipe.seed if recipe.split.seed is None else recipe.split.seed
    digest = files.sha256_json([group_key(recipe), seed, {name: plain[name] for name in DATA_FIELDS}])[:8]
    fold = "" if recipe.split.folds is None else f"-fold{recipe.split.fold}"
    backbone = re.sub(r"[^A-Za-z0-9._]+", "-", recipe.backbone).strip("-")
    short = {"linear probe": "linear-probe", "PCA + logistic regression": "pca"}
    return {f"{backbone}-{short[method]}{fold}-{digest}": method for method in METHODS}


def distinct(recipes: Sequence[Recipe]) -> list[Recipe]:
    """Return one recipe of baselines for each frozen network and division of the images."""
    found: dict[str, Recipe] = {}
    for recipe in recipes:
        found.setdefault(next(iter(names(recipe))), recipe_of(recipe))
    return list(found.values())


def baseline(
    recipe: Recipe, out: Path, method: Method = "linear probe", shared: Shared | None = None
) -> Path:
    """Fit one baseline and write its predictions; one that is there already stays.

    Parameters
    ----------
    recipe : Recipe
        Of a training with this network and these images; what it says of heads, depths and views is not looked at.
    out : Path
        The baseline's folder: ``run.json``, ``recipe.yaml``, ``manifest.parquet`` and
        ``predictions/<split>.parquet``, as those of a run.
    method : str
        Of `METHODS`.
    shared : Shared, optional
        What earlier trainings in this process have left.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UserError
        If the images won't do.
    """
    if read_status(out).get("status") == "finished":
        return out
    begun = time.monotonic()
    own = recipe_of(recipe)
    features = read_features(own, out, shared or Shared())
    read = time.monotonic()
    with threadpool_limits(limits=recipe.threads, user_api="blas"):
        fitted = fit(method, features, own.seed)
        answered = {
            split: fitted.log_probabilities(values, len(features.manifest.classes))
            for split, values in features.values.items()
            if split in PREDICTED_SPLITS
        }
    done = time.monotonic()
    own.write(out / "recipe.yaml")
    features.manifest.write(out / "manifest.parquet")
    for split, answers in answered.items():
        write_predictions(out / "predictions" / f"{split}.parquet", features.manifest.subset(split), answers)
    seconds = {"store": read - begun, "training": done - read, "total": time.monotonic() - begun}
    write_status(
        out,
        status="finished",
        name=out.name,
        method=method,
        backbone=recipe.backbone,
        components=fitted.components,
        c=fitted.c,
        seed=own.seed,
        fold=None if own.split.folds is None else own.split.fold,
        train_share=own.split.train_share,
        draw=own.split.draw,
        classes=list(features.manifest.classes),
        parameters={"trainable": fitted.parameters},
        seconds={stage: round(value, 2) for stage, value in seconds.items()},
        best_validation_loss=fitted.validation_loss,
    )
    return out


def read_features(recipe: Recipe, out: Path, shared: Shared) -> Features:
    """Take the frozen network's answers from the store, and compute those that it lacks.

    Parameters
    ----------
    recipe : Recipe
        From `recipe_of`.
    out : Path
        The baseline's folder, whose manifest is used where there is one.
    shared : Shared
        Of this process.
    """
    manifest = run_manifest(recipe, out, shared)
    parts = shared.assemble(recipe, len(manifest.classes))
    manifest = shared.readable(parts, manifest)
    fitting = Fitting(recipe, parts, manifest, shared)
    activations, _, _ = fitting.activations()
    places = {
        "train": [(index, 0) for index in range(len(fitting.train_set))],
        **{split: fitting.places(split) for split in PREDICTED_SPLITS},
    }
    subsets = {"train": fitting.train_set, **fitting.evaluation_sets}
    values = {
        split: np.concatenate(
            [
                _pooled(activations.batch(wanted[start : start + BATCH]), parts.cut.shapes)
                for start in range(0, len(wanted), BATCH)
            ]
        )
        for split, wanted in places.items()
        if wanted
    }
    for split in ("train", "validation"):
        if split not in values:
            raise UserError(f"The {split} split has no readable image.", "some of each class.")
    return Features(manifest, values, {split: subsets[split].labels() for split in values})


def _pooled(flat: np.ndarray, shapes: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Average each map of an image over its area; what is a vector already stays."""
    parts, start = [], 0
    for shape in shapes:
        size = math.prod(shape)
        part = flat[:, start : start + size].reshape(len(flat), *shape)
        parts.append(part.mean(axis=(2, 3)) if len(shape) == 3 else part.reshape(len(flat), -1))
        start += size
    return np.concatenate(parts, axis=1)


def fit(method: Method, features: Features, seed: int) -> Baseline:
    """Choose regularisation and components on the validation images, and fit.

    The components are tried as the first ones of one decomposition. What was chosen is then fitted afresh, as
    ``make_pipeline(StandardScaler(), PCA(components), LogisticRegression(C=c))``.

    Parameters
    ----------
    method : str
        Of `METHODS`.
    features : Features
        With 'train' and 'validation'.
    seed : int
        Of the decomposition, which is randomised where it is large.
    """
    train, validation = features.values["train"], features.values["validation"]
    labels, validation_labels = features.labels["train"], features.labels["validation"]
    if len(np.unique(labels)) < 2:
        raise UserError("The training images are all of one class.", "at least two classes.")
    most = min(len(train) - 1, train.shape[1])
    counts: list[int | None] = [None]
    if method == "PCA + logistic regression":
        counts = [count for count in COMPONENTS if count < most] or [max(1, most)]
    before = Pipeline(_before(counts[-1], seed))
    inputs = before.fit_transform(train)
    judged = before.transform(validation)
    n_classes = len(features.manifest.classes)
    best = (math.inf, STRENGTHS[0], counts[0])
    for count in counts:
        loss = math.inf
        for c in STRENGTHS:
            # Each from zero: one that begins where the last ended would stop elsewhere than the model that is kept.
            regression = LogisticRegression(C=c, max_iter=ITERATIONS)
            _quietly(regression, inputs[:, :count], labels)
            candidate = Baseline(method, Pipeline([("regression", regression)]), c, count, math.nan)
            answers = candidate.log_probabilities(judged[:, :count], n_classes)
            before_it, loss = loss, _loss(validation_labels, answers)
            if loss < best[0]:
                best = (loss, c, count)
            if loss > before_it:  # along a path the loss falls, then rises
                break
    _, c, components = best
    regression = LogisticRegression(C=c, max_iter=ITERATIONS)
    model = Pipeline([*_before(components, seed), ("regression", regression)])
    _quietly(model, train, labels)
    chosen = Baseline(method, model, c, components, math.nan)
    loss = _loss(validation_labels, chosen.log_probabilities(validation, n_classes))
    return Baseline(method, model, c, components, loss)


def _before(components: int | None, seed: int) -> list[tuple[str, StandardScaler | PCA]]:
    """Make what comes before the regression."""
    steps: list[tuple[str, StandardScaler | PCA]] = [("standardisation", StandardScaler())]
    if components is not None:
        steps.append(("components", PCA(components, random_state=derive_seed(seed, "components") % 2**32)))
    return steps


def _loss(labels: np.ndarray, log_probabilities: np.ndarray) -> float:
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def _quietly(model: LogisticRegression | Pipeline, values: np.ndarray, labels: np.ndarray) -> None:
    # A weakly regularised path may stop at the last iteration; its validation loss tells what it is worth.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(values, labels)
