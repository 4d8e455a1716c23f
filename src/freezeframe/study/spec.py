"""What a study is: a base recipe and axes, as a typed YAML file; and the cells that follow from it."""

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from freezeframe import files
from freezeframe.errors import UserError, did_you_mean
from freezeframe.recipe import PositiveInteger, Recipe, Section, change, explain, put
from freezeframe.study import shipped
from freezeframe.study.cells import Cell, check_field, label_of, levels, renamed, slug, with_names

SCHEMA_VERSION = 1
# Recipes of a study keep what trained, not the frozen part again and again, and use one thread each, so that the
# number of processes that work at it changes no result.
DEFAULTS: dict[str, Any] = {"keep_weights": "trained", "threads": 1}
# Networks that become the same one under --backbone are given seeds so far apart.
SEED_STEP = 1000

Values = Annotated[list[Any], Field(min_length=1)]
Axes = dict[str, Values | dict[str, dict[str, Any]]]


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _seeds(value: Any) -> Any:
    return list(range(value)) if isinstance(value, int) and not isinstance(value, bool) else value


def _not_empty(value: list[int]) -> list[int]:
    if not value or len(set(value)) != len(value) or min(value) < 0:
        raise ValueError("seeds are a number of them, or a list of different whole numbers from 0")
    return value


class Ensemble(Section):
    """An ensemble that a study makes when its trainings are done."""

    rule: Literal["mean", "mean-logits", "weighted", "vote"] = Field(
        default="mean", description="how the members' answers are combined"
    )
    top: PositiveInteger | None = Field(
        default=None, description="only the best settings, by their validation score; all where left out"
    )
    where: dict[str, Any] = Field(
        default={}, description="only cells with these values: {augment: flip}, {seed: 0}"
    )


