"""The page that a secondary capture shows: an image, its heat map beside it, and what the model said of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from freezeframe.report.pictures import overlay

SIDE = 1024
"""Width and height of a page in pixels."""

Colour = tuple[int, int, int]
BLACK: Colour = (0, 0, 0)
TEXT: Colour = (232, 232, 232)
FAINT: Colour = (150, 150, 150)
CAUTION: Colour = (255, 193, 7)
BAR: Colour = (86, 156, 214)
BAR_FOUND: Colour = (230, 97, 60)
TRACK: Colour = (48, 48, 48)

_MARGIN = 24
_PICTURE = (476, 476)
_COLUMNS = (_MARGIN, SIDE // 2 + _MARGIN // 2)
_PICTURES_TOP = 132
_TABLES_TOP = 652
_LINE = 26


@dataclass(frozen=True)
class Bar:
    """A probability of a page.

    Attributes
    ----------
    name, written : str
        Of what, and the value as it is written.
    value : float
        In [0, 1].
    found : bool
        Whether it speaks of a finding.
    mark : float or None
        The threshold that it is compared with.
    """

    name: str
    value: float
    written: str
    found: bool
    mark: float | None


@dataclass(frozen=True, eq=False)
class Page:
    """What a page shows, in the words of its language.

    Attributes
    ----------
    notice : str
        That nobody verified it.
    title, outcome : str
        Model and version; what was decided.
    is_found : bool
        Whether that is a finding.
    captions : (str, str) or None
        Of the image and of its heat map; None for a page without pictures.
    image : ndarray (H, W) or (H, W, 3), uint8 or uint16, or None
        As decoded; None where it could not be.
    heat : ndarray (h, w), uint8, or None
        Of the same aspect ratio.
    outline : sequence of (float, float)
        The heat map's main region in pixels of the image as (column, row); empty where there is none.
    tables : sequence of (str, sequence of Bar)
        At most two, each with its title.
    lines : sequence of (str, bool)
        Sentences below the bars, and whether each is a warning.
    """

    notice: str
    title: str
    outcome: str
    is_found: bool
    captions: tuple[str, str] | None
    image: np.ndarray | None
    heat: np.ndarray | None
    outline: Sequence[tuple[float, float]]
    tables: Sequence[tuple[str, Sequence[Bar]]]
    lines: Sequence[tuple[str, bool]]


def draw(page: Page) -> np.ndarray:
    """Draw a page.

    Returns
    -------
    ndarray (1024, 1024, 3), uint8
        RGB. It names no patient; what an image has burned in stays visible in it.
    """
    sheet = Image.new("RGB", (SIDE, SIDE), BLACK)
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((0, 0, SIDE, 44), fill=CAUTION)
    pen.text((SIDE // 2, 22), page.notice, BLACK, _font(25, bold=True), anchor="mm")
    pen.text((_MARGIN, 64), _cut(page.title, _font(20), SIDE // 2), FAINT, _font(20), anchor="lm")
    outcome_colour = BAR_FOUND if page.is_found else TEXT
    outcome = _cut(page.outcome, _font(28, bold=True), SIDE - 2 * _MARGIN)
    pen.text((_MARGIN, 98), outcome, outcome_colour, _font(28, bold=True), anchor="lm")
    bottom = _PICTURES_TOP
    if page.captions is not None:
        _draw_pictures(sheet, pen, page, page.captions)
        bottom = _TABLES_TOP
    for left, (title, bars) in zip(_COLUMNS, page.tables, strict=False):
        bottom = max(bottom, _draw_bars(pen, left, title, bars))
    _draw_lines(pen, bottom + 10, page.lines)
    return np.asarray(sheet)


def eight_bit(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale a decoded image to fit into (width, height), as RGB of 8 bits.

    Large images are first taken apart by whole steps, which is far quicker than to filter all their pixels.
    """
    step = max(1, min(pixels.shape[0] // (2 * size[1]), pixels.shape[1] // (2 * size[0])))
    if step > 1:
        rows, columns = (length // step * step for length in pixels.shape[:2])
        blocks = pixels[:rows, :columns].reshape(rows // step, step, columns // step, step, *pixels.shape[2:])
        pixels = blocks.mean(axis=(1, 3), dtype=np.float32).astype(pixels.dtype)
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    picture = Image.fromarray(pixels).convert("RGB")
    scale = min(size[0] / picture.width, size[1] / picture.height)
    fitted = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return np.asarray(picture.resize(fitted, Image.Resampling.BILINEAR))


def _draw_pictures(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, page: Page, captions: tuple[str, str]
) -> None:
    for left, caption in zip(_COLUMNS, captions, strict=True):
        width = _PICTURE[0]
        pen.text((left, 626), _cut(caption, _font(17), width), FAINT, _font(17), anchor="lm")
        pen.rectangle((left - 1, _PICTURES_TOP - 1, left + width, _PICTURES_TOP + _PICTURE[1]), outline=TRACK)
    if page.image is None:
        return
    plain = eight_bit(page.image, _PICTURE)
    height, width = plain.shape[:2]
    top = _PICTURES_TOP + (_PICTURE[1] - height) // 2
    left, right = (column + (_PICTURE[0] - width) // 2 for column in _COLUMNS)
    sheet.paste(Image.fromarray(plain), (left, top))
    if page.heat is None:
        return
    heat = Image.fromarray(page.heat).resize((width, height), Image.Resampling.BILINEAR)
    laid_over = overlay(plain, np.asarray(heat, dtype=np.float32) / 255)
    sheet.paste(Image.fromarray(laid_over), (right, top))
    if page.outline:
        rows, columns = page.image.shape[:2]
        points = [(right + x * width / columns, top + y * height / rows) for x, y in page.outline]
        pen.line(points, fill=TEXT, width=2)


def _draw_bars(pen: ImageDraw.ImageDraw, left: int, title: str, bars: Sequence[Bar]) -> int:
    """Draw a titled list of bars, and return where it ends."""
    top, right = _TABLES_TOP, left + _PICTURE[0]
    pen.text((left, top), _cut(title, _font(18, bold=True), right - left), TEXT, _font(18, bold=True), "lm")
    names, track, end = left, left + 190, right - 76
    for bar in bars:
        top += _LINE
        colour = BAR_FOUND if bar.found else BAR
        pen.text((names, top), _cut(bar.name, _font(17), 182), TEXT, _font(17), "lm")
        pen.rectangle((track, top - 7, end, top + 7), fill=TRACK)
        reach = track + round((end - track) * min(max(bar.value, 0.0), 1.0))
        if reach > track:
            pen.rectangle((track, top - 7, reach, top + 7), fill=colour)
        if bar.mark is not None:
            at = track + round((end - track) * bar.mark)
            pen.line((at, top - 11, at, top + 11), fill=CAUTION, width=2)
        pen.text((right, top), bar.written, TEXT, _font(17), "rm")
    return top + _LINE


def _draw_lines(pen: ImageDraw.ImageDraw, top: int, lines: Sequence[tuple[str, bool]]) -> None:
    for sentence, is_warning in lines:
        font = _font(17)
        for line in _wrapped(sentence, font, SIDE - 2 * _MARGIN):
            if top > SIDE - 16:
                return
            pen.text((_MARGIN, top), line, CAUTION if is_warning else FAINT, font, "lm")
            top += 23


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(_cut(word, font, width))
    return [line for line in lines if line]


def _cut(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    kept = text
    while kept and font.getlength(kept + "…") > width:
        kept = kept[:-1]
    return kept + "…"


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    # DejaVu comes with matplotlib, so that a page looks alike on every machine.
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / name), size)
