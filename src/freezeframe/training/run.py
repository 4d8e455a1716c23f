"""The run folder: all that one training made. Whoever has the folder can redo the run."""

import functools
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from freezeframe import files, machine
from freezeframe.errors import UserError
from freezeframe.recipe import Recipe

SCHEMA_VERSION = 1
BEST = "checkpoints/best.safetensors"
# What may differ between the first start and a resume, since it changes no number.
HARMLESS = {
    "epochs", "store", "mirror", "checkpoint_seconds", "activations", "max_unreadable", "keep_weights"
}  # fmt: skip
PACKAGES = (
    "freezeframe",
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "onnxruntime",
    "numpy",
    "pillow",
    "pydicom",
)


def read_status(run: Path) -> dict[str, Any]:
    """Read `run.json`; empty where there is none."""
    return files.read_json(run / "run.json") if (run / "run.json").exists() else {}


def write_status(run: Path, **fields: Any) -> None:
    """Change fields of `run.json`."""
    files.write_json(run / "run.json", {"schema_version": SCHEMA_VERSION, **read_status(run), **fields})


def check_same(run: Path, recipe: Recipe) -> None:
    """Refuse to go on in a folder that another recipe began.

    Raises
    ------
    UserError
        With the fields that differ.
    """
    before = Recipe.read(run / "recipe.yaml").to_dict()
    now = recipe.to_dict()
    if Path(now["data"]["path"]).exists() and not Path(before["data"]["path"]).exists():
        # Another machine, where the images lie elsewhere; that they are the same is checked by their content.
        before["data"]["path"] = now["data"]["path"]
    changed = [name for name in now if name not in HARMLESS and now[name] != before[name]]
    if changed:
        differences = "; ".join(f"{name}: {before[name]!r} there, {now[name]!r} now" for name in changed)
        raise UserError(
            f"{run} holds a run of another recipe ({differences}).",
            "the same recipe (epochs may grow).",
            "Choose another --out, or delete the folder.",
        )


@functools.cache
def environment() -> dict[str, Any]:
    """Say what a run was made with: versions, processor, memory, GPU."""
    import torch

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "schema_version": SCHEMA_VERSION,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": machine.available_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "packages": versions,
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
