"""What happens around the steps: checkpoints, the best epoch, progress."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pandas as pd
import torch
from lightning.pytorch.callbacks import EarlyStopping

from freezeframe import files
from freezeframe.backbones.unfreeze import Unfrozen
from freezeframe.errors import UserError
from freezeframe.training.batches import Batch, Clock
from freezeframe.training.checkpoints import Checkpoint, Mirror, optimiser_tensors, restore_optimiser
from freezeframe.training.module import SuffixTraining

Watch = Callable[[int, dict[str, float]], None]

LAST = "checkpoints/last.safetensors"
METRICS = "metrics.csv"


def trainable_state(network: torch.nn.Module, unfrozen: Unfrozen) -> dict[str, torch.Tensor]:
    """Return what training may change: the trainable parameters, and the buffers of the modules that hold them."""
    holders = {name.rpartition(".")[0] for name in unfrozen.parameters}
    changing = {name: network.get_parameter(name) for name in unfrozen.parameters}
    buffers = {name: buffer for name, buffer in network.named_buffers() if name.rpartition(".")[0] in holders}
    return {**changing, **buffers}


class Keeper(lightning.Callback):
    """Keeps the best epoch and writes checkpoints, so that a kill costs at most some seconds of training.

    Parameters
    ----------
    run : Path
        The run's folder.
    mirror : Mirror
        Where checkpoints are copied to.
    early_stopping : EarlyStopping or None
        Whose state belongs into a checkpoint.
    seconds : float
        Longest time between checkpoints.
    """

    def __init__(
        self, run: Path, mirror: Mirror, early_stopping: EarlyStopping | None, seconds: float
    ) -> None:
        self.run, self.mirror, self.early_stopping, self.seconds = run, mirror, early_stopping, seconds
        self.best: dict[str, torch.Tensor] = {}
        self.best_loss, self.best_epoch = math.inf, -1
        self.seconds_before = 0.0
        self._started = self._saved = self._epoch_started = time.monotonic()

    @property
    def training_seconds(self) -> float:
        """Seconds of training, those before a resume included."""
        return self.seconds_before + time.monotonic() - self._started

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clocks."""
        self._started = self._saved = self._epoch_started = time.monotonic()

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Write a checkpoint when it is time; the one at an epoch's end waits for validation."""
        inside = pl_module.clock.batch < pl_module.batches_per_epoch
        if inside and time.monotonic() - self._saved >= self.seconds:
            self.save(trainer, pl_module)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Note the best epoch; the next batch is the first of the next epoch."""
        module: SuffixTraining = pl_module
        row = module.history[-1]
        now = time.monotonic()
        row["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        row["seconds"] = round(now - self._epoch_started, 3)
        self._epoch_started = now
        if module.plateau is not None and row["epoch"] + 1 > module.recipe.warmup_epochs:
            module.plateau.step(row["validation_loss"])
        if row["validation_loss"] < self.best_loss:
            self.best_loss, self.best_epoch = row["validation_loss"], int(row["epoch"])
            state = trainable_state(module.network, module.phases[-1][1])
            self.best = {name: tensor.detach().clone() for name, tensor in state.items()}
        if not self.best:
            raise UserError(
                f"The validation loss of epoch {module.clock.epoch} is {row['validation_loss']}.",
                "a number.",
                "Lower learning_rate, or set clip_gradient: 1.0.",
            )
        module.clock = Clock(module.clock.epoch + 1)
        if now - self._saved >= self.seconds:
            self.save(trainer, pl_module)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Write the last checkpoint, from which a finished run can be extended."""
        self.save(trainer, pl_module)

    def save(self, trainer: lightning.Trainer, module: SuffixTraining) -> None:
        """Write `last.safetensors` and `metrics.csv`; of several processes, the first one does."""
        if not trainer.is_global_zero:
            return
        optimiser = trainer.optimizers[0]
        model = trainable_state(module.network, module.phases[-1][1])
        stopping = self.early_stopping
        checkpoint = Checkpoint(
            tensors={
                **{f"model/{name}": tensor for name, tensor in model.items()},
                **{f"best/{name}": tensor for name, tensor in self.best.items()},
                **optimiser_tensors(optimiser),
            },
            state={
                "clock": [module.clock.epoch, module.clock.batch],
                "best_loss": self.best_loss if self.best else None,
                "best_epoch": self.best_epoch,
                "history": module.history,
                "loss_sum": module.loss_sum,
                "image_count": module.image_count,
                "accumulate": module.accumulate,
                "rates": [group["lr"] for group in optimiser.param_groups],
                "plateau": None if module.plateau is None else _plain(module.plateau.state_dict()),
                "early_stopping": None if stopping is None else _plain(stopping.state_dict()),
                "stopped": bool(trainer.should_stop),
                "precision": trainer.precision_plugin.state_dict(),
                "training_seconds": self.training_seconds,
            },
        )
        checkpoint.write(self.run / LAST)
        if module.history:
            write_metrics(self.run / METRICS, module.history)
            self.mirror.copy(METRICS)
        self.mirror.copy(LAST)
        self._saved = time.monotonic()

    def restore(self, checkpoint: Checkpoint, module: SuffixTraining) -> None:
        """Put all back but the optimiser, which does not exist yet; see `RestoreOptimiser`."""
        state = checkpoint.state
        own = trainable_state(module.network, module.phases[-1][1])
        saved = checkpoint.under("model/")
        if set(own) != set(saved) or any(own[name].shape != saved[name].shape for name in own):
            raise UserError(
                f"{self.run / LAST} is a checkpoint of another network.",
                f"the tensors of {module.recipe.backbone} with unfreeze: {module.recipe.unfreeze}.",
                "Choose another --out, or delete the folder to begin anew.",
            )
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(saved[name])
        self.best = checkpoint.under("best/")
        self.best_loss = math.inf if state["best_loss"] is None else state["best_loss"]
        self.best_epoch = state["best_epoch"]
        self.seconds_before = state["training_seconds"]
        module.clock = Clock(*state["clock"])
        module.history, module.accumulate = state["history"], state["accumulate"]
        module.loss_sum, module.image_count = state["loss_sum"], state["image_count"]
        if self.early_stopping is not None and state["early_stopping"] is not None:
            stopping = {
                **state["early_stopping"],
                "best_score": torch.tensor(state["early_stopping"]["best_score"]),
            }
            self.early_stopping.load_state_dict({**stopping, "patience": self.early_stopping.patience})


