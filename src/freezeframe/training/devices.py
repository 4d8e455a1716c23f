"""The processes of one training: which this one is, how the others begin and end.

Lightning's DDP strategy makes the group of processes and gives each its device. It is told that the processes were
started from outside, which is so: its own way is to run the user's command or script once more for each of them, and
what a script does before and after the training would be done several times.
"""

import contextlib
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import lightning
import torch
import torch.distributed
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy

from freezeframe import machine
from freezeframe.errors import FreezeframeError, UserError
from freezeframe.progress import console
from freezeframe.recipe import Recipe
from freezeframe.training.callbacks import trainable_state
from freezeframe.training.shares import ALONE, Share

STRATEGIES = ("auto", "ddp")
SECONDS_TO_END = 30.0
# What tells Lightning where a process stands; the first process of a machine has them during a training only.
ADDRESS, PORT, NODE, LOCAL, THREADS = (
    "MASTER_ADDR",
    "MASTER_PORT",
    "NODE_RANK",
    "LOCAL_RANK",
    "OMP_NUM_THREADS",
)


class Replicas(DDPStrategy):
    """Lightning's DDP without its wrapper around the module.

    The wrapper sums gradients after each backward pass, and for one set of parameters. Here a batch may be computed
    in parts, what trains may grow from epoch to epoch, and shares of a batch may be unequal: the step sums its
    gradients itself (`shares.sum_gradients`).
    """

    def configure_ddp(self) -> None:
        """Leave the module as it is."""


def share_of(recipe: Recipe) -> Share:
    """Return which of a training's processes this one is, by what SLURM, torchrun or Lightning's variables say.

    Raises
    ------
    UserError
        If the recipe asks for what isn't there, or other processes were started than it asks for.
    """
    count = recipe.devices * recipe.num_nodes
    if count == 1:
        return ALONE
    _check(recipe, count)
    environment = _environment()
    if isinstance(environment, LightningEnvironment):
        return Share(environment.node_rank() * recipe.devices + environment.local_rank(), count)
    if environment.world_size() != count:
        raise UserError(
            f"{environment.world_size()} processes were started, and the recipe says devices: {recipe.devices}, "
            f"num_nodes: {recipe.num_nodes}.",
            f"{count} processes, one for each device.",
            "Start so many, or change the recipe.",
        )
    return Share(environment.global_rank(), count)


def _check(recipe: Recipe, count: int) -> None:
    if recipe.strategy not in STRATEGIES:
        raise UserError(
            f"The recipe says strategy: {recipe.strategy}.",
            "ddp, or auto, which is the same: each device holds all that trains.",
            "Leave strategy out. Where the network is too large for one device, freeze more of it.",
        )
    if recipe.batch_size < count:
        raise UserError(
            f"The recipe says batch_size: {recipe.batch_size} for {count} devices.",
            "at least one image for each device.",
            f"Set batch_size: {count} or more; it is that of all devices together.",
        )
    if recipe.device != "cpu" and 0 < torch.cuda.device_count() < recipe.devices:
        raise UserError(
            f"The recipe says devices: {recipe.devices}, and this machine has {torch.cuda.device_count()} GPUs.",
            "a GPU for each.",
            "Set devices to their number, or device: cpu.",
        )
    if recipe.num_nodes > 1 and isinstance(_environment(), LightningEnvironment):
        missing = [name for name in (ADDRESS, PORT, NODE) if name not in os.environ]
        if missing:
            raise UserError(
                f"The recipe says num_nodes: {recipe.num_nodes}, and {', '.join(missing)} is not set.",
                "address and port of the first machine, and this machine's number from 0, in the environment.",
                "See `docs/cluster.md`.",
            )


def _environment() -> ClusterEnvironment:
    if SLURMEnvironment.detect():
        return SLURMEnvironment()
    return TorchElasticEnvironment() if TorchElasticEnvironment.detect() else LightningEnvironment()


