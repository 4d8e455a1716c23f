"""Write the report of an evaluation."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from freezeframe.data.manifest import ImageReference
from freezeframe.errors import UserError
from freezeframe.imaging.decode import DecodedImage, UnreadableImage, decode
from freezeframe.imaging.preprocess import Preprocessing
from freezeframe.progress import progress
from freezeframe.report import contents as reading
from freezeframe.report import html, language, pictures
from freezeframe.report import variants as variants_of_bundle
from freezeframe.report.contents import Contents, Member
from freezeframe.report.pictures import Picture


def report(
    evaluation: str | Path,
    out: str | Path | None = None,
    lang: str = "en",
    heat: bool = True,
    variants: str | Path | None = None,
) -> Path:
    """Write an evaluation as one self-contained HTML page, with figures and tables as files beside it.

    Parameters
    ----------
    evaluation : str or Path
        Folder that `freezeframe.evaluate` made.
    out : str or Path, optional
        The page; ``report.html`` in the evaluation's folder where left out. Figures (SVG, PNG) and tables (CSV, LaTeX)
        lie in ``<its stem>_files/`` beside it.
    lang : {"en", "es"}
        Language of everything that a reader sees.
    heat : bool
        Whether to compute Grad-CAM heat maps, which needs the ``train`` extra and the runs' weights; without
        them the page says why there are none.
    variants : str or Path, optional
        Folder that `freezeframe export --optimise` made; where left out, one beside the evaluation's folder that was
        made of the same networks.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    UserError
        If the folder is no evaluation, the language is unknown, or `out` can't be written.

    Examples
    --------
    >>> import freezeframe
    >>> freezeframe.report("eval/", "report.html", lang="es")  # doctest: +SKIP
    PosixPath('report.html')
    """
    words = language.load(lang)
    folder = Path(evaluation)
    page = Path(out) if out is not None else folder / "report.html"
    if page.is_dir():
        raise UserError(
            f"{page} is a folder.", "a file name for the page.", f"Use --out {page / 'report.html'}."
        )
    contents = reading.read(folder)
    chosen = html.featured(contents)
    images = _decode(contents, chosen)
    found, sentence = _pictures(contents, chosen, images, heat)
    measured = (
        variants_of_bundle.find(folder, contents)
        if variants is None
        else variants_of_bundle.read(Path(variants), contents)
    )
    html.make(contents, chosen, found, words, sentence, measured).write(page)
    return page


def _decode(contents: Contents, chosen: pd.DataFrame) -> list[DecodedImage | str]:
    """Decode the gallery's images; where that fails, the key of the reason."""
    found: list[DecodedImage | str] = []
    with progress("Decoding the gallery", len(chosen)) as advance:
        for row in chosen["row"]:
            reference = _reference(contents, contents.predictions.iloc[row])
            if reference is None:
                found.append("image_gone")
            else:
                try:
                    found.append(decode(reference.path, reference.frame))
                except UnreadableImage:
                    found.append("image_unreadable")
            advance(1)
    return found


def _reference(contents: Contents, record: pd.Series) -> ImageReference | None:
    if contents.root is None:
        return None
    name, frame = str(record["image"]), 0
    if not (contents.root / name).is_file():
        # A frame of a file that holds several: see freezeframe.data.manifest.image_name.
        stem, _, number = name.rpartition("#")
        name, frame = (stem, int(number)) if stem and number.isdigit() else (name, 0)
    path = contents.root / name
    return ImageReference(path, frame) if path.is_file() else None


def _pictures(
    contents: Contents, chosen: pd.DataFrame, images: Sequence[DecodedImage | str], heat: bool
) -> tuple[dict[str, Picture], str]:
    """Make the pictures, and say with the key of a sentence what the heat maps are or why there are none."""
    preprocessings = {member.name: _preprocessing(member) for member in contents.members}
    shown = next((one for one in preprocessings.values() if one is not None), None)
    if shown is None:
        # Without a run the images are shown whole: only their size is then chosen by the page.
        side = (pictures.SIDE, pictures.SIDE)
        shown = Preprocessing.from_steps(None, side, (0.5,) * 3, (0.5,) * 3)
    rows = [index for index, image in enumerate(images) if isinstance(image, DecodedImage)]
    maps, sentence = _heat(contents, chosen, images, rows, preprocessings) if heat else (None, "heat_none")
    found = {}
    for index, image in enumerate(images):
        name = str(chosen["image"].iloc[index])
        if isinstance(image, str):
            found[name] = Picture(reason=image)
            continue
        small = pictures.thumbnail(shown.prepare(image))
        laid = None if maps is None else pictures.jpeg(pictures.overlay(small, maps[rows.index(index)]))
        found[name] = Picture(pictures.jpeg(small), laid)
    return found, sentence


def _preprocessing(member: Member) -> Preprocessing | None:
    try:
        return Preprocessing.from_dict(member.run["preprocessing"])
    except (KeyError, UserError):
        return None


def _heat(
    contents: Contents,
    chosen: pd.DataFrame,
    images: Sequence[DecodedImage | str],
    rows: Sequence[int],
    preprocessings: dict[str, Preprocessing | None],
) -> tuple[np.ndarray | None, str]:
    """Average the members' heat maps (R, 224, 224) with the ensemble's weights."""
    if any(importlib.util.find_spec(package) is None for package in ("torch", "captum", "timm")):
        return None, "heat_no_torch"
    if not rows:
        return None, "heat_no_images"
    able = [
        (member, preprocessing)
        for member in contents.members
        if (preprocessing := preprocessings[member.name]) is not None
        and (member.folder / "checkpoints" / "best.safetensors").is_file()
    ]
    first = next(iter(one for one in preprocessings.values() if one is not None), None)
    # A map is laid over the picture of the first member, so it must come from the same part of the image.
    able = [(member, own) for member, own in able if first is not None and _geometry(own) == _geometry(first)]
    if not able:
        return None, "heat_no_weights"

    from freezeframe.training.explain import heat_maps

    total = np.zeros((len(rows), pictures.SIDE, pictures.SIDE), np.float32)
    with progress("Computing heat maps", len(able), "networks") as advance:
        for member, preprocessing in able:
            classes = list(member.run["classes"])
            prepared = [
                preprocessing.prepare(image)
                for image in (images[row] for row in rows)
                if not isinstance(image, str)
            ]
            targets = [classes.index(name) for name in chosen["predicted"].iloc[list(rows)]]
            for index, one in enumerate(heat_maps(member.folder, prepared, targets)):
                total[index] += member.weight * pictures.resize(one)
            advance(1)
    peak = total.max(axis=(1, 2), keepdims=True)
    return total / np.where(peak > 0, peak, 1), "heat_shown" if len(able) == len(
        contents.members
    ) else "heat_partly"


def _geometry(preprocessing: Preprocessing) -> list[tuple[str, object]]:
    """Return what decides which part of the image is seen: all steps, with the shape of a size but not its scale."""
    steps = []
    for step in preprocessing.steps:
        parameters = dict(step.parameters)
        if "size" in parameters:
            height, width = parameters["size"]
            parameters["size"] = round(height / width, 3)
        steps.append((step.name, parameters))
    return steps