class RestoreOptimiser(lightning.Callback):
    """Gives a resumed training's optimiser its state as soon as it exists.

    Parameters
    ----------
    checkpoint : Checkpoint
        Where training stood.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Restore moments, learning rates and the loss scale."""
        optimiser = trainer.optimizers[0]
        restore_optimiser(optimiser, self.checkpoint.under("optimiser/"))
        state = self.checkpoint.state
        for group, rate in zip(optimiser.param_groups, state["rates"], strict=True):
            group["lr"] = rate
        if pl_module.plateau is not None and state["plateau"] is not None:
            pl_module.plateau.load_state_dict(state["plateau"])
        if state["precision"]:
            trainer.precision_plugin.load_state_dict(state["precision"])


class Advance(lightning.Callback):
    """Moves the progress bar by the images that were trained on.

    Parameters
    ----------
    advance : callable
        From `freezeframe.progress.progress`.
    """

    def __init__(self, advance: Callable[[int], None]) -> None:
        self.advance = advance

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Count the batch."""
        self.advance(batch.images)


class Tell(lightning.Callback):
    """Tells somebody about each epoch.

    Parameters
    ----------
    watch : callable
        Takes the epoch, from 0, and its row of `metrics.csv`.
    """

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Pass on the row that `Keeper` has just finished."""
        row = pl_module.history[-1]
        self.watch(row["epoch"], row)


def write_metrics(path: Path, history: list[dict[str, float]]) -> None:
    """Write the training's curves as CSV: one row an epoch."""
    files.write_text(path, pd.DataFrame(history).to_csv(index=False))


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value.item() if isinstance(value, torch.Tensor) else value for name, value in state.items()}
