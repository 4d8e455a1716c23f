import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from freezeframe.report import figures, rendering
from freezeframe.report.figures import Curve
from freezeframe.report.language import load

ENGLISH, SPANISH = load("en"), load("es")


def drawing(language=ENGLISH):
    return figures.confusion(
        "confusion-1", "a < b", np.array([[1500, 3], [0, 12]]), ("normal", "$x_1$"), language
    )


def test_the_same_numbers_give_the_same_bytes():
    assert drawing().svg() == drawing().svg()
    assert drawing().png() == drawing().png()


def test_an_inline_figure_names_no_address_and_no_font_and_follows_the_dark_mode():
    text = drawing().inline()
    assert "http" not in text
    assert "DejaVu" not in text
    assert rendering.INK not in text
    assert "var(--ink)" in text


def test_an_inline_figure_is_well_formed_and_says_what_it_shows():
    root = ET.fromstring(drawing().inline())
    assert root.attrib["role"] == "img"
    assert "truth normal, decision $x_1$: 3" in root.attrib["aria-label"]


def test_every_reference_in_an_inline_figure_leads_to_an_id_of_the_same_figure():
    curves = [Curve(np.linspace(0, 1, 5), np.linspace(0, 1, 5), "ensemble", main=True)]
    text = figures.roc("roc", curves, (0.1, 0.9), ENGLISH).inline()
    ids = set(re.findall(r'id="([^"]+)"', text))
    references = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text))
    assert references
    assert {a or b for a, b in references} <= ids
    assert all(name.startswith("roc-") for name in ids)


def test_a_class_with_dollar_signs_is_drawn_as_it_is_written():
    assert "$x_1$" in drawing().inline()


def test_numbers_in_a_figure_follow_the_language():
    assert "1,500" in drawing().inline()
    assert "99,8\u00a0%" in drawing(SPANISH).inline()


@pytest.mark.parametrize("most", [10, 50])
def test_a_thinned_curve_keeps_its_ends_and_its_corner(most):
    x = np.concatenate([np.zeros(1000), np.linspace(0, 1, 1000)])
    y = np.concatenate([np.linspace(0, 1, 1000), np.ones(1000)])
    thin_x, thin_y = figures.thin(x, y, most)
    assert len(thin_x) <= most + 2
    assert (thin_x[0], thin_y[0], thin_x[-1], thin_y[-1]) == (0, 0, 1, 1)
    assert np.abs(thin_x).min() == 0
    assert np.hypot(thin_x, 1 - thin_y).min() < 2 / most