class Team:
    """The processes of one training on this machine, while it lasts.

    The first one starts the others; they end with it, also when it is killed.

    Parameters
    ----------
    recipe : Recipe
        All of the training.
    out : Path
        The run's folder.

    Attributes
    ----------
    share : Share
        What this process takes of each batch.
    """

    def __init__(self, recipe: Recipe, out: Path) -> None:
        self.recipe, self.out = recipe, out
        self.share = share_of(recipe)
        self._others: list[subprocess.Popen[bytes]] = []
        self._variables: dict[str, str | None] = {}
        self._loud = not console.quiet

    def __enter__(self) -> "Team":
        console.quiet = console.quiet or not self.share.first
        return self

    def strategy(self) -> Any:
        """Return what Lightning's trainer takes as its strategy."""
        return "auto" if self.share.count == 1 else Replicas()

    def callbacks(self) -> list[lightning.Callback]:
        """Return what Lightning's trainer needs besides."""
        return [] if self.share.count == 1 else [Agree()]

    def start(self) -> None:
        """Start the other processes of this machine, where nobody else has."""
        if self.share.count == 1 or _environment().creates_processes_externally:
            return
        threads = max(1, self.recipe.threads or machine.available_cores() // self.recipe.devices)
        torch.set_num_threads(threads)
        variables = {
            ADDRESS: os.environ.get(ADDRESS, "127.0.0.1"),
            PORT: os.environ.get(PORT) or str(_free_port()),
            NODE: os.environ.get(NODE, "0"),
            LOCAL: "0",
            THREADS: str(threads),
        }
        self._variables = {name: os.environ.get(name) for name in (*variables, "WORLD_SIZE")}
        os.environ.update(variables)
        search = os.pathsep.join(part or str(Path.cwd()) for part in sys.path)
        for number in range(1, self.recipe.devices):
            process = subprocess.Popen(
                [sys.executable, "-m", "freezeframe.training.devices", str(self.out)],
                stdin=subprocess.PIPE,
                env={**os.environ, LOCAL: str(number), "PYTHONPATH": search},
            )
            assert process.stdin is not None
            self._others.append(process)
            process.stdin.write(self.recipe.model_dump_json().encode() + b"\n")
            process.stdin.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        dead = []
        try:
            if torch.distributed.is_initialized() and self.share.count > 1:
                if error is None:
                    torch.distributed.barrier()  # until the first one has written the run
                torch.distributed.destroy_process_group()
            for process in self._others:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    # One that has died is what the first one has failed by.
                    dead += [process] if process.wait(SECONDS_TO_END if error is None else 1.0) else []
        finally:
            self._end()
        if isinstance(error, RuntimeError) and dead:
            raise FreezeframeError(
                f"A process of the training ended with code {dead[0].returncode}; what it said stands above. "
                "The same command goes on where it was."
            ) from error

    def _end(self) -> None:
        for process in self._others:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.kill()
            process.wait()
        self._others = []
        for name, value in self._variables.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._variables = {}
        console.quiet = not self._loud


class Agree(lightning.Callback):
    """Makes sure that all processes begin at the same batch with the same weights."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Compare the clocks, and take the first process's weights."""
        clocks: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(clocks, pl_module.clock)
        if len(set(clocks)) > 1:
            raise UserError(
                "The processes of the training found different checkpoints.",
                "one folder for the run that all machines see.",
                "Put --out on storage that they share.",
            )
        for tensor in trainable_state(pl_module.network, pl_module.phases[-1][1]).values():
            torch.distributed.broadcast(tensor.data, 0)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _end_with_the_first() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


def main(arguments: list[str]) -> None:
    """Run another process of a training; it gets the recipe as a line on standard input, which stays open."""
    from freezeframe.training.fit import train

    line = bytearray()
    while not line.endswith(b"\n"):
        piece = os.read(0, 1)
        if not piece:
            return
        line += piece
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    try:
        train(Recipe.model_validate_json(bytes(line)), Path(arguments[0]))
    except FreezeframeError as error:
        print(f"freezeframe: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(sys.argv[1:])
