"""Show what the network will really see: a sheet of images, step by step and view by view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from freezeframe.data.manifest import Manifest
from freezeframe.errors import UserError
from freezeframe.imaging.image import UnreadableImage
from freezeframe.imaging.preprocess import Preprocessing, image_stages, prepare_image
from freezeframe.imaging.workers import map_images
from freezeframe.recipe import Recipe
from freezeframe.seeds import generator
from freezeframe.verbs.preview_words import caption, words

if TYPE_CHECKING:
    from freezeframe.imaging.augment import Policy
    from freezeframe.imaging.preprocess import Step

# Of a sheet: what is wider or longer can't be read any more.
MOST_VIEWS, MOST_IMAGES = 8, 40


@dataclass(frozen=True)
class Preview:
    """A sheet that was drawn.

    Attributes
    ----------
    path : Path
        The PNG.
    images : tuple of str
        Which were drawn, by their names in the manifest.
    notes : dict
        How many of these images a step could not do its work on, by its note: keys of `imaging.steps.NOTES`.
    unreadable : tuple of str
        What was passed over, and why.
    """

    path: Path
    images: tuple[str, ...]
    notes: Mapping[str, int]
    unreadable: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One picture of a sheet: (H, W) or (H, W, 3) floats in [0, 1] or unsigned integers, and what stands below it."""

    pixels: np.ndarray
    lines: tuple[str, ...]
    warning: str = ""


@dataclass(frozen=True)
class Row:
    """One image: its class and name, and its cells from the file to the last view."""

    label: str
    name: str
    cells: tuple[Cell, ...]


def preview(
    recipe: Recipe | dict[str, Any] | str | Path,
    out: str | Path = "preview.png",
    images: int = 6,
    lang: str = "en",
) -> Preview:
    """Draw a sheet of training images: as decoded, after each preprocessing step, and in each view.

    The images are drawn by the recipe's seed, the classes in turn; views and normalisation are those of the training.
    No network is built, and nothing is written but the sheet.

    Parameters
    ----------
    recipe : Recipe, dict, str or Path
        The recipe, its fields, or the path of its YAML file.
    out : str or Path
        The PNG to write.
    images : int
        Number of images, 1 to 40.
    lang : {"en", "es"}
        Language of the sheet.

    Returns
    -------
    Preview
        Where it is, what it shows, and which steps fell back.

    Raises
    ------
    UserError
        If the recipe or the data won't do, or no image can be read.

    Examples
    --------
    >>> import freezeframe
    >>> freezeframe.preview("recipe.yaml", "preview.png").notes  # doctest: +SKIP
    {'lungs-not-found': 1}
    """
    words(lang)  # an unknown language is refused before the work, not after it
    if not 1 <= images <= MOST_IMAGES:
        raise UserError(f"--images is {images}.", f"1 to {MOST_IMAGES}.")
    if isinstance(recipe, str | Path):
        recipe = Recipe.read(Path(recipe))
    elif not isinstance(recipe, Recipe):
        recipe = Recipe.parse(recipe)

    from freezeframe.backbones.catalogue import describe
    from freezeframe.data.sources import read_manifest
    from freezeframe.data.splits import make_splits
    from freezeframe.imaging.augment import Policy
    from freezeframe.training.assembly import preprocessing_of, views_of

    preprocessing = preprocessing_of(recipe, describe(recipe.backbone))
    policy = Policy.named(recipe.augment)
    views = views_of(recipe, policy)
    seed = recipe.seed if recipe.split.seed is None else recipe.split.seed
    training = make_splits(read_manifest(recipe.data), recipe.split, seed).subset("train")

    rows: list[Row] = []
    names: list[str] = []
    notes: Counter[str] = Counter()
    unreadable: list[str] = []
    candidates = _in_turn(training, recipe.seed)
    references = training.references()
    while len(rows) < images and candidates:
        chosen, candidates = candidates[: images - len(rows)], candidates[images - len(rows) :]
        staged = map_images(
            partial(image_stages, preprocessing=preprocessing),
            [references[index] for index in chosen],
            "Preparing",
        )
        for place, outcome in staged:
            name = str(training.table["image"].iloc[chosen[place]])
            if isinstance(outcome, UnreadableImage):
                unreadable.append(f"{name}: {outcome.reason}")
                continue
            stages, prepared = outcome
            found = [stage.note for stage in stages if stage.note]
            notes.update(found)
            cells = [
                Cell(stage.pixels, (_size(stage.pixels),), words(lang)[stage.note] if stage.note else "")
                for stage in stages
            ]
            viewer = _Viewer(recipe, preprocessing, policy, training, lang)
            cells += [viewer.cell(chosen[place], prepared, view) for view in range(min(views, MOST_VIEWS))]
            rows.append(Row(str(training.table["label"].iloc[chosen[place]]), name, tuple(cells)))
            names.append(name)
    if not rows:
        shown = "; ".join(unreadable[:5])
        raise UserError(
            f"None of the training images can be read: {shown}", "at least one.", "Check the files."
        )
    from freezeframe.verbs.preview_sheet import draw

    headings = _headings(preprocessing.steps, min(views, MOST_VIEWS), lang)
    out = Path(out)
    draw(out, _title(recipe, preprocessing, lang), headings, rows, _facts(recipe, preprocessing, views, lang))
    return Preview(out, tuple(names), dict(notes), tuple(unreadable))


