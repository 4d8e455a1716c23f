"""The trainable suffix as a Lightning module.

Optimisation is manual for one reason: a batch may be computed in parts whose gradients are summed, exactly (but for
the statistics of BatchNorm, which sees the parts), and the number of parts may grow in the middle of training when
memory runs out.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import lightning
import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

from freezeframe.backbones import unfreeze
from freezeframe.backbones.cut import Cut
from freezeframe.backbones.unfreeze import Unfrozen
from freezeframe.backbones.zoo import Network
from freezeframe.errors import UserError
from freezeframe.progress import say
from freezeframe.recipe import Recipe
from freezeframe.seeds import derive_seed
from freezeframe.training.batches import Batch, Clock
from freezeframe.training.cpu_kernels import faster_gradients
from freezeframe.training.losses import Loss
from freezeframe.training.schedule import parameter_groups, rate_factor
from freezeframe.training.shares import (
    ALONE,
    AsWhole,
    Share,
    anybody,
    gathered,
    sum_gradients,
    trains_batch_norm,
)

# The plateau schedule: after so many epochs without a better validation loss, this factor on the learning rate.
PLATEAU_FACTOR = 0.1
PLATEAU_PATIENCE = 3


def run_suffix(cut: Cut, activations: torch.Tensor) -> torch.Tensor:
    """Compute logits (N, C) from flattened activations (N, size)."""
    parts = cut.split(activations)
    images = [
        part.contiguous(memory_format=torch.channels_last) if part.ndim == 4 else part for part in parts
    ]
    return cut.suffix(*images)


class SuffixTraining(lightning.LightningModule):
    """Trains what lies behind the cut.

    Parameters
    ----------
    recipe : Recipe
        All of the training.
    network : Network
        The whole network; the suffix shares its parameters.
    cut : Cut
        Where the frozen part ends, for the latest phase.
    phases : list of (epoch, Unfrozen)
        What trains from which epoch on.
    loss : callable
        From `losses.make_loss`.
    batches_per_epoch : int
        For the schedule.
    share : Share
        What this process takes of each batch, where several train together.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: Network,
        cut: Cut,
        phases: list[tuple[int, Unfrozen]],
        loss: Loss,
        batches_per_epoch: int,
        share: Share = ALONE,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        # Convolutions are up to one and a half times as fast in this layout, on a CPU and on a GPU.
        self.suffix = cut.suffix.to(memory_format=torch.channels_last)
        self.recipe, self.cut, self.phases, self.loss = recipe, cut, phases, loss
        # Not a sub-module: the frozen part neither trains nor travels to the device with the suffix.
        self.whole: list[torch.nn.Module] = [network.module]
        self.batches_per_epoch, self.share = batches_per_epoch, share
        self.accumulate = recipe.accumulate
        self.clock = Clock()
        self.history: list[dict[str, float]] = []
        self.loss_sum, self.image_count = 0.0, 0
        self.plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        self._validation: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    @property
    def network(self) -> torch.nn.Module:
        """The whole network."""
        return self.whole[0]

    @property
    def unfrozen(self) -> Unfrozen:
        """What trains in the current epoch."""
        return [phase for epoch, phase in self.phases if epoch <= self.clock.epoch][-1]

    def train(self, mode: bool = True) -> "SuffixTraining":
        """Put into training mode only what trains: frozen layers stay in inference mode."""
        super().train(mode)
        if mode:
            unfreeze.set_training_mode(self.network, self.unfrozen)
        return self

    def begin_epoch(self) -> None:
        """Set what trains in this epoch."""
        unfreeze.apply(self.network, self.unfrozen)
        self.train()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make the optimiser over all that will ever train."""
        groups = parameter_groups(self.network, self.phases[-1][1], self.recipe)
        optimiser: torch.optim.Optimizer
        if self.recipe.optimiser == "sgd":
            optimiser = torch.optim.SGD(
                groups, momentum=self.recipe.momentum, nesterov=self.recipe.momentum > 0
            )
        else:
            optimiser = torch.optim.AdamW(groups, fused=True)
        if self.recipe.schedule == "plateau":
            self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimiser, factor=PLATEAU_FACTOR, patience=PLATEAU_PATIENCE
            )
        return optimiser

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch to where the suffix is."""
        lessons = None if batch.lessons is None else batch.lessons.to(device)
        inputs, targets = batch.activations.to(device), batch.targets.to(device)
        return replace(batch, activations=inputs, targets=targets, lessons=lessons)

    def forward(self, activations: torch.Tensor) -> torch.Tensor:
        """From flattened activations (N, size) to logits (N, C)."""
        return run_suffix(self.cut, activations)

    def training_step(self, batch: Batch, batch_index: int) -> None:
        """Train on one batch; where memory runs out, in twice as many parts."""
        if batch.clock.batch == 0 or batch.clock.epoch != self.clock.epoch:
            self.clock = batch.clock
            self.begin_epoch()
        self.clock = batch.clock
        optimiser = self._optimiser()
        self._set_rates(optimiser)
        while True:
            loss, failed = 0.0, False
            try:
                loss = self._gradient(batch, optimiser)
            except RuntimeError as error:
                if not _out_of_memory(error) or self.accumulate >= batch.images:
                    raise
                failed = True
                self._refuse_alone(error)
            # Outside the handler, so that the failed step's tensors are let go.
            if self.share.count > 1:
                failed = anybody(failed, self.device)
            if not failed:
                break
            self.accumulate *= 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            say(
                f"Out of memory: batches of {batch.images} are now computed in {self.accumulate} parts "
                "with the gradient summed."
            )
        if self.share.count > 1:
            loss = sum_gradients(self._trained(optimiser), loss)
        if self.recipe.clip_gradient:
            # Gradients still carry the loss scale of mixed precision here, so the limit takes it too.
            scaler = getattr(self.trainer.precision_plugin, "scaler", None)
            scale = 1.0 if scaler is None else scaler.get_scale()
            torch.nn.utils.clip_grad_norm_(self._trained(optimiser), self.recipe.clip_gradient * scale)
        optimiser.step()
        self.loss_sum += loss * batch.images
        self.image_count += batch.images
        self.clock = Clock(batch.clock.epoch, batch.clock.batch + 1)
        self._write_scalars(loss, optimiser)

    def _optimiser(self) -> torch.optim.Optimizer:
        optimiser = self.optimizers()
        assert isinstance(optimiser, torch.optim.Optimizer)  # Lightning's wrapper behaves as one
        return optimiser

    def _trained(self, optimiser: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
        return [parameter for group in optimiser.param_groups for parameter in group["params"]]

    def _refuse_alone(self, error: RuntimeError) -> None:
        """Refuse what one of several processes can't mend: the others wait for its part of a BatchNorm's mean."""
        if self.share.count > 1 and trains_batch_norm(self.suffix):
            raise UserError(
                "A device's memory ran out in the middle of a batch.",
                f"a share of batch_size: {self.recipe.batch_size} that fits.",
                "Begin anew with accumulate: 2, or a smaller batch_size.",
            ) from error

    def _gradient(self, batch: Batch, optimiser: torch.optim.Optimizer) -> float:
        """Compute the gradient of the process's share of a batch; returns its share of the loss."""
        optimiser.zero_grad()
        count = batch.images
        size = -(-count // self.accumulate)
        total = 0.0
        # Dropout and stochastic depth depend on (seed, epoch, batch): a resumed run draws the same.
        torch.manual_seed(derive_seed(self.recipe.seed, "step", batch.clock.epoch, batch.clock.batch))
        for start in range(0, count, size):
            stop = min(start + size, count)
            own = self.share.rows(start, stop)
            activations, targets = batch.activations[own], batch.targets[own]
            lessons = None if batch.lessons is None else batch.lessons[own]
            # The inner one first: what looks beyond its own images has no faster equivalent.
            with faster_gradients(activations), self._as_whole(start, stop):
                logits = self(activations)
            # A process without an image in this part still takes part in it.
            loss = logits.sum()
            if len(targets):
                loss = self.loss(logits, targets, lessons) * (len(targets) / count)
            self.manual_backward(loss)
            total += loss.item()
        return total

    def _as_whole(self, start: int, stop: int) -> AbstractContextManager[object]:
        if self.share.count == 1:
            return nullcontext()
        return AsWhole(stop - start, self.share.within(start, stop))

    def _set_rates(self, optimiser: torch.optim.Optimizer) -> None:
        progress = self.clock.epoch + self.clock.batch / self.batches_per_epoch
        # The first step behind the warm-up still sets the full rate; from then on validation lowers it.
        step = 1 / self.batches_per_epoch
        if self.recipe.schedule == "plateau" and progress >= self.recipe.warmup_epochs + step - 1e-9:
            return
        factor = rate_factor(self.recipe, progress)
        for group in optimiser.param_groups:
            group["lr"] = group["base_rate"] * factor

    def _write_scalars(self, loss: float, optimiser: torch.optim.Optimizer) -> None:
        step = self.clock.epoch * self.batches_per_epoch + self.clock.batch
        if step % 10 == 0 and self.logger is not None:
            writer = self.logger.experiment  # pyright: ignore[reportAttributeAccessIssue]
            writer.add_scalar("train/loss", loss, step)
            writer.add_scalar("train/learning_rate", optimiser.param_groups[0]["lr"], step)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Gather the logits of one batch."""
        self._validation[batch.clock.batch] = (self(batch.activations).float().cpu(), batch.targets.cpu())

    def on_validation_epoch_end(self) -> None:
        """Log what early stopping and the choice of the best epoch look at."""
        parts = gathered(self._validation) if self.share.count > 1 else self._validation
        logits, labels = (torch.cat(column) for column in zip(*parts.values(), strict=True))
        self._validation = {}
        # Without weights and smoothing, so that recipes can be compared.
        loss = F.cross_entropy(logits, labels).item()
        accuracy = (logits.argmax(1) == labels).float().mean().item()
        scores = {"validation_loss": loss, "validation_accuracy": accuracy}
        scores["validation_roc_auc"] = _roc_auc(logits, labels)
        self.log("validation_loss", loss, batch_size=1)
        train_loss = self.loss_sum / max(1, self.image_count)
        self.history.append({"epoch": self.clock.epoch, "train_loss": train_loss, **scores})
        self.loss_sum, self.image_count = 0.0, 0
        if self.logger is not None:
            step = (self.clock.epoch + 1) * self.batches_per_epoch
            for name, value in scores.items():
                writer = self.logger.experiment  # pyright: ignore[reportAttributeAccessIssue]
                writer.add_scalar(name.replace("_", "/", 1), value, step)


def _roc_auc(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Macro one-vs-rest ROC AUC; NaN where a class is missing or a logit is not finite."""
    probabilities = logits.double().softmax(1).numpy()
    if not np.isfinite(probabilities).all() or len(np.unique(labels.numpy())) < probabilities.shape[1]:
        return float("nan")
    if probabilities.shape[1] == 2:
        return float(roc_auc_score(labels.numpy(), probabilities[:, 1]))
    return float(roc_auc_score(labels.numpy(), probabilities, multi_class="ovr"))


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
