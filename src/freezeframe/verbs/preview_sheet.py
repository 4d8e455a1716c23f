"""The preview's sheet as a PNG."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from freezeframe import files

if TYPE_CHECKING:
    from freezeframe.verbs.preview import Cell, Row

# Inches. A cell is as wide as a caption of some 26 letters; 110 dots an inch make its picture 200 pixels wide.
CELL, LEFT, GAP, DOTS = 1.85, 1.3, 0.12, 110
LETTERS, LINE = 30, 0.135
WARNING = "#b3401a"


def draw(path: Path, title: str, headings: Sequence[str], rows: Sequence[Row], facts: str) -> None:
    """Draw rows of pictures under headings and write the PNG, atomically.

    Parameters
    ----------
    path : Path
        The PNG.
    title : str
        Of the sheet.
    headings : list of str
        One for each column; the first line is set in bold.
    rows : list of Row
        Each with as many cells as there are headings.
    facts : str
        Below the title.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = LEFT + len(headings) * (CELL + GAP) + GAP
    facts = textwrap.fill(facts, int(width * 15))
    heading_lines = max(heading.count("\n") for heading in headings) + 1
    top = 0.5 + LINE * 1.25 * (facts.count("\n") + 1) + 0.15 + LINE * 1.2 * heading_lines
    longest = max(len(_caption(cell)) for row in rows for cell in row.cells)
    pitch = CELL + LINE * longest + 0.15
    height = top + len(rows) * pitch + 0.05
    figure = Figure(figsize=(width, height), dpi=DOTS, facecolor="white")
    FigureCanvasAgg(figure)

    def write(x: float, y: float, text: str, **style: Any) -> None:
        figure.text(x / width, 1 - y / height, text, va="top", **style)

    write(GAP, 0.14, title, fontsize=14, fontweight="bold")
    write(GAP, 0.46, facts, fontsize=8.5, color="#444444")
    for column, heading in enumerate(headings):
        name, _, rest = heading.partition("\n")
        x, y = LEFT + column * (CELL + GAP), top - LINE * 1.2 * heading_lines - 0.06
        write(x, y, name, fontsize=9, fontweight="bold")
        write(x, y + 0.16, rest, fontsize=7, color="#444444")
    for place, row in enumerate(rows):
        y = top + place * pitch
        write(GAP, y, textwrap.fill(row.label, 15), fontsize=10, fontweight="bold")
        file_name = row.name.rpartition("/")[2]
        write(GAP, y + 0.35, textwrap.fill(file_name, 19), fontsize=7, color="#444444")
        for column, cell in enumerate(row.cells):
            x = LEFT + column * (CELL + GAP)
            axes = figure.add_axes((x / width, 1 - (y + CELL) / height, CELL / width, CELL / height))
            axes.set_anchor("NW")
            picture = _shown(cell.pixels)
            axes.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.set_axis_off()
            style = {"fontsize": 7, "color": WARNING if cell.warning else "#444444"}
            tall = CELL * min(1.0, picture.shape[0] / picture.shape[1])
            write(x, y + tall + 0.04, "\n".join(_caption(cell)), **style)
    with files.atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DOTS)


def _caption(cell: Cell) -> list[str]:
    return [line for text in (cell.warning, *cell.lines) for line in textwrap.wrap(text, LETTERS)]


def _shown(pixels: np.ndarray) -> np.ndarray:
    """Scale to what fits into a cell, as uint8."""
    if pixels.dtype.kind == "f":
        pixels = np.rint(pixels * 255).astype(np.uint8)
    elif pixels.dtype == np.uint16:
        pixels = np.rint(pixels / 257).astype(np.uint8)
    image = Image.fromarray(pixels)
    image.thumbnail((round(CELL * DOTS), round(CELL * DOTS)), Image.Resampling.LANCZOS)
    return np.asarray(image)
