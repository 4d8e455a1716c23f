"""Combination rules and weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from factories import synthetic_logits
from freezeframe.cli.ensemble import Rule, Score
from freezeframe.ensemble import rules
from freezeframe.errors import UserError


def members(skills, count=200, classes=2, seed=0):
    labels = np.arange(count) % classes
    return labels, np.stack(
        [synthetic_logits(labels, classes, seed + i, skill) for i, skill in enumerate(skills)]
    )


@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(2, 4)),
    seed=st.integers(0, 99),
    rule=st.sampled_from(rules.RULES),
)
@settings(max_examples=100, deadline=None)
def test_every_rule_gives_probabilities_and_does_not_care_for_the_order_of_the_members(shape, seed, rule):
    logits = np.random.default_rng(seed).normal(0, 3, shape)
    weights = np.arange(1, shape[0] + 1.0)
    found = rules.combine(logits, rule, weights)
    assert np.allclose(found.sum(axis=1), 1)
    assert (found >= 0).all()
    assert np.allclose(found, rules.combine(logits[::-1], rule, weights[::-1]))
    # A constant added to a member's logits is no information.
    assert np.allclose(found, rules.combine(logits + np.arange(shape[0])[:, None, None], rule, weights))


@pytest.mark.parametrize("rule", rules.RULES)
def test_a_single_member_is_itself_under_every_rule(rule):
    _, logits = members([1.0])
    assert np.allclose(rules.combine(logits, rule, np.ones(1)), softmax(logits[0].astype(float), axis=1))


@pytest.mark.parametrize(("rule", "voting"), [("mean", "soft"), ("vote", "hard")])
def test_mean_and_vote_decide_as_scikit_learns_voting_classifier(rule, voting):
    random = np.random.default_rng(0)
    features, labels = random.normal(0, 1, (90, 4)), random.integers(0, 2, 90)
    models = [
        (str(c), LogisticRegression(C=c, class_weight={0: 1, 1: w}))
        for c, w in ((0.1, 1), (1, 1.3), (10, 0.8))
    ]
    reference = VotingClassifier(models, voting=voting).fit(features, labels)
    logits = np.log([model.predict_proba(features) for model in reference.estimators_])
    found = rules.combine(logits, rule)
    assert (found.argmax(axis=1) == reference.predict(features)).all()
    assert len({tuple(votes) for votes in logits.argmax(axis=2).T}) > 2
    if voting == "soft":
        assert np.allclose(found, reference.predict_proba(features))


def test_an_even_vote_goes_to_the_larger_mean_probability():
    logits = np.log([[[0.9, 0.1]], [[0.4, 0.6]]])
    found = rules.combine(logits, "vote")
    assert np.allclose(found, [[0.9, 0.1]])


def test_mean_logits_is_the_geometric_mean():
    probabilities = np.array([[[0.9, 0.1]], [[0.5, 0.5]]])
    expected = np.sqrt(probabilities[0] * probabilities[1])
    assert np.allclose(rules.combine(np.log(probabilities), "mean-logits"), expected / expected.sum())


@pytest.mark.parametrize("score", rules.SCORES)
def test_a_member_that_guesses_weighs_less_than_one_that_knows(score):
    labels, logits = members([2.5, 0.0])
    weights = rules.choose_weights(logits, labels, score)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    assert weights[0] > 0.55


def test_optimal_weights_have_the_smallest_log_loss_of_a_grid():
    labels, logits = members([1.5, 1.0, 0.3], seed=3)
    best = rules.choose_weights(logits, labels, "optimal")
    smallest = log_loss(labels, rules.combine(logits, "weighted", best))
    for first in np.linspace(0, 1, 21):
        for second in np.linspace(0, 1 - first, 21):
            weights = np.array([first, second, max(1 - first - second, 0)])
            assert smallest <= log_loss(labels, rules.combine(logits, "weighted", weights)) + 1e-6


def test_no_member_better_than_guessing_leaves_equal_weights():
    labels, logits = members([1.0, 1.0])
    assert rules.choose_weights(-logits, labels, "roc_auc").tolist() == [0.5, 0.5]


def test_the_validation_auc_of_three_classes_is_scikit_learns():
    labels, logits = members([1.0], classes=3)
    probabilities = softmax(logits[0], axis=1)
    expected = np.mean([roc_auc_score(labels == i, probabilities[:, i]) for i in range(3)])
    assert rules.validation_score(labels, probabilities, "roc_auc") == pytest.approx(expected)


def test_a_missing_class_is_said_and_a_misspelt_word_mended():
    labels, logits = members([1.0, 1.0])
    with pytest.raises(UserError, match="do not hold every class"):
        rules.choose_weights(logits, np.zeros_like(labels), "roc_auc")
    with pytest.raises(UserError, match="did you mean 'roc_auc'"):
        rules.choose_weights(logits, labels, "roc-auc")
    with pytest.raises(UserError, match="did you mean 'weighted'"):
        rules.combine(logits, "weigthed")
    with pytest.raises(UserError, match="numbers of 0 or more"):
        rules.combine(logits, "weighted", np.zeros(2))


def test_the_command_line_offers_the_same_words():
    assert tuple(Rule) == rules.RULES
    assert tuple(Score) == rules.SCORES
