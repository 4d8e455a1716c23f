"""Where a network looked: Grad-CAM heat maps of a run's trained network."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from captum.attr import LayerAttribution, LayerGradCam
from torch import Tensor, nn

from freezeframe import files
from freezeframe.backbones import zoo
from freezeframe.imaging.preprocess import Preprocessing
from freezeframe.recipe import Recipe
from freezeframe.training.run import BEST

BATCH = 8


def heat_maps(run: Path, images: Sequence[np.ndarray], class_indices: Sequence[int]) -> np.ndarray:
    """Compute Grad-CAM (Selvaraju et al., ICCV 2017) of the last feature map of a run's network.

    Parameters
    ----------
    run : Path
        Folder of a finished run.
    images : sequence of ndarray
        N images as the run's own preprocessing prepares them, (H, W) or (H, W, 3), uint8 or uint16.
    class_indices : sequence of int
        For each image the class whose evidence is shown.

    Returns
    -------
    ndarray of float32 (N, H, W)
        In [0, 1]: each map is divided by its own maximum, and is 0 where nothing speaks for the class.
    """
    status = files.read_json(run / "run.json")
    recipe = Recipe.read(run / "recipe.yaml")
    preprocessing = Preprocessing.from_dict(status["preprocessing"])
    network = zoo.restore(recipe, len(status["classes"]), run / BEST).module.eval()
    batch = torch.from_numpy(preprocessing.normalise(np.stack(images)))
    return gradients(network, batch, torch.as_tensor(class_indices)).numpy()


def gradients(network: nn.Module, inputs: Tensor, classes: Tensor) -> Tensor:
    """Compute Grad-CAM of a network in inference mode.

    Parameters
    ----------
    network : nn.Module
        From (N, 3, H, W) float32 to logits (N, C).
    inputs : Tensor (N, 3, H, W)
        Normalised images.
    classes : Tensor of int64 (N,)
        The logit that is explained for each image.

    Returns
    -------
    Tensor of float32 (N, H, W)
        In [0, 1], at the size of the inputs.
    """
    explainer = LayerGradCam(network, target_layer(network, inputs[:1]))
    maps = []
    for start in range(0, len(inputs), BATCH):
        part = slice(start, start + BATCH)
        found = explainer.attribute(
            inputs[part].clone().requires_grad_(), classes[part], relu_attributions=True
        )
        assert isinstance(found, Tensor)
        grown = LayerAttribution.interpolate(found.detach(), tuple(inputs.shape[2:]), "bilinear")
        assert isinstance(grown, Tensor)
        maps.append(grown[:, 0])
    heat = torch.cat(maps)
    return heat / heat.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(heat.dtype).tiny)


def target_layer(network: nn.Module, example: Tensor) -> nn.Module:
    """Find the module that gives the last feature map: the last to end with an output (1, channels, h, w), h or w > 1.

    A container ends after what is in it. So of a stage and its last layer the stage is taken, which includes a
    shortcut that is added behind that layer.

    Parameters
    ----------
    network : nn.Module
        In inference mode.
    example : Tensor (1, 3, H, W)
        Any input of the right size.
    """
    last = network

    def note(module: nn.Module, _inputs: tuple[Tensor, ...], output: object) -> None:
        nonlocal last
        if isinstance(output, Tensor) and output.ndim == 4 and max(output.shape[2:]) > 1:
            last = module

    handles = [module.register_forward_hook(note) for module in network.modules()]
    try:
        with torch.no_grad():
            network(example)
    finally:
        for handle in handles:
            handle.remove()
    return last
