"""Losses and class weights against scikit-learn and plain arithmetic."""

import numpy as np
import torch
from sklearn.utils.class_weight import compute_class_weight

from freezeframe.recipe import Recipe
from freezeframe.training.losses import class_weights, make_loss

LABELS = np.array([0] * 8 + [1] * 2)


def recipe(**fields) -> Recipe:
    return Recipe.parse({"data": "x", "backbone": "resnet18", **fields})


def test_class_weights_are_scikit_learns_balanced_ones():
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=LABELS)
    assert np.allclose(class_weights(LABELS, 2).numpy(), expected)


def test_focal_loss_is_the_papers_formula():
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    probability = logits.softmax(1)[range(6), targets]
    expected = -((1 - probability) ** 2 * probability.log()).mean()
    assert torch.allclose(make_loss(recipe(imbalance="focal"), LABELS, 3)(logits, targets), expected)


def test_focal_loss_without_focus_is_cross_entropy_also_with_smoothing_and_mixed_labels():
    torch.manual_seed(0)
    logits = torch.randn(6, 3)
    mixed = torch.rand(6, 3).softmax(1)
    focal = make_loss(recipe(imbalance="focal", focal_gamma=0, label_smoothing=0.1), LABELS, 3)
    plain = make_loss(recipe(label_smoothing=0.1), LABELS, 3)
    assert torch.allclose(focal(logits, mixed), plain(logits, mixed))
    assert torch.allclose(focal(logits, torch.arange(6) % 3), plain(logits, torch.arange(6) % 3))


def test_weights_count_a_rare_image_more():
    weighted = make_loss(recipe(imbalance="weights"), LABELS, 2)
    sure_of_common = torch.tensor([[3.0, 0.0], [3.0, 0.0]])
    assert weighted(sure_of_common, torch.tensor([0, 1])) > make_loss(recipe(), LABELS, 2)(
        sure_of_common, torch.tensor([0, 1])
    )


def test_the_weighted_loss_of_a_batch_is_the_sum_of_its_parts():
    torch.manual_seed(0)
    logits, targets = torch.randn(8, 2), torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])
    loss = make_loss(recipe(imbalance="weights"), LABELS, 2)
    parts = (loss(logits[:4], targets[:4]) + loss(logits[4:], targets[4:])) / 2
    assert torch.allclose(loss(logits, targets), parts)
