"""The page of an inspection: duplicates side by side and histograms of shortcuts, in one HTML file."""

# What pandas says of the types of its columns is too wide for these checks.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportGeneralTypeIssues=false
# pyright: reportCallIssue=false

import base64
import io
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from freezeframe import files
from freezeframe.data.shortcuts import Shortcut
from freezeframe.imaging.decode import UnreadableImage, decode
from freezeframe.report import language
from freezeframe.verbs.inspection import Inspection
from freezeframe.verbs.inspection_words import number, sentence, words

PAIRS, HISTOGRAMS, ROWS, SIDE = 36, 6, 30, 150
# Of Okabe and Ito, distinct to colour-blind readers.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#000000")
_PAGE = """<!doctype html>
<html lang="{{ lang }}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title><style>
body{font:16px/1.5 system-ui,sans-serif;max-width:68rem;margin:auto;padding:1rem;color:#1a1a1a;background:#fff}
h1{font-size:1.4rem;overflow-wrap:anywhere}h2{font-size:1.1rem;margin-top:2rem}ul{padding-left:0;list-style:none}
li{border-left:.3rem solid #999;padding:.2rem .6rem;margin:.3rem 0;overflow-wrap:anywhere}
li.serious{border-color:#b00020}li.caution{border-color:#b26a00}li b{text-transform:uppercase;font-size:.75rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{text-align:left;padding:.15rem .8rem .15rem 0}
td.n,th.n{text-align:right}tr{border-bottom:1px solid #ddd}.scroll{overflow-x:auto}
.grid{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(17rem,1fr))}
figure{margin:0;break-inside:avoid;font-size:.8rem;overflow-wrap:anywhere}
figure.pair img{width:49%;aspect-ratio:1;object-fit:contain;background:#eee}
.plots img{width:100%}.flag{color:#b00020}
</style></head><body><h1>{{ title }}</h1><p>{{ facts }}</p>
<h2>{{ w.warnings }}</h2><ul>
{% for level, text in findings %}
<li class="{{ level }}"><b>{{ w[level] }}</b> {{ text }}</li>
{% else %}
<li>{{ w.no_warnings }}</li>
{% endfor %}
</ul>
{% for name, header, rows in tables %}
<h2>{{ name }}</h2><div class="scroll"><table>
<tr>{% for cell in header %}<th>{{ cell }}</th>{% endfor %}</tr>
{% for row in rows %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</table></div>
{% endfor %}
{% if plots %}
<h2>{{ w.shortcuts }}</h2><p>{{ w.shortcuts_help }}</p><div class="grid plots">
{% for plot in plots %}
<figure><img alt="" src="data:image/png;base64,{{ plot.image }}"><figcaption>{{ plot.text }}</figcaption></figure>
{% endfor %}
</div>
{% endif %}
{% if pairs %}
<h2>{{ w.duplicates }}</h2><p>{{ pairs_text }}</p><div class="grid">
{% for pair in pairs %}
<figure class="pair">
{% for side in pair.sides %}
<img alt="{{ side.text }}" src="data:image/jpeg;base64,{{ side.image }}">
{% endfor %}
<figcaption>{{ pair.kind }}, {{ pair.similarity }}
{% for flag in pair.flags %}, <span class="flag">{{ flag }}</span>{% endfor %}
<br>{{ pair.sides[0].text }}<br>{{ pair.sides[1].text }}</figcaption></figure>
{% endfor %}
</div>
{% endif %}
{% if notes %}
<h2>{{ w.notes }}</h2><ul>{% for note, code in notes %}<li lang="{{ code }}">{{ note }}</li>{% endfor %}</ul>
{% endif %}
</body></html>
"""


def write_page(inspection: "Inspection", path: Path, lang: str) -> None:
    """Write an inspection as one self-contained HTML file.

    Parameters
    ----------
    inspection : Inspection
        What was found.
    path : Path
        The file.
    lang : {"en", "es"}
        Its language.
    """
    known = words(lang)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True)
    pairs = _pairs(inspection, lang)
    page = environment.from_string(_PAGE).render(
        lang=lang,
        w=known,
        title=known["title"].format(root=inspection.manifest.root),
        facts=facts(inspection, lang),
        findings=[(one.level, sentence(one.key, one.values, lang)) for one in inspection.findings],
        tables=tables(inspection, lang),
        plots=[
            {"image": _histogram(inspection.images, one, lang), "text": sentence("shortcut", vars(one), lang)}
            for one in inspection.shortcuts[:HISTOGRAMS]
        ],
        pairs=pairs,
        pairs_text=known["duplicates_count"].format(
            pairs=number(len(inspection.duplicates), lang),
            groups=number(int(inspection.duplicates["group"].nunique()), lang),
            shown=len(pairs),
        ),
        notes=[language.load(lang).note(note) for note in inspection.manifest.notes],
    )
    files.write_text(path, page)


