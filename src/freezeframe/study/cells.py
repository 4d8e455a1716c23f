"""A study's cells: one training each, with labels for people and a name for its folder."""

import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from freezeframe.errors import UserError, did_you_mean
from freezeframe.recipe import Recipe, is_field

LONGEST_NAME = 80


@dataclass(frozen=True)
class Cell:
    """One training of a study.

    Attributes
    ----------
    name : str
        Of its run folder.
    setting : str
        What it shares with its repeats: its name without seed and fold.
    values : dict of str to str
        Label of its value on each axis.
    seed : int
        The recipe's.
    fold : int or None
        Which fold is its test split, in a cross-validation.
    recipe : Recipe
        All of the training.
    """

    name: str
    setting: str
    values: dict[str, str]
    seed: int
    fold: int | None
    recipe: Recipe = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return what `cells.json` holds of it."""
        return {
            "name": self.name,
            "setting": self.setting,
            "values": self.values,
            "seed": self.seed,
            "fold": self.fold,
        }


def label_of(value: Any) -> str:
    """Write a value as a short label.

    Examples
    --------
    >>> label_of({"layers": 4}), label_of("flip"), label_of(None), label_of([{"resize": {"size": 64}}, "grey"])
    ('layers 4', 'flip', 'default', 'resize(size 64), grey')
    """
    if value is None:
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        if set(value) >= {"policy"}:
            rest = {name: inner for name, inner in value.items() if name != "policy"}
            return f"{value['policy']}({label_of(rest)})" if rest else str(value["policy"])
        return ", ".join(
            f"{name}({label_of(inner)})" if isinstance(inner, dict) else f"{name} {label_of(inner)}"
            for name, inner in value.items()
        )
    if isinstance(value, list):
        return ", ".join(label_of(inner) for inner in value) or "none"
    return Path(value).name if isinstance(value, str) and "/" in value else str(value)


def levels(axis: str, values: list[Any] | dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Return label and changed fields of each value on an axis."""
    if isinstance(values, dict):
        for label, changes in values.items():
            for name in changes:
                check_field(name, f"axes: '{axis}: {label}'")
        return [(str(label), changes) for label, changes in values.items()]
    check_field(axis, "axes")
    labels = [label_of(value) for value in values]
    return [
        (label if labels.count(label) == 1 else f"{label} {index + 1}", {axis: value})
        for index, (label, value) in enumerate(zip(labels, values, strict=True))
    ]


def check_field(name: str, where: str) -> None:
    """Refuse what is no field of a recipe, with the nearest name."""
    if not is_field(name):
        raise UserError(
            f"{where} has '{name}', which is no field of a recipe; {did_you_mean(name, Recipe.model_fields)}",
            "a field of the recipe (with a dot for a section, split.validation), or a name of your own with labels: "
            "{label: {field: value}}.",
            "See `freezeframe recipe`.",
        )


def renamed(name: str, other: Mapping[str, str]) -> str:
    """Name a network and the one that it stands in for."""
    replaced = other.get(name, name)
    return replaced if replaced == name else f"{replaced}-for-{name}"


def slug(label: str) -> str:
    """Write a label so that it may stand in a folder's name."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", label).strip("-.") or "x"


def with_names(cells: list[Cell]) -> list[Cell]:
    """Name cells after their setting, seed and fold, as far as these vary; long names and equal ones get a hash."""
    several_seeds = len({cell.seed for cell in cells}) > 1 and any(
        one.setting == other.setting and one.seed != other.seed for one, other in itertools.pairwise(cells)
    )
    named: list[Cell] = []
    taken: dict[str, dict[str, str]] = {}
    for cell in cells:
        setting = cell.setting
        # Two values may give one slug ('a/b' and 'a b'), and file systems have a longest name.
        if len(setting) > LONGEST_NAME or taken.setdefault(setting.lower(), cell.values) != cell.values:
            digest = hashlib.sha256(json.dumps(cell.values, sort_keys=True).encode()).hexdigest()[:8]
            setting = f"{setting[:LONGEST_NAME]}-{digest}"
        name = setting
        name += f"-seed{cell.seed}" if several_seeds else ""
        name += f"-fold{cell.fold}" if cell.fold is not None else ""
        named.append(Cell(name, setting, cell.values, cell.seed, cell.fold, cell.recipe))
    return named
