"""One network on one manifest: which views it trains on, and its training from where it stands to the end."""

import time
from pathlib import Path

import lightning
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger

from freezeframe.backbones.unfreeze import Unfrozen
from freezeframe.data.manifest import Manifest
from freezeframe.imaging import augment
from freezeframe.progress import progress, say
from freezeframe.recipe import Recipe
from freezeframe.training import assembly as assembling
from freezeframe.training.activations import Activations
from freezeframe.training.assembly import Assembly, Choice
from freezeframe.training.batches import EvaluationBatches, TrainingBatches
from freezeframe.training.callbacks import LAST, Advance, Keeper, RestoreOptimiser, Tell, Watch
from freezeframe.training.checkpoints import Checkpoint, Mirror
from freezeframe.training.devices import Team
from freezeframe.training.losses import make_loss
from freezeframe.training.module import SuffixTraining
from freezeframe.training.predict import EVALUATION_BATCH
from freezeframe.training.shared import Shared
from freezeframe.training.teacher import Lessons, Teacher, ask
from freezeframe.training.views import Place

PREDICTED_SPLITS = ("validation", "test")
# Remedies for unequal classes that repeat the images of smaller ones, each time in another view.
COPYING = ("oversample", "mixup")


class Fitting:
    """One network on one manifest.

    Parameters
    ----------
    recipe : Recipe
        All of the training.
    parts : Assembly
        Network, cut, executor and pixels.
    manifest : Manifest
        The readable images with their splits.
    shared : Shared
        What earlier trainings have left.
    """

    def __init__(self, recipe: Recipe, parts: Assembly, manifest: Manifest, shared: Shared) -> None:
        self.recipe, self.parts, self.manifest, self.shared = recipe, parts, manifest, shared
        # Training images come first, so that a place's index is also the index of its label.
        self.train_set = manifest.subset("train")
        self.evaluation_sets = {split: manifest.subset(split) for split in PREDICTED_SPLITS}
        keys = self.train_set.keys()
        self.first: dict[str, int] = {}
        for split, subset in self.evaluation_sets.items():
            self.first[split] = len(keys)
            keys = keys + subset.keys()
        policy = augment.Policy.named(recipe.augment)
        self.n_views = assembling.views_of(recipe, policy)
        seed = recipe.seed if recipe.augment_seed is None else recipe.augment_seed
        self.views = shared.views(parts, keys, self.train_set.keys(), policy, seed)
        self.labels = self.train_set.labels()

    def places(self, split: str) -> list[Place]:
        """Return the images of a split for evaluation, as they are."""
        return [(self.first[split] + row, 0) for row in range(len(self.evaluation_sets[split]))]

    @property
    def training_places(self) -> list[Place]:
        """Every view of the training images that will be used."""
        # Copies that even out the classes take later views than their epoch's.
        copies = self.recipe.imbalance in COPYING
        used = self.n_views if copies else min(self.n_views, self.recipe.epochs)
        return [(index, view) for index in range(len(self.train_set)) for view in range(used)]

    @property
    def evaluation_places(self) -> list[Place]:
        """The validation and test images, once each."""
        return [place for split in PREDICTED_SPLITS for place in self.places(split)]

    def ask(self, teacher: Teacher) -> Lessons:
        """Have the teacher's answers to every view of the training images that will be used."""
        return ask(teacher, self.recipe, self.train_set, self.views, self.training_places)

    def activations(self) -> tuple[Activations, Choice, float]:
        """Choose and prepare what the suffix trains on; with the seconds it took."""
        start = time.monotonic()
        self.parts, source, choice = self.shared.choose(
            self.parts, self.views, self.training_places, self.evaluation_places
        )
        return source, choice, time.monotonic() - start

    def fit(
        self,
        phases: list[tuple[int, Unfrozen]],
        out: Path,
        activations: Activations,
        mirror: Mirror,
        team: Team,
        watch: Watch | None = None,
        lessons: Lessons | None = None,
    ) -> Keeper:
        """Train from where the run stands to its end, together with the other processes of the team.

        `phases` says what trains from which epoch on, in the form that the network has now.
        """
        recipe, parts = self.recipe, self.parts
        batches = TrainingBatches(
            activations,
            self.labels,
            len(self.manifest.classes),
            views=self.n_views,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            oversample=recipe.imbalance in COPYING,
            mix_added=recipe.imbalance == "mixup",
            share=team.share,
            lessons=lessons,
        )
        loss = make_loss(recipe, self.labels, len(self.manifest.classes))
        per_epoch = batches.batches_in(0)
        module = SuffixTraining(recipe, parts.network, parts.cut, phases, loss, per_epoch, team.share)
        stopping = None
        if recipe.patience is not None:
            stopping = EarlyStopping(
                "validation_loss",
                patience=recipe.patience,
                check_on_train_epoch_end=False,
                check_finite=False,
            )
        keeper = Keeper(out, mirror, stopping, recipe.checkpoint_seconds)
        restore, stopped = [], False
        if (out / LAST).exists():
            checkpoint = Checkpoint.read(out / LAST)
            keeper.restore(checkpoint, module)
            restore = [RestoreOptimiser(checkpoint)]
            stopped = checkpoint.state["stopped"]
            say(f"Going on at epoch {module.clock.epoch + 1}, batch {module.clock.batch + 1}.")
        batches.next = module.clock
        epochs = recipe.epochs - module.clock.epoch
        if stopped:
            say(
                f"Training stopped early: {recipe.patience} epochs brought no better validation loss; "
                "more epochs change nothing."
            )
        if epochs <= 0 or stopped:
            return keeper
        module.begin_epoch()
        validation = EvaluationBatches(
            activations,
            [index for index, _ in self.places("validation")],
            self.evaluation_sets["validation"].labels(),
            EVALUATION_BATCH,
            team.share,
        )
        images = epochs * len(batches.places(0)) - module.clock.batch * recipe.batch_size
        with progress(f"Training {out.name}", images) as advance:
            callbacks = [
                *restore,
                *team.callbacks(),
                Advance(advance),
                *([stopping] if stopping else []),
                keeper,
                *([Tell(watch)] if watch else []),
            ]
            team.start()
            trainer = self._trainer(out, epochs, callbacks, team)
            try:
                trainer.fit(module, train_dataloaders=batches, val_dataloaders=validation)
            except SystemExit as stop:
                if trainer.interrupted:  # Lightning turns Ctrl-C into an exit with 1
                    raise KeyboardInterrupt from stop
                raise
        return keeper

    def _trainer(
        self, out: Path, epochs: int, callbacks: list[lightning.Callback], team: Team
    ) -> lightning.Trainer:
        recipe = self.recipe
        mixed = self.parts.device == "cuda"
        precision = ("16-mixed" if mixed else "32-true") if recipe.precision == "auto" else recipe.precision
        return lightning.Trainer(
            max_epochs=epochs,
            accelerator="gpu" if self.parts.device == "cuda" else "cpu",
            devices=recipe.devices,
            num_nodes=recipe.num_nodes,
            strategy=team.strategy(),
            precision={"32": "32-true"}.get(precision, precision),  # pyright: ignore[reportArgumentType]
            deterministic="warn" if recipe.deterministic else False,
            logger=TensorBoardLogger(out, name="", version="tensorboard"),
            callbacks=callbacks,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