def facts(inspection: "Inspection", lang: str) -> str:
    """Say how many images, classes and patients there are."""
    known = words(lang)
    patients = inspection.to_dict()["n_patients"]
    with_patients = known["with_patients"].format(count=number(patients, lang))
    return known["facts"].format(
        images=number(len(inspection.manifest), lang),
        classes=len(inspection.manifest.classes),
        patients=with_patients if patients else known["no_patients"],
    )


def tables(inspection: "Inspection", lang: str) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return the tables as title, header and rows of text; those without rows are left out."""
    w = words(lang)
    duplicates = inspection.duplicates
    flags = ("across_splits", "across_patients", "conflicting_labels")
    kinds = [
        [w[str(kind)], len(part), *(int(part[flag].sum()) for flag in flags)]
        for kind, part in duplicates.groupby("kind", sort=False)
    ]
    shortcuts = [
        [
            w.get(one.split, ""),
            one.label,
            w[one.feature],
            one.auc,
            f"{number(one.low, lang)} - {number(one.high, lang)}",
            w[one.direction],
        ]
        for one in inspection.shortcuts
    ]
    counts = [[w.get(split, ""), *rest] for split, *rest in inspection.counts.values.tolist()]
    sizes = [[f"{one.width} x {one.height}", one.images] for one in inspection.sizes.itertuples()]
    modes = [[f"{one.mode}, {one.bits}", one.images] for one in inspection.modes.itertuples()]
    every = [
        (w["counts"], ["split", "class", "images", "patients"], counts),
        (w["sites"], ["site", "class", "images"], inspection.sites.values.tolist()),
        (w["duplicates"], ["kind", "pairs", *flags], kinds),
        (w["shortcuts"], ["split", "class", "feature", "AUC", "interval", "direction"], shortcuts),
        (w["files"], ["size", "images"], sizes),
        (w["files"], ["mode", "images"], modes),
        (w["unreadable_title"], ["images", "reason"], inspection.unreadable.values.tolist()),
    ]
    return [
        (
            title,
            [w.get(name, name) for name in header],
            [[number(cell, lang) for cell in row] for row in rows[:ROWS]],
        )
        for title, header, rows in every
        if rows
    ]


def _histogram(images: pd.DataFrame, shortcut: Shortcut, lang: str) -> str:
    part = images[(images["split"] == shortcut.split) & (images["label"] != "")]
    values = part[shortcut.feature].to_numpy(np.float64)
    low, high = np.quantile(values, [0.005, 0.995])
    bins = np.linspace(low, high if high > low else low + 1, 41)
    figure = Figure(figsize=(4, 2.4), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    for place, (label, rows) in enumerate(part.groupby("label")):
        axes.hist(
            np.clip(rows[shortcut.feature], bins[0], bins[-1]),
            bins=list(bins),
            density=True,
            histtype="stepfilled",
            alpha=0.5,
            color=COLOURS[place % len(COLOURS)],
            label=str(label),
        )
    axes.set_xlabel(words(lang)[shortcut.feature])
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return base64.b64encode(stream.getvalue()).decode()


def _pairs(inspection: "Inspection", lang: str) -> list[dict]:
    w = words(lang)
    table = inspection.manifest.table
    row_of = {name: row for row, name in enumerate(table["image"])}
    references = inspection.manifest.references()
    shown = []
    for one in inspection.duplicates.head(PAIRS).to_dict("records"):
        sides = []
        for side in ("first", "second"):
            reference = references[row_of[one[side]]]
            try:
                sides.append({"image": _small(reference.path, reference.frame), "text": one[side]})
            except UnreadableImage:  # gone since it was measured
                break
        flags = [w[name] for name in ("across_splits", "across_patients", "conflicting_labels") if one[name]]
        if len(sides) == 2:
            similarity = number(float(one["similarity"]), lang)
            shown.append({"sides": sides, "kind": w[one["kind"]], "similarity": similarity, "flags": flags})
    return shown


def _small(path: Path, frame: int) -> str:
    pixels = decode(path, frame).pixels
    if pixels.dtype == np.uint16:
        values = pixels.astype(np.float32)
        low, high = float(values.min()), float(values.max())
        pixels = ((values - low) * (255 / max(high - low, 1))).astype(np.uint8)
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    image.save(stream, format="JPEG", quality=75)
    return base64.b64encode(stream.getvalue()).decode()
