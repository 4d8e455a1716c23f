"""The trials of a search: processes ask Optuna for the next one, train it, and tell it the score.

search.json          which search it is: its name in the database, and a hash of what its trials depend on
search.db            the trials, a SQLite file, unless `storage:` names another database
trials.json          the trials as they stood when one last began or ended: whoever reads results needs no database
clock.json           how long the search has been running, for a budget in minutes

A trial is RUNNING in the database from the moment it is asked for until its score is told, and whoever trains it holds
the claim on its name. A RUNNING trial whose claim is free was left by a process that died: the next one takes it up
under the same number, and its run goes on from its checkpoint.
"""

import contextlib
import math
import os
import sqlite3
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from freezeframe import files
from freezeframe.errors import UserError
from freezeframe.evaluation import metrics
from freezeframe.seeds import derive_seed
from freezeframe.study.board import REPORTED
from freezeframe.study.budget import tick
from freezeframe.study.cells import Cell
from freezeframe.study.folder import StudyFolder
from freezeframe.study.results import read_predictions
from freezeframe.study.space import Point, Space
from freezeframe.study.spec import Study

if TYPE_CHECKING:
    import optuna

SCHEMA_VERSION = 1
DATABASE_SECONDS = 60.0
# The median of fewer trials than these says too little to stop one by it: of finished trials, and of those that came
# to the same epoch. (Optuna's own default for the first; the second keeps the survivors of early stopping from
# being the only judges of later epochs.)
TRIALS_BEFORE_PRUNING, TRIALS_AT_EPOCH = 5, 3
# What Optuna calls them, and what the study's folder does.
STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "RUNNING": "running", "FAIL": "failed"}
# Of a trial's epochs, the share that passes before it may be stopped.
EPOCHS_BEFORE_PRUNING = 0.2


class Hopeless(Exception):  # noqa: N818 (an outcome, not an error)
    """Ends the training of a trial that is worse than half of the others so far."""


@dataclass(frozen=True)
class Trial:
    """A trial that this process is at.

    Attributes
    ----------
    number : int
        From 0, which is the base recipe.
    cell : Cell
        Its training.
    asked : optuna.Trial
        What Optuna knows of it.
    prunable : bool
        Whether it may be stopped early.
    """

    number: int
    cell: Cell
    asked: "optuna.Trial"
    prunable: bool

    def observe(self, epoch: int, value: float) -> bool:
        """Report a score on the validation images; returns whether going on is hopeless.

        Parameters
        ----------
        epoch : int
            From 0.
        value : float
            In the measure that the study's board shows.
        """
        from optuna.exceptions import StorageInternalError

        if not math.isfinite(value):
            return False
        # A report that the database did not take costs nothing but a chance to stop early.
        with contextlib.suppress(StorageInternalError):
            # A resumed training comes again through epochs that it has reported already.
            known = self.asked.study.get_trials(deepcopy=False)[self.number].intermediate_values
            if epoch not in known:
                self.asked.report(value, epoch)
                return self.prunable and self.asked.should_prune()
        return False


def trial_name(number: int) -> str:
    """Return the name of a trial's training.

    Examples
    --------
    >>> trial_name(7)
    'trial-0007'
    """
    return f"trial-{number:04d}"


