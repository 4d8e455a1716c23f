"""How the answers of several networks become one: pure functions of logits."""

from typing import Literal, get_args

import numpy as np
from scipy.special import softmax

from freezeframe.errors import UserError, did_you_mean

Rule = Literal["mean", "mean-logits", "weighted", "vote"]
Score = Literal["roc_auc", "accuracy", "balanced_accuracy", "log_loss", "optimal"]
RULES: tuple[Rule, ...] = get_args(Rule)
SCORES: tuple[Score, ...] = get_args(Score)


def combine(logits: np.ndarray, rule: Rule, weights: np.ndarray | None = None) -> np.ndarray:
    """Combine the members' logits into probabilities.

    Parameters
    ----------
    logits : ndarray of float (M, N, C)
        Of M members for N images and C classes.
    rule : str
        - ``mean``: mean of the members' probabilities (softmax of their logits).
        - ``mean-logits``: softmax of the mean of the logits, that is the normalised geometric mean of the
          probabilities.
        - ``weighted``: mean of probabilities with the given weights.
        - ``vote``: each member votes for its most probable class; the answer is the mean probability of the
        members
          that voted for the winner. Of classes with equally many votes, the one with the largest mean
          probability over all members wins. The most probable class is always the winner, and images still
          have an order for a ROC curve, but the probabilities are too sure of themselves.
    weights : ndarray of float (M,), optional
        Not negative, of a sum above 0; needed by ``weighted``, not used by the others.

    Returns
    -------
    ndarray of float64 (N, C)
        Probabilities; each row sums to 1.

    Examples
    --------
    >>> logits = np.log([[[0.9, 0.1]], [[0.4, 0.6]], [[0.4, 0.6]]])
    >>> combine(logits, "mean").round(3).tolist(), combine(logits, "vote").round(3).tolist()
    ([[0.567, 0.433]], [[0.4, 0.6]])
    """
    logits = np.asarray(logits, dtype=np.float64)
    probabilities = softmax(logits, axis=2)
    if rule == "mean":
        return probabilities.mean(axis=0)
    if rule == "mean-logits":
        return softmax(logits.mean(axis=0), axis=1)
    if rule == "vote":
        return _vote(probabilities)
    if rule != "weighted":
        raise UserError(f"'{rule}' is no rule;", action=did_you_mean(rule, RULES))
    if weights is None or np.any(np.asarray(weights) < 0) or np.sum(weights) <= 0:
        raise UserError(
            f"The weights are {weights}.", "numbers of 0 or more, not all 0, one for each member."
        )
    return np.tensordot(np.asarray(weights) / np.sum(weights), probabilities, axes=1)


def _vote(probabilities: np.ndarray) -> np.ndarray:
    classes = np.arange(probabilities.shape[2])
    ballots = probabilities.argmax(axis=2)[:, :, None] == classes
    # Half a mean probability is below one vote, so it only decides between equally many votes.
    winner = (ballots.sum(axis=0) + probabilities.mean(axis=0) / 2).argmax(axis=1)
    majority = np.take_along_axis(ballots, winner[None, :, None], axis=2)
    return (probabilities * majority).sum(axis=0) / majority.sum(axis=0)


def validation_score(labels: np.ndarray, probabilities: np.ndarray, score: str) -> float:
    """Score probabilities (N, C) as scikit-learn does; NaN where the score is not defined on these labels.

    Parameters
    ----------
    labels : ndarray of int (N,)
        Index of each image's class.
    probabilities : ndarray of float (N, C)
        Of the C classes.
    score : str
        'roc_auc' (of the last class of two; of more the mean of each against the rest), 'accuracy',
        'balanced_accuracy' or 'log_loss' (smaller is better).
    """
    # Seconds to import, which whoever only combines answers does not have to wait for.
    from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss, roc_auc_score

    classes = np.arange(probabilities.shape[1])
    if score == "log_loss":
        return float(log_loss(labels, probabilities, labels=classes))
    if score == "accuracy":
        return float(accuracy_score(labels, probabilities.argmax(axis=1)))
    if len(np.unique(labels)) < len(classes):
        return float("nan")
    if score == "balanced_accuracy":
        return float(balanced_accuracy_score(labels, probabilities.argmax(axis=1)))
    last = probabilities[:, 1] if len(classes) == 2 else probabilities
    return float(roc_auc_score(labels, last, multi_class="ovr", labels=classes))


def choose_weights(logits: np.ndarray, labels: np.ndarray, score: Score) -> np.ndarray:
    """Weigh the members by how well they do on validation images.

    Parameters
    ----------
    logits : ndarray of float (M, N, C)
        Of the validation images only.
    labels : ndarray of int (N,)
        Index of each image's class.
    score : str
        - ``roc_auc``, ``accuracy``, ``balanced_accuracy``: by how far the score is above guessing (0.5, and
        the share
          1 / C), so that a member that guesses has no weight.
        - ``log_loss``: by exp(-log loss), the geometric mean of the probability given to the true class.
        - ``optimal``: the weights of the smallest log loss of the ensemble itself, on the simplex. With few
        validation
          images they follow its noise.

    Returns
    -------
    ndarray of float64 (M,)
        Not negative, summing to 1; equal where no member is better than guessing.

    Raises
    ------
    UserError
        If the score is unknown, or not defined because the validation images lack a class.

    Examples
    --------
    >>> labels = np.array([0, 0, 1, 1])
    >>> good, poor = np.eye(2)[labels] * 4, np.eye(2)[[0, 1, 1, 1]] * 4
    >>> choose_weights(np.stack([good, poor]), labels, "accuracy").round(3).tolist()
    [0.667, 0.333]
    """
    if score not in SCORES:
        raise UserError(f"'{score}' is no score to weigh members by;", action=did_you_mean(score, SCORES))
    probabilities = softmax(np.asarray(logits, dtype=np.float64), axis=2)
    if score == "optimal":
        return _optimal_weights(probabilities, labels)
    scores = np.array([validation_score(labels, member, score) for member in probabilities])
    if not np.isfinite(scores).all():
        raise UserError(
            f"The validation images do not hold every class, so {score} can't weigh the members.",
            "at least one validation image of each class.",
            "Take --score log_loss, or --rule mean.",
        )
    chance = {"roc_auc": 0.5}.get(score, 1 / probabilities.shape[2])
    merit = np.exp(-scores) if score == "log_loss" else np.maximum(scores - chance, 0)
    return merit / merit.sum() if merit.sum() > 0 else np.full(len(merit), 1 / len(merit))


def _optimal_weights(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    from scipy.optimize import minimize

    own = probabilities[:, np.arange(len(labels)), labels]
    members = len(own)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = np.maximum(weights @ own, 1e-12)
        return -float(np.log(mixed).mean()), -(own / mixed).mean(axis=1)

    # Convex, so that the one minimum is found from anywhere.
    found = minimize(
        loss,
        np.full(members, 1 / members),
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * members,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1, "jac": np.ones_like},
    )
    weights = np.clip(found.x, 0, None)
    return weights / weights.sum()