def _in_turn(training: Manifest, seed: int) -> list[int]:
    """Return the rows in the order in which they are shown: each class in an order of its own, the classes in turn."""
    labels = training.labels()
    queues = []
    for index, name in enumerate(training.classes):
        members = np.flatnonzero(labels == index)
        queues.append(list(generator(seed, "preview", name).permutation(members)))
    longest = max((len(queue) for queue in queues), default=0)
    return [int(queue[turn]) for turn in range(longest) for queue in queues if turn < len(queue)]


class _Viewer:
    """Makes the views of a training image as `training.views.Views` does, without a store."""

    def __init__(
        self, recipe: Recipe, preprocessing: Preprocessing, policy: Policy, training: Manifest, lang: str
    ) -> None:
        self.preprocessing, self.policy, self.training, self.lang = preprocessing, policy, training, lang
        self.seed = recipe.seed if recipe.augment_seed is None else recipe.augment_seed
        self.keys = training.keys()
        self.partners = sorted(self.keys)

    def cell(self, index: int, prepared: np.ndarray, view: int) -> Cell:
        """Make one view, normalise it, and turn it back into what a screen shows."""
        from freezeframe.imaging import augment

        parameters = augment.draw(self.policy, self.seed, self.keys[index], view, self.partners)
        mixed = augment.partner_of(parameters)
        partner, label = None, ""
        if mixed:
            other = self.keys.index(mixed[0])
            label = str(self.training.table["label"].iloc[other])
            partner = prepare_image(self.training.references()[other], self.preprocessing)
        picture = prepared
        if parameters:
            picture = augment.apply(prepared, parameters, partner).transpose(1, 2, 0)
            picture = picture[..., 0] if picture.shape[-1] == 1 else picture
        normalised = self.preprocessing.normalise(picture[None])[0]
        shown = normalised.transpose(1, 2, 0) * self.preprocessing.std + self.preprocessing.mean
        lines = caption(parameters, self.lang, label) or [words(self.lang)["itself"]]
        return Cell(np.clip(shown, 0, 1), tuple(lines))


def _headings(steps: Sequence[Step], views: int, lang: str) -> list[str]:
    known = words(lang)
    headings = [known["original"]]
    for step in steps:
        shown = "\n".join(_parameter_lines(step.parameters))
        headings.append(f"{step.name}\n{shown}" if shown else step.name)
    return headings + [known["view"].format(number=view) for view in range(views)]


def _parameter_lines(parameters: Mapping[str, Any]) -> Iterator[str]:
    for name, value in parameters.items():
        yield f"{name}: {' x '.join(map(str, value)) if isinstance(value, list | tuple) else value}"


def _title(recipe: Recipe, preprocessing: Preprocessing, lang: str) -> str:
    return words(lang)["title"].format(
        backbone=recipe.backbone, height=preprocessing.height, width=preprocessing.width
    )


def _facts(recipe: Recipe, preprocessing: Preprocessing, views: int, lang: str) -> str:
    from freezeframe.report import language

    known, spoken = words(lang), language.load(lang)
    policy = recipe.augment if isinstance(recipe.augment, str) else recipe.augment.get("policy", "none")
    changed = {} if isinstance(recipe.augment, str) else {**recipe.augment}
    changed.pop("policy", None)
    named = policy + "".join(f", {name} {value}" for name, value in changed.items())
    mean, std = (
        ", ".join(spoken.number(value, 3) for value in (triple if len(set(triple)) > 1 else triple[:1]))
        for triple in (preprocessing.mean, preprocessing.std)
    )
    sentences = [known["policy"].format(policy=named, views=views)]
    if views > MOST_VIEWS:
        sentences.append(known["views_shown"].format(shown=MOST_VIEWS))
    sentences.append(known["input"].format(mean=mean, std=std))
    return " ".join(sentences)


def _size(pixels: np.ndarray) -> str:
    height, width = pixels.shape[:2]
    return f"{height} x {width}" + (", 16 bit" if pixels.dtype == np.uint16 else "")
