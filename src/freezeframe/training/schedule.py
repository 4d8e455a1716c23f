"""Learning rates: of each parameter group, over the steps."""

import math
from typing import Any

import torch

from freezeframe.backbones.unfreeze import Unfrozen
from freezeframe.recipe import Recipe

# Where nothing else is said, pretrained layers learn ten times slower than a head that starts from nothing.
BACKBONE_SHARE = 0.1


def parameter_groups(module: torch.nn.Module, unfrozen: Unfrozen, recipe: Recipe) -> list[dict[str, Any]]:
    """Group the trainable parameters by block and by whether weight decay acts on them.

    Parameters
    ----------
    module : Module
        The whole network.
    unfrozen : Unfrozen
        What trains, at most.
    recipe : Recipe
        Learning rates and weight decay.

    Returns
    -------
    list of dict
        For a torch optimiser; ``base_rate`` is the group's learning rate before the schedule.
    """
    groups: dict[tuple[int, bool], list[torch.nn.Parameter]] = {}
    for name in unfrozen.parameters:
        parameter = module.get_parameter(name)
        # Norms and biases are vectors.
        groups.setdefault((unfrozen.block_index[name], parameter.ndim > 1), []).append(parameter)
    # Adapters start from nothing as the head does, and LoRA learns best at about ten times the rate of fine-tuning
    # (Biderman et al., "LoRA Learns Less and Forgets Less", 2024, arXiv:2405.09673).
    share = BACKBONE_SHARE if recipe.adapters is None else 1.0
    backbone_rate = recipe.backbone_learning_rate or recipe.learning_rate * share
    result = []
    for (block, decays), parameters in sorted(groups.items(), key=lambda item: item[0]):
        deepness = max(0, block - 1)
        rate = recipe.learning_rate if block == 0 else backbone_rate * recipe.learning_rate_decay**deepness
        decay = recipe.weight_decay if decays else 0.0
        result.append({"params": parameters, "lr": rate, "base_rate": rate, "weight_decay": decay})
    return result


def rate_factor(recipe: Recipe, progress: float) -> float:
    """Return the factor on the learning rate after so many epochs (with fractions).

    Linear warm-up, then a cosine to zero at the last epoch, or constant; the plateau schedule is constant here and
    is lowered by what happened in validation.

    Examples
    --------
    >>> recipe = Recipe.model_validate({"data": "x", "backbone": "resnet18", "epochs": 10})
    >>> [round(rate_factor(recipe, epoch), 3) for epoch in (0, 5, 10)]
    [1.0, 0.5, 0.0]
    """
    if progress < recipe.warmup_epochs:
        return (progress + 1e-3) / recipe.warmup_epochs
    if recipe.schedule != "cosine":
        return 1.0
    done = (progress - recipe.warmup_epochs) / max(1e-9, recipe.epochs - recipe.warmup_epochs)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
