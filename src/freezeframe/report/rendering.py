"""How a figure of a report looks, and how it is written: SVG of its own or inside a page, and PNG."""

import io
import re
import warnings
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with every common colour blindness. The first is the ensemble's.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d3b")
# Replaced by variables of the style sheet in the page, so that a figure follows the dark mode.
INK, SOFT, RULE, PAPER = "#1c2530", "#5b6672", "#d9dcd6", "#ffffff"
VARIABLES = {INK: "var(--ink)", SOFT: "var(--soft)", RULE: "var(--rule)", PAPER: "var(--paper)"}
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT,
    "axes.labelsize": 9,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.hashsalt": "freezeframe",
}


@dataclass(frozen=True)
class Drawing:
    """A figure with the file name that it is stored under and the words that stand for it."""

    name: str
    figure: Figure
    description: str

    def __post_init__(self) -> None:
        """Fix the layout: each of the three ways to write the figure would find it anew, in half of its time."""
        with mpl.rc_context(STYLE), _quiet():
            engine = self.figure.get_layout_engine()
            if engine is not None:
                engine.execute(self.figure)
                self.figure.set_layout_engine("none")

    def svg(self, text_as_paths: bool = True) -> str:
        """Write SVG; paths look the same everywhere, text stays text that can be selected and edited."""
        buffer = io.StringIO()
        with mpl.rc_context({**STYLE, "svg.fonttype": "path" if text_as_paths else "none"}), _quiet():
            FigureCanvasSVG(self.figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
        return buffer.getvalue()

    def inline(self) -> str:
        """Write SVG to stand inside a page: no addresses, ids of its own, colours of the style sheet."""
        text = self.svg(text_as_paths=False)
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
        text = text.replace("xlink:href", "href")
        box = re.search(r'viewBox="([^"]+)"', text)
        head = (
            f'<svg viewBox="{box[1] if box else ""}" role="img" aria-label="{escape(self.description)}" '
            'preserveAspectRatio="xMidYMid meet">'
        )
        text = re.sub(r"<svg[^>]*>", lambda _: head, text, count=1)
        text = re.sub(r'\bid="([^"]+)"', rf'id="{self.name}-\1"', text)
        text = re.sub(r'href="#([^"]+)"|url\(#([^)]+)\)', self._own_reference, text)
        text = re.sub(r"(font: [^;\"]*?px) [^;\"]+", r"\1 var(--sans)", text)
        text = re.sub(r"font-family: [^;\"]+", "font-family: var(--sans)", text)
        for colour, variable in VARIABLES.items():
            text = text.replace(colour, variable)
        return re.sub(r"\s*\n\s*", "\n", text)

    def png(self) -> bytes:
        """Write PNG at 200 dots an inch, on white."""
        buffer = io.BytesIO()
        with mpl.rc_context(STYLE), _quiet():
            canvas = FigureCanvasAgg(self.figure)
            self.figure.set_dpi(200)
            canvas.print_png(buffer, metadata={"Software": None}, pil_kwargs=None)
            self.figure.set_dpi(100)
        return buffer.getvalue()

    def _own_reference(self, match: re.Match[str]) -> str:
        if match[1] is not None:
            return f'href="#{self.name}-{match[1]}"'
        return f"url(#{self.name}-{match[2]})"


def _quiet() -> warnings.catch_warnings:
    # A class named in a script that DejaVu Sans lacks is drawn as boxes in the PNG; the page shows it right.
    return warnings.catch_warnings(action="ignore", category=UserWarning)
