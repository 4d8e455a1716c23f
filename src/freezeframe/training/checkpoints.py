"""Checkpoints: one safetensors file that holds all of where training stands, so a kill costs seconds and no bit."""

import json
import queue
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from freezeframe import files
from freezeframe.errors import UserError
from freezeframe.progress import say

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """Where training stands.

    Attributes
    ----------
    tensors : dict of str to Tensor
        ``model/``, ``best/`` and ``optimiser/`` tensors by name.
    state : dict
        All else, as plain data.
    """

    tensors: dict[str, torch.Tensor]
    state: dict[str, Any]

    def under(self, prefix: str) -> dict[str, torch.Tensor]:
        """Return the tensors of one part, without the prefix."""
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(prefix)
        }

    def write(self, path: Path) -> None:
        """Write atomically; no pickle."""
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in self.tensors.items()}
        metadata = {"freezeframe": json.dumps({"schema_version": SCHEMA_VERSION, **self.state})}
        files.write_bytes(path, save(tensors, metadata))

    @classmethod
    def read(cls, path: Path) -> "Checkpoint":
        """Read what `write` wrote.

        Raises
        ------
        UserError
            If the file is not such a checkpoint.
        """
        try:
            with safe_open(path, framework="pt") as handle:
                metadata = handle.metadata() or {}
                # .keys() because safe_open has no other iterator
                tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
            state = json.loads(metadata["freezeframe"])
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            raise UserError(
                f"{path} is not a checkpoint of a training ({error}).",
                "the last.safetensors that training wrote.",
                "Delete the run's folder to begin anew, or restore the file from the mirror.",
            ) from error
        return cls(tensors, state)


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Flatten an optimiser's tensors to ``optimiser/<parameter>/<name>``."""
    return {
        f"optimiser/{index}/{name}": torch.as_tensor(value)
        for index, values in optimiser.state_dict()["state"].items()
        for name, value in values.items()
        if value is not None
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Give an optimiser the tensors that `optimiser_tensors` took from it."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for path, tensor in tensors.items():
        index, name = path.split("/", 1)
        state.setdefault(int(index), {})[name] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


class Mirror:
    """Copies files to a second folder in the background, the newest version of each.

    Parameters
    ----------
    run : Path
        The run's folder.
    folder : Path or None
        The second place; None for none.
    """

    def __init__(self, run: Path, folder: Path | None) -> None:
        self.run, self.folder = run, folder
        self._waiting: queue.Queue[str | None] = queue.Queue()
        self._failed = False
        self._thread = threading.Thread(target=self._work, daemon=True) if folder is not None else None
        if self._thread is not None:
            self._thread.start()

    def copy(self, *names: str) -> None:
        """Have files (relative to the run) copied soon."""
        if self._thread is not None:
            for name in names:
                self._waiting.put(name)

    def finish(self) -> None:
        """Wait until all is copied."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        assert self.folder is not None
        while (name := self._waiting.get()) is not None:
            if name in list(self._waiting.queue):
                continue
            try:
                copy_file(self.run / name, self.folder / name)
            except (OSError, UserError) as error:
                if not self._failed:
                    say(f"The mirror {self.folder} can't be written ({error}); training goes on without it.")
                self._failed = True


def copy_file(source: Path, target: Path) -> None:
    """Copy one file atomically."""
    with files.atomic(target) as temporary:
        shutil.copyfile(source, temporary)


def restore_from_mirror(run: Path, mirror: Path | None) -> bool:
    """Fill an empty run folder from its mirror, if that has one.

    Returns
    -------
    bool
        Whether anything was restored.
    """
    if mirror is None or (run / "recipe.yaml").exists() or not (mirror / "recipe.yaml").exists():
        return False
    sources = [
        path for path in sorted(mirror.rglob("*")) if path.is_file() and not path.name.endswith(".partial")
    ]
    # The recipe last: a restored folder that has one is whole.
    for source in sorted(sources, key=lambda path: path.name == "recipe.yaml"):
        copy_file(source, run / source.relative_to(mirror))
    return True
