"""The space of a search: which values each field may take, and which fields are asked for at all.

Optuna knows numbers and words only, so a choice goes there by its label (``{layers: 4}`` is 'layers 4'). What Optuna
holds of a trial is called its point: field -> number or label.
"""

import math
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from freezeframe.errors import UserError, did_you_mean
from freezeframe.recipe import SECTIONS, Recipe
from freezeframe.study.cells import Cell, label_of
from freezeframe.study.spec import Range, Study

if TYPE_CHECKING:
    import optuna

Scalar = str | int | float
Point = dict[str, Scalar]


@dataclass(frozen=True)
class Axis:
    """One field of the space.

    Attributes
    ----------
    name : str
        The recipe's field.
    when : dict
        What other fields have to be, so that this one is asked for.
    choices : dict
        Label -> value; empty where it is a range of numbers.
    low, high : float
        Ends of that range, both in it.
    step : float or None
        Distance of its values.
    log : bool
        Whether they are drawn evenly in the logarithm.
    whole : bool
        Whether only whole numbers will do.
    """

    name: str
    when: dict[str, Any]
    choices: dict[str, Any]
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    whole: bool = False

    def value(self, scalar: Scalar) -> Any:
        """Return what the recipe gets."""
        return self.choices[str(scalar)] if self.choices else scalar

    def label(self, scalar: Scalar) -> str:
        """Return what a person reads."""
        return f"{scalar:.3g}" if isinstance(scalar, float) else str(scalar)

    def distribution(self) -> "optuna.distributions.BaseDistribution":
        """Return it in Optuna's words.

        Raises
        ------
        UserError
            If low, high, log and step don't go together.
        """
        from optuna import distributions

        if self.choices:
            return distributions.CategoricalDistribution(list(self.choices))
        try:
            if self.whole:
                return distributions.IntDistribution(
                    int(self.low), int(self.high), self.log, int(self.step or 1)
                )
            return distributions.FloatDistribution(self.low, self.high, self.log, self.step)
        except ValueError as error:
            raise UserError(
                f"search: space: {self.name}: {error}", "low, high, and either log: true or a step."
            ) from error

    def suggest(self, trial: "optuna.Trial") -> Scalar:
        """Ask for a value; the same trial answers the same again."""
        if self.choices:
            return trial.suggest_categorical(self.name, list(self.choices))
        if self.whole:
            step = int(self.step or 1)
            return trial.suggest_int(self.name, int(self.low), int(self.high), step=step, log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)

    def scalars(self) -> list[Scalar]:
        """Return all values, for a grid.

        Raises
        ------
        UserError
            If there is no end of them.
        """
        if self.choices:
            return list(self.choices)
        if self.whole:
            return list(range(int(self.low), int(self.high) + 1, int(self.step or 1)))
        if self.step is None:
            raise UserError(
                f"search: space: {self.name} is all numbers from {self.low} to {self.high}, and the sampler is "
                "grid.",
                "a list of choices, or a step.",
                "Say which values, or choose another sampler.",
            )
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        return [round(self.low + index * self.step, 12) for index in range(count)]

    def contains(self, value: Any) -> bool:
        """Whether a number lies in the range and on its steps."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        step = self.step or (1 if self.whole else None)
        steps = (value - self.low) / step if step else 0.0
        return self.low <= value <= self.high and abs(steps - round(steps)) < 1e-9


class Space:
    """The fields of a search, in an order in which each comes after those that it depends on.

    Parameters
    ----------
    study : Study
        With a search.

    Raises
    ------
    UserError
        If a value won't do in the recipe, or a condition names an unknown field or itself.
    """

    def __init__(self, study: Study) -> None:
        assert study.search is not None
        if study.folds is not None or len(study.seeds) != 1:
            raise UserError(
                "A search trains each trial once, and the study asks for several folds or seeds.",
                "one seed, and no folds.",
                "Search first, then repeat the best trials in a grid.",
            )
        self._study = study
        space = study.search.space
        for name, one in space.items():
            for other in one.when:
                if other not in space:
                    raise UserError(
                        f"search: space: {name} depends on '{other}', which is not searched; "
                        f"{did_you_mean(other, space)}",
                        "another field of the space.",
                    )
        try:
            order = list(
                TopologicalSorter({name: list(one.when) for name, one in space.items()}).static_order()
            )
        except CycleError as error:
            raise UserError(
                f"search: space: these fields depend on each other: {', '.join(error.args[1])}.",
                "a field that is asked for without a condition.",
            ) from error
        self.axes = [_axis(name, space[name]) for name in order]
        self.conditional = any(one.when for one in space.values())
        for axis in self.axes:
            self._check(axis, space[axis.name])

    def walk(self, choose: Callable[[Axis], Scalar | None]) -> Point:
        """Choose a value for each field that is asked for; one that gets None stays as the recipe has it."""
        point: Point = {}
        for axis in self.axes:
            if self.asked(axis, point) and (scalar := choose(axis)) is not None:
                point[axis.name] = scalar
        return point

    def asked(self, axis: Axis, point: Point) -> bool:
        """Whether a field is asked for where those before it have these values."""
        axes = {one.name: one for one in self.axes}

        def holds(name: str, wanted: Any) -> bool:
            if name not in point:
                return False
            value, label = axes[name].value(point[name]), str(point[name])
            several = wanted if isinstance(wanted, list) else [wanted]
            return any(one in (value, label) for one in several)

        return all(holds(name, wanted) for name, wanted in axis.when.items())

    def combinations(self) -> Iterator[Point]:
        """Yield all points of a grid, the last field changing fastest."""

        def extend(index: int, point: Point) -> Iterator[Point]:
            if index == len(self.axes):
                yield point
                return
            axis = self.axes[index]
            for scalar in axis.scalars() if self.asked(axis, point) else [None]:
                yield from extend(index + 1, point if scalar is None else {**point, axis.name: scalar})

        yield from extend(0, {})

    def base(self) -> tuple[Point, bool]:
        """Return where the base recipe lies, and whether it is a point of the space at all."""
        recipe = self._study.cell({}, {}, self._study.seeds[0]).recipe
        fields = recipe.to_dict()
        inside = True

        def choose(axis: Axis) -> Scalar | None:
            nonlocal inside
            scalar: Scalar | None = None
            if axis.choices:
                for label, value in axis.choices.items():
                    if self._study.cell({}, {axis.name: value}, self._study.seeds[0]).recipe == recipe:
                        scalar = label
                        break
            else:
                value = _get(fields, axis.name)
                if axis.contains(value):
                    scalar = int(value) if axis.whole else float(value)
            inside = inside and scalar is not None
            return scalar

        return self.walk(choose), inside

    def cell(self, name: str, point: Point) -> Cell:
        """Make a trial's training; what its point lacks is as in the base recipe.

        Raises
        ------
        UserError
            If the values don't go together.
        """
        axes = {axis.name: axis for axis in self.axes}
        labels = {field: axes[field].label(scalar) for field, scalar in point.items()}
        changes = {field: axes[field].value(scalar) for field, scalar in point.items()}
        cell = self._study.cell(labels, changes, self._study.seeds[0])
        return Cell(name, name, labels, cell.seed, None, cell.recipe)

    def _check(self, axis: Axis, one: Range) -> None:
        """Try every choice, or both ends, before the first trial is trained."""
        axis.distribution()
        axes = {other.name: other for other in self.axes}
        conditions = {}
        for name, wanted in axis.when.items():
            choices = axes[name].choices
            for value in wanted if isinstance(wanted, list) else [wanted]:
                if choices and value not in (*choices, *choices.values()):
                    raise UserError(
                        f"search: space: {axis.name} is asked for when {name} is {value!r}, which it never is.",
                        f"one of {', '.join(choices)}.",
                    )
                conditions.setdefault(name, choices.get(str(value), value))
        for value in axis.choices.values() if axis.choices else (one.low, one.high):
            labels = {axis.name: label_of(value)}
            self._study.cell(labels, {**conditions, axis.name: value}, self._study.seeds[0])


def _axis(name: str, one: Range) -> Axis:
    if one.low is not None and one.high is not None:
        whole = _only_whole(name, one)
        return Axis(name, one.when, {}, float(one.low), float(one.high), one.step, one.log, whole)
    values = one.choices or []
    labels = [label_of(value) for value in values]
    choices = {
        label if labels.count(label) == 1 else f"{label} {index + 1}": value
        for index, (label, value) in enumerate(zip(labels, values, strict=True))
    }
    return Axis(name, one.when, choices)


def _only_whole(name: str, one: Range) -> bool:
    """Whether a field takes whole numbers only: `low: 0, high: 1` of a dropout means all between as well."""
    section, _, field = name.rpartition(".")
    owner = {"": Recipe, **SECTIONS}.get(section)
    if owner is not None:
        return float not in _types(owner.model_fields[field].annotation)
    # A field of a free mapping, such as augment.degrees, has no type.
    return all(isinstance(value, int) for value in (one.low, one.high, one.step) if value is not None)


def _types(annotation: Any) -> set[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _types(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return {kind for inner in typing.get_args(annotation) for kind in _types(inner)}
    return {annotation}


def _get(fields: dict[str, Any], name: str) -> Any:
    value: Any = fields
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
