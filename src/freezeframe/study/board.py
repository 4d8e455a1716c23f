"""What a study's progress looks like: who is at what, the best so far, the time left."""

import time
from dataclasses import dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from freezeframe.progress import duration

SHOWN = 6
# Of the measures that a study can compare by, those that each epoch of a training reports.
REPORTED = {"roc_auc": "validation_roc_auc", "accuracy": "validation_accuracy", "log_loss": "validation_loss"}


@dataclass
class Seat:
    """What one worker process is at.

    Attributes
    ----------
    what : str
        For a person: a training's name, or a step such as decoding.
    cell : str
        The training, '' for none.
    done, total : int
        How far it is.
    unit : str
        Of what.
    """

    what: str = "starting"
    cell: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""


@dataclass
class Board:
    """The state of a study while it runs.

    Attributes
    ----------
    total : int
        Trainings of the study.
    metric : str
        What they are compared by.
    estimates : dict
        Seconds that each training was estimated to take, where there is a plan.
    """

    total: int
    metric: str
    estimates: dict[str, float] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    pruned: set[str] = field(default_factory=set)
    scores: dict[str, float] = field(default_factory=dict)
    seats: dict[int, Seat] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    _begun: float = field(default_factory=time.monotonic)
    _here: set[str] = field(default_factory=set)

    @property
    def measure(self) -> str:
        """The reported measure that is nearest to what the study compares by."""
        return self.metric if self.metric in REPORTED else "roc_auc"

    @property
    def left(self) -> int:
        """Trainings that are neither finished nor given up."""
        return max(0, self.total - len(self.finished) - len(self.failed) - len(self.pruned))

    def hear(self, number: int, event: dict[str, Any]) -> str | None:
        """Take in an event of a worker; returns the line that tells a log of it, if it is worth one."""
        seat = self.seats.setdefault(number, Seat())
        kind, name = event["event"], event.get("cell", "")
        if kind == "progress":
            # A training is followed by its epochs.
            if not seat.cell:
                seat.what, seat.done, seat.total, seat.unit = (
                    event["what"], event["done"], event["total"], event["unit"],
                )  # fmt: skip
            return None
        if kind == "begun":
            self.seats[number] = Seat(name, name, 0, event["epochs"], "epochs")
            return None
        if kind == "epoch":
            seat.done = event["epoch"]
            score = event["validation"].get(REPORTED[self.measure])
            if score is not None and score == score:
                best = min if self.measure == "log_loss" else max
                self.scores[name] = best(score, self.scores.get(name, score))
            return None
        self.seats[number] = Seat("waiting")
        if kind == "finished":
            self.finished.add(name)
            self._here.add(name)
            shown = f"{self.scores[name]:.4f}" if name in self.scores else "none"
            return (
                f"{self._count()} {name}: {self.measure} on validation {shown}, {duration(event['seconds'])}."
            )
        if kind == "failed":
            self.failed[name] = event["error"]
            return f"{self._count()} {name} failed: {event['error']}"
        if kind == "pruned":
            self.pruned.add(name)
            return f"{self._count()} {name}: stopped early, as it is worse than others."
        return event.get("message") if kind == "note" else None

    def take_over(self, other: "Board", elapsed: float) -> None:
        """Become what another process's board is, which began so many seconds ago."""
        vars(self).update(vars(other))
        self._begun = time.monotonic() - elapsed

    def seconds_left(self) -> float | None:
        """Estimate the seconds left from what was done since this process began; None before there is any."""
        elapsed = time.monotonic() - self._begun
        if not self._here:
            return None
        weight = {name: self.estimates.get(name, 1.0) for name in self._here}
        done = sum(weight.values())
        running = [seat for seat in self.seats.values() if seat.cell and seat.total]
        done += sum(seat.done / seat.total * self.estimates.get(seat.cell, 1.0) for seat in running)
        mean = sum(self.estimates.values()) / len(self.estimates) if self.estimates else 1.0
        known = sum(
            value
            for name, value in self.estimates.items()
            if name not in self.finished | self.pruned and name not in self.failed
        )
        remaining = known if self.estimates else self.left * mean
        remaining -= sum(seat.done / seat.total * self.estimates.get(seat.cell, 1.0) for seat in running)
        return max(0.0, elapsed / max(done, 1e-9) * remaining)

    def _count(self) -> str:
        seconds = self.seconds_left()
        left = f", {duration(seconds)} left" if seconds is not None and self.left else ""
        return f"[{self.total - self.left}/{self.total}{left}]"

    def __rich__(self) -> Group:
        """Draw the board for a terminal."""
        seconds = self.seconds_left()
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(f"{self.total - self.left} of {self.total} trainings", style="bold"),
            ProgressBar(self.total, self.total - self.left, width=30),
            Text(f"{duration(seconds)} left" if seconds is not None else "", style="cyan"),
            Text(f"{len(self.failed)} failed" if self.failed else "", style="red"),
            Text(f"{len(self.pruned)} stopped early" if self.pruned else "", style="dim"),
        )
        now = Table.grid(padding=(0, 2))
        for number, seat in sorted(self.seats.items()):
            share = f"{seat.done:,} of {seat.total:,} {seat.unit}" if seat.total else ""
            now.add_row(Text(f"{number + 1}", style="dim"), Text(seat.what), Text(share, style="cyan"))
        best = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        best.add_column("best so far")
        best.add_column(f"{self.measure} on validation", justify="right")
        sign = 1 if self.measure == "log_loss" else -1
        for name, score in sorted(self.scores.items(), key=lambda item: sign * item[1])[:SHOWN]:
            best.add_row(Text(name), f"{score:.4f}")
        return Group(head, now, *([best] if self.scores else []))