class Trials:
    """The trials of a search, which all processes share that work at its folder.

    Parameters
    ----------
    study : Study
        With a search.
    folder : StudyFolder
        Where.

    Raises
    ------
    UserError
        If the space won't do, the database can't be reached, or the folder holds another search.
    """

    def __init__(self, study: Study, folder: StudyFolder) -> None:
        assert study.search is not None
        self._study, self._search, self._folder = study, study.search, folder
        self.space = Space(study)
        self._base, self._base_inside = self.space.base()
        self._grid = self._grid_points() if self._search.sampler == "grid" else None
        with self._lock():
            self._check_same()
            self._trials = self._open()

    @property
    def limit(self) -> int | None:
        """The most trials, the base recipe among them; None where only time ends the search."""
        if self._grid is None:
            return self._search.trials
        return len(self._grid) if self._search.trials is None else min(len(self._grid), self._search.trials)

    @contextlib.contextmanager
    def take(self) -> Iterator[Trial | None]:
        """Hold a trial to be trained: one that a process which died has left, or else a new one.

        Yields
        ------
        Trial or None
            None where there is none to be had: the budget is spent, and others are at what is left.
        """
        with ExitStack() as held:
            with self._lock():
                trial = self._abandoned(held) or self._new(held)
                self._write_snapshot()
            yield trial

    def finish(self, trial: Trial) -> None:
        """Tell how a trial ended, as its folder says."""
        with self._lock():
            self._tell(trial.asked)
            self._write_snapshot()

    def settle(self) -> None:
        """Tell of trials that ended while the process that was at them did not live to tell."""
        with ExitStack() as held, self._lock():
            for frozen in self._running():
                if held.enter_context(self._folder.claim(trial_name(frozen.number))):
                    self._tell(self._again(frozen))
            self._write_snapshot()

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        # One at a time asks, so that the budget is exact and no trial is planned in ignorance of another.
        return files.exclusive(self._folder.path / "claims" / "search.lock")

    def _check_same(self) -> None:
        """Refuse to go on with a search whose trials were other ones; its budget may grow."""
        path = self._folder.path / "search.json"
        content = self._study.to_dict()
        asked = {name: content["search"][name] for name in ("space", "storage")}
        digest = files.sha256_json([self._study.base, self._study.seeds, self._study.metric, asked])
        if not path.exists():
            # One database may hold the searches of many folders.
            name = f"{self._study.name}-{uuid.uuid4().hex[:12]}"
            files.write_json(path, {"schema_version": SCHEMA_VERSION, "name": name, "search_sha256": digest})
        elif files.read_json(path)["search_sha256"] != digest:
            raise UserError(
                f"{self._folder.path} holds another search: its recipe, space, metric or storage was different.",
                "the same ones; trials, minutes, sampler and pruning may change.",
                "Choose another --out, or delete the folder.",
            )

    def _open(self) -> "optuna.Study":
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # Samplers and storages that Optuna calls experimental are part of all its versions that we allow.
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        lower = self._study.metric in metrics.LOWER_IS_BETTER
        url, options = self._database()
        try:
            return optuna.create_study(
                storage=optuna.storages.RDBStorage(url, engine_kwargs=options),
                study_name=files.read_json(self._folder.path / "search.json")["name"],
                direction="minimize" if lower else "maximize",
                sampler=optuna.samplers.RandomSampler(),
                pruner=self._pruner(),
                load_if_exists=True,
            )
        except (SQLAlchemyError, ImportError, OSError, optuna.exceptions.StorageInternalError) as error:
            raise UserError(
                f"The trials' database can't be opened ({error}).",
                "a database that can be reached: see `search: storage:`.",
                "Check that it runs. For PostgreSQL: pip install 'freezeframe[cluster]', and "
                "storage: postgresql+pg8000://user:password@host/database.",
            ) from error

    def _database(self) -> tuple[str, dict[str, Any]]:
        if self._search.storage is not None:
            # $NAME stands for a variable of the environment, so that a password need not be in the file.
            return os.path.expandvars(self._search.storage), {"pool_pre_ping": True}
        path = self._folder.path / "search.db"
        # Readers and one writer work side by side; the mode is a property of the file.
        with contextlib.closing(sqlite3.connect(path, timeout=DATABASE_SECONDS)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        return f"sqlite:///{path}", {"connect_args": {"timeout": DATABASE_SECONDS}}

    def _pruner(self) -> "optuna.pruners.BasePruner":
        from optuna import pruners

        if not self._search.pruning:
            return pruners.NopPruner()
        epochs = self.space.cell("", {}).recipe.epochs
        return pruners.MedianPruner(
            n_startup_trials=TRIALS_BEFORE_PRUNING,
            n_warmup_steps=max(1, math.ceil(EPOCHS_BEFORE_PRUNING * epochs)),
            n_min_trials=TRIALS_AT_EPOCH,
        )

    def _sampler(self, number: int) -> "optuna.samplers.BaseSampler":
        """Make a sampler whose choice depends on the seed, the number and the trials before it, and on nothing else."""
        from optuna import samplers

        seed = derive_seed(self._study.seeds[0], "search", number) % 2**32
        if self._search.sampler == "tpe":
            # Groups let fields that are asked for only sometimes be modelled together with the others. The liar
            # takes running trials for bad ones, so that processes side by side do not all try the same place.
            return samplers.TPESampler(
                seed=seed, multivariate=True, group=self.space.conditional, constant_liar=True
            )
        if self._search.sampler == "gp":
            return samplers.GPSampler(seed=seed, warn_independent_sampling=False)
        return samplers.RandomSampler(seed=seed)

    def _grid_points(self) -> list[Point]:
        points = list(self.space.combinations())
        return [self._base, *(point for point in points if not self._base_inside or point != self._base)]

    def _running(self) -> list["optuna.trial.FrozenTrial"]:
        from optuna.trial import TrialState

        return self._trials.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def _again(self, frozen: "optuna.trial.FrozenTrial") -> "optuna.Trial":
        import optuna

        return optuna.Trial(self._trials, frozen._trial_id)

    def _abandoned(self, held: ExitStack) -> Trial | None:
        for frozen in self._running():
            name = trial_name(frozen.number)
            if not held.enter_context(self._folder.claim(name)):
                continue
            asked = self._again(frozen)
            if self._folder.state(name) != "waiting":
                self._tell(asked)
            elif (trial := self._begin(asked)) is not None:
                return trial
        return None

    def _new(self, held: ExitStack) -> Trial | None:
        from optuna.trial import TrialState

        while self._budget_left():
            known = self._trials.get_trials(deepcopy=False)
            # One that was put into the queue by a process that died before it took it out is the last.
            queued = bool(known) and known[-1].state == TrialState.WAITING
            number = len(known) - queued
            fixed = self._fixed(number)
            if fixed is not None and not queued:
                self._trials.enqueue_trial(fixed)
            self._trials.sampler = self._sampler(number)
            asked = self._trials.ask()
            held.enter_context(self._folder.claim(trial_name(asked.number)))
            if (trial := self._begin(asked)) is not None:
                return trial
        return None

    def _fixed(self, number: int) -> Point | None:
        """Return the point of a trial that no sampler chooses."""
        if self._grid is not None:
            return self._grid[number]
        return self._base if number == 0 else None

    def _budget_left(self) -> bool:
        from optuna.trial import TrialState

        begun = sum(trial.state != TrialState.WAITING for trial in self._trials.get_trials(deepcopy=False))
        minutes = self._search.minutes
        in_time = minutes is None or tick(self._folder) < 60 * minutes
        return in_time and (self.limit is None or begun < self.limit)

    def _begin(self, asked: "optuna.Trial") -> Trial | None:
        """Complete a trial's point and its row in `cells.json`; None where its recipe won't do, which is recorded."""
        name = trial_name(asked.number)
        self._trials.sampler = self._sampler(asked.number)
        if asked.number == 0 and not self._base_inside:
            point = self._base
        else:
            point = self.space.walk(lambda axis: axis.suggest(asked))
        try:
            cell = self.space.cell(name, point)
        except UserError as error:
            self._folder.record_failure(name, "UserError", str(error), "")
            self._tell(asked)
            return None
        self._folder.add_cell(self._study, cell)
        return Trial(asked.number, cell, asked, prunable=asked.number > 0)

    def _tell(self, asked: "optuna.Trial") -> None:
        """Tell Optuna what the folder says of a trial; nothing where it is still to be trained."""
        from optuna.trial import TrialState

        name = trial_name(asked.number)
        state = self._folder.state(name)
        if state == "waiting":
            return
        run = self._folder.run(name) / "run.json"
        if run.exists():
            # As the run says them: by the database's clock a trial that was resumed would include the time between.
            seconds = files.read_json(run).get("seconds", {}).get("total")
            asked.set_user_attr("seconds", seconds)
        value = self._value(name) if state == "finished" else math.nan
        if state == "pruned":
            self._trials.tell(asked, state=TrialState.PRUNED)
        elif math.isnan(value):
            self._trials.tell(asked, state=TrialState.FAIL)
        elif asked.number == 0 and not self._base_inside:
            # The base recipe is no point of the space, so samplers must not see it: they leave out what failed.
            asked.set_user_attr("value", value)
            self._trials.tell(asked, state=TrialState.FAIL)
        else:
            self._trials.tell(asked, value)

    def _value(self, name: str) -> float:
        """Return the score of a finished trial's best epoch on the validation images; NaN where it has none."""
        run = self._folder.run(name)
        classes = tuple(files.read_json(run / "run.json")["classes"])
        positive = classes.index(self._study.positive) if self._study.positive in classes else -1
        try:
            answers = read_predictions(run, classes)["validation"]
        except (OSError, ValueError, KeyError):
            return math.nan
        scores = metrics.score(answers.labels, answers.probabilities, classes, positive)
        return float(scores[self._study.metric][0])

    def _write_snapshot(self) -> None:
        rows = []
        for frozen in self._trials.get_trials(deepcopy=False):
            if frozen.state.name == "WAITING":
                continue
            outside = frozen.number == 0 and not self._base_inside
            value = frozen.user_attrs.get("value", frozen.value)
            state = STATES[frozen.state.name]
            rows.append(
                {
                    "trial": frozen.number,
                    "name": trial_name(frozen.number),
                    "state": "finished" if "value" in frozen.user_attrs else state,
                    # A stopped trial's last report is in another measure where the study's is not reported.
                    "value": value if state != "pruned" or self._study.metric in REPORTED else None,
                    "seconds": frozen.user_attrs.get("seconds"),
                    "in_space": not outside,
                    "point": self._base if outside else frozen.params,
                }
            )
        content = {"schema_version": SCHEMA_VERSION, "limit": self.limit, "trials": rows}
        path = self._folder.path / "trials.json"
        if not path.exists() or files.read_json(path) != content:
            files.write_json(path, content)


def reported(study: Study, row: Mapping[str, float]) -> float:
    """Return of an epoch's row the measure by which trials are stopped: the study's where it is reported, else the AUC.

    Examples
    --------
    >>> study = Study.parse({"recipe": {"data": "images/", "backbone": "resnet18"}, "metric": "log_loss"})
    >>> reported(study, {"validation_loss": 0.25, "validation_roc_auc": 0.875})
    0.25
    """
    return row.get(REPORTED.get(study.metric, REPORTED["roc_auc"]), math.nan)