class Range(Section):
    """A space of one field in a search: numbers from low to high, or choices."""

    low: float | int | None = Field(default=None, description="least value")
    high: float | int | None = Field(default=None, description="greatest value")
    log: bool = Field(default=False, description="drawn evenly in the logarithm")
    step: float | int | None = Field(default=None, description="distance of the values")
    choices: list[Any] | None = Field(default=None, description="values to choose from, of any kind")
    when: dict[str, Any] = Field(
        default={},
        description="only where other fields of the search have these values: {optimiser: sgd}; a list means any of it",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        return {"choices": value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _numbers_or_choices(self) -> "Range":
        numbers = self.low is not None and self.high is not None
        if numbers == (self.choices is not None):
            raise ValueError("a space is {low: ..., high: ...} or a list of choices")
        if numbers and not self.low < self.high:  # type: ignore[operator]
            raise ValueError("low must be below high")
        if self.log and numbers and self.low <= 0:  # type: ignore[operator]
            raise ValueError("log needs a low above 0")
        return self


class Search(Section):
    """A search instead of a grid (see `freezeframe.study.search`)."""

    space: dict[str, Range] = Field(
        description="field of the recipe -> [choices], or {low: ..., high: ..., log: true, step: ..., when: {...}}",
        min_length=1,
    )
    sampler: Literal["tpe", "gp", "random", "grid"] = Field(
        default="tpe",
        description="how the next trial is chosen: Bayesian (tpe, gp), at random, or one after another",
    )
    trials: PositiveInteger | None = Field(default=None, description="budget in trials")
    minutes: Annotated[float, Field(gt=0)] | None = Field(default=None, description="budget in minutes")
    pruning: bool = Field(
        default=True, description="stop trials that are worse than half of the others so far"
    )
    storage: str | None = Field(
        default=None,
        description="SQLAlchemy URL of the trials, such as postgresql+pg8000://...; a SQLite file in the study's "
        "folder where left out",
    )

    @model_validator(mode="after")
    def _has_an_end(self) -> "Search":
        if self.trials is None and self.minutes is None and self.sampler != "grid":
            raise ValueError("a search needs a budget: trials or minutes")
        return self


class Study(Section):
    """All of one study.

    Examples
    --------
    >>> study = Study.parse(
    ...     {
    ...         "recipe": {"data": "images/", "backbone": "resnet18"},
    ...         "axes": {"unfreeze": ["head", {"blocks": 1}], "augment": ["none", "flip"]},
    ...         "exclude": [{"unfreeze": "head", "augment": "flip"}],
    ...         "seeds": 2,
    ...     }
    ... )
    >>> [cell.name for cell in study.cells()][:2]
    ['head-none-seed0', 'head-none-seed1']
    >>> len(study.cells())
    6
    """

    name: str = Field(default="study", description="for titles")
    recipe: dict[str, Any] = Field(description="the base recipe: its fields, or the path of its YAML file")
    axes: Annotated[list[Axes], BeforeValidator(_as_list)] = Field(
        default=[{}],
        description="field of the recipe -> list of values; the grid is all combinations. A name of your own -> "
        "{label: {field: value, ...}} changes several fields at once. A list of such mappings: several grids",
    )
    include: list[dict[str, Any]] = Field(
        default=[], description="more cells beside the grid: {field: value}"
    )
    exclude: list[dict[str, Any]] = Field(
        default=[], description="cells with all of these values are left out: {field: value}"
    )
    seeds: Annotated[list[int], BeforeValidator(_seeds), AfterValidator(_not_empty)] = Field(
        default=[0], description="repeats: a number of seeds, or a list of them"
    )
    folds: Annotated[int, Field(ge=2)] | None = Field(
        default=None, description="grouped cross-validation: each setting is trained once for each fold"
    )
    search: Search | None = Field(default=None, description="a search instead of axes (see Search)")
    metric: Literal[
        "roc_auc", "accuracy", "balanced_accuracy", "f1_macro", "average_precision", "log_loss"
    ] = Field(default="roc_auc", description="what settings are compared by")
    positive: str | None = Field(
        default=None, description="class that sensitivity is about; the last of two where left out"
    )
    baseline: bool = Field(
        default=True,
        description="also fit a linear probe, and PCA with logistic regression, on each backbone",
    )
    ensembles: dict[str, Ensemble] = Field(
        default={}, description="name -> {rule, top, where}: made of the runs when they are done"
    )
    engine: Literal["local", "ray"] = Field(default="local", description="where trainings run")

    @model_validator(mode="after")
    def _one_question(self) -> "Study":
        if self.search is not None and (any(self.axes) or self.include or self.exclude):
            raise ValueError("search and axes are two ways to ask; give one of them")
        if self.folds is not None and self.ensembles:
            raise ValueError(
                "folds have no images that all members were held out from; leave folds or ensembles out"
            )
        return self

    @classmethod
    def read(cls, path: Path, changes: Sequence[str] = (), backbones: Sequence[str] = ()) -> "Study":
        """Read a study from a YAML file.

        Parameters
        ----------
        path : Path
            The file, or the name of a study that comes with freezeframe (see `freezeframe.study.shipped`).
        changes : sequence of str
            ``field=value`` for the base recipe, as given to ``--set``.
        backbones : sequence of str
            Networks that stand in for those that the study names, in turn (see `with_backbones`).

        Raises
        ------
        UserError
            With the name of the field and, for a misspelt one, the right name.
        """
        path = shipped.find(Path(path))
        content = files.read_yaml(path)
        if not isinstance(content, dict):
            raise UserError(
                f"{path} holds no study.", "'recipe' and 'axes' or 'search'.", "See `docs/studies.md`."
            )
        recipe = content.get("recipe")
        if isinstance(recipe, str):
            inner = Path(recipe).expanduser()
            content["recipe"] = files.read_yaml(inner if inner.is_absolute() else path.parent / inner)
        study = cls.parse(content, changes, origin=str(path), name=path.stem)
        return study.with_backbones(backbones) if backbones else study

    @classmethod
    def parse(
        cls,
        content: dict[str, Any],
        changes: Sequence[str] = (),
        origin: str = "the study",
        name: str = "study",
    ) -> "Study":
        """Make a study from plain data; every cell's recipe is checked."""
        content = {"name": name, **{key: value for key, value in content.items() if key != "schema_version"}}
        if isinstance(content.get("recipe"), dict):
            content["recipe"] = {
                key: value for key, value in content["recipe"].items() if key != "schema_version"
            }
            for text in changes:
                change(content["recipe"], text)
        try:
            study = cls.model_validate(content)
        except ValidationError as error:
            sections = {"search": Search, "ensembles": Ensemble}
            raise UserError(
                explain(error, origin, cls, sections, "study"), action="See `docs/studies.md` for all fields."
            ) from error
        for name in study.search.space if study.search else ():
            check_field(name, "search: space")
        study.cells()  # so that a mistake in the last cell is found before the first is trained
        return study

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, with every field said."""
        return self.model_dump(mode="json")

    def write(self, path: Path) -> None:
        """Write the study as YAML."""
        files.write_yaml(path, {"schema_version": SCHEMA_VERSION, **self.to_dict()})

    @property
    def base(self) -> dict[str, Any]:
        """The base recipe's fields, with what a study says where the recipe does not."""
        fields = {**DEFAULTS, **self.recipe}
        seed = int(fields.get("seed", 0))
        # Repeats differ in the head, the order and the dropout; images and views stay, so that they are shared
        # and so that settings are compared on the same test images.
        fields.setdefault("augment_seed", seed)
        split = dict(fields.get("split") or {})
        split.setdefault("seed", seed)
        if self.folds is not None:
            split["folds"] = self.folds
        fields["split"] = split
        return fields

    def cells(self) -> list["Cell"]:
        """Return all trainings of a grid, in the order of its axes; those of a search are not known before it runs.

        Raises
        ------
        UserError
            If a field is unknown or a value won't do, with the cell.
        """
        if self.search is not None:
            return []
        known: dict[str, Cell] = {}
        for labels, changes in self._settings():
            for seed, fold in itertools.product(self.seeds, range(self.folds) if self.folds else [None]):
                cell = self.cell(labels, changes, seed, fold)
                known.setdefault(files.sha256_json(cell.recipe.to_dict()), cell)
        if not known:
            raise UserError(
                "The study has no trainings: everything is excluded.", "at least one.", "See 'exclude'."
            )
        return with_names(list(known.values()))

    def cell(
        self, labels: dict[str, str], changes: dict[str, Any], seed: int, fold: int | None = None
    ) -> "Cell":
        """Make one training from changes of the base recipe."""
        fields = json.loads(json.dumps(self.base))
        if "seed" not in changes:
            fields["seed"] = seed
        for name, value in changes.items():
            put(fields, name, value)
        if fold is not None:
            fields["split"]["fold"] = fold
        if changes.get("split.train_share", 1) != 1:
            # Repeats with a part of the patients draw it anew, so that their spread tells of this choice, too.
            fields["split"].setdefault("draw", fields["seed"])
        setting = "-".join(slug(label) for label in labels.values()) or slug(self.name)
        where = ", ".join(f"{axis}: {label}" for axis, label in labels.items())
        recipe = Recipe.parse(fields, origin=f"The recipe of {{{where}}}" if where else "The study's recipe")
        return Cell("", setting, labels, recipe.seed, fold, recipe)

    def with_backbones(self, names: Sequence[str]) -> "Study":
        """Put other networks in the place of those that the study names, in turn.

        Where two networks become the same one, they stay apart by their seeds, so that an ensemble of several
        networks becomes one of several trainings.

        Examples
        --------
        >>> study = Study.parse(
        ...     {
        ...         "recipe": {"data": "images/", "backbone": "resnet18"},
        ...         "axes": {"backbone": ["resnet50", "densenet121"]},
        ...     }
        ... )
        >>> [cell.name for cell in study.with_backbones(["efficientnet-lite0"]).cells()]
        ['efficientnet-lite0-for-resnet50', 'efficientnet-lite0-for-densenet121']
        """
        named = list(dict.fromkeys(self._backbones()))
        other = {name: names[index % len(names)] for index, name in enumerate(named)}
        seeds = {name: index // len(names) * SEED_STEP for index, name in enumerate(named)}
        content = self.to_dict()
        if isinstance(content["recipe"].get("backbone"), str):
            content["recipe"]["backbone"] = other[content["recipe"]["backbone"]]
        for axes in content["axes"]:
            for axis, values in axes.items():
                if axis == "backbone" and isinstance(values, list):
                    axes[axis] = {
                        renamed(name, other): {"backbone": other[name]}
                        | ({"seed": seeds[name]} if seeds[name] and len(self.seeds) == 1 else {})
                        for name in values
                    }
                elif isinstance(values, dict):
                    for changes in values.values():
                        if "backbone" in changes:
                            seed = seeds[changes["backbone"]]
                            changes["backbone"] = other[changes["backbone"]]
                            if seed and len(self.seeds) == 1:
                                changes.setdefault("seed", seed)
        for place in (*content["include"], *content["exclude"]):
            if "backbone" in place:
                place["backbone"] = renamed(place["backbone"], other)
        return Study.parse(content)

    def _backbones(self) -> Iterator[str]:
        for axes in self.axes:
            for axis, values in axes.items():
                if axis == "backbone" and isinstance(values, list):
                    yield from values
                elif isinstance(values, dict):
                    yield from (changes["backbone"] for changes in values.values() if "backbone" in changes)
        yield from (place["backbone"] for place in self.include if "backbone" in place)
        if isinstance(self.recipe.get("backbone"), str):
            yield self.recipe["backbone"]

    def _settings(self) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
        """Yield labels and changes of each setting: the grids, then what is included; without what is excluded."""
        for axes in self.axes:
            choices = [
                [(axis, label, changes) for label, changes in levels(axis, values)]
                for axis, values in axes.items()
            ]
            for chosen in itertools.product(*choices):
                labels = {axis: label for axis, label, _ in chosen}
                changes = {name: value for _, _, change in chosen for name, value in change.items()}
                if not any(self._matches(labels, changes, place) for place in self.exclude):
                    yield labels, changes
        for place in self.include:
            chosen_levels = [self._level(axis, value) for axis, value in place.items()]
            yield (
                {axis: label for axis, (label, _) in zip(place, chosen_levels, strict=True)},
                {name: value for _, change in chosen_levels for name, value in change.items()},
            )

    def _level(self, axis: str, value: Any) -> tuple[str, dict[str, Any]]:
        """Return label and changes of a value, which may be a label of an axis with a name of its own."""
        for axes in self.axes:
            named = axes.get(axis)
            if isinstance(named, dict):
                if value in named:
                    return str(value), named[value]
                raise UserError(f"The axis '{axis}' has no '{value}',", did_you_mean(str(value), named))
        return label_of(value), {axis: value}

    def _matches(self, labels: dict[str, str], changes: dict[str, Any], place: dict[str, Any]) -> bool:
        return all(
            labels.get(name) == label_of(value) or (name in changes and changes[name] == value)
            for name, value in place.items()
        )
