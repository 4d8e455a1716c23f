"""The card: what a bundle was made from, how good it is and what it is for, as data and as pages in two languages."""

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from freezeframe import files
from freezeframe.bundle.runtime.contents import Contents, Point
from freezeframe.data.manifest import SPLITS, Manifest
from freezeframe.ensemble.folder import Ensemble, Run
from freezeframe.evaluation import assessment
from freezeframe.evaluation.assessment import Labelled
from freezeframe.recipe import Recipe

SCHEMA_VERSION = 1
LANGUAGES = {"en": "card.md", "es": "card.es.md"}
"""Name of the page in each language."""
METRICS = (
    "roc_auc",
    "average_precision",
    "accuracy",
    "balanced_accuracy",
    "f1_macro",
    "log_loss",
    "brier_score",
    "expected_calibration_error",
)
"""That a page shows; card.json has all."""
FEW_PATIENTS = 30
RESAMPLES = 2000
SEED = 0
STATEMENT = "Research use. Not a medical device."


def describe(
    ensemble: Ensemble,
    contents: Contents,
    use: str,
    measured: Mapping[str, Any] | None,
    headers: int,
    no_heat: Mapping[str, str],
) -> dict[str, Any]:
    """Gather all that a card says, as plain data.

    Parameters
    ----------
    ensemble : Ensemble
        What was exported.
    contents : Contents
        Of the bundle, with the result of the parity gate.
    use : str
        What the model is for, in its maker's words; '' where not said.
    measured : mapping or None
        From `measure`; None where there are no test images.
    headers : int
        Training images whose DICOM headers `contents.intended` was read from; 0 where none was.
    no_heat : mapping of str to str
        Members without a heat map, and why (see `freezeframe.bundle.heat_graph.Heat`).
    """
    manifest = ensemble.members[0].manifest
    return {
        "schema_version": SCHEMA_VERSION,
        "name": contents.name,
        "made": contents.made,
        "statement": STATEMENT,
        "intended": {"use": use, **contents.intended.model_dump(mode="json"), "read_from_headers": headers},
        "classes": [entry.model_dump(mode="json") for entry in contents.classes],
        "data": _data(manifest, ensemble.classes),
        "training": [_training(member, contents) for member in ensemble.members],
        "combination": {
            "rule": contents.rule,
            "weights": {member.name: member.weight for member in contents.members},
            "temperature": contents.temperature,
        },
        "operating_points": [
            {"name": point.name, **point.threshold().to_dict()} for point in contents.operating_points
        ],
        "evaluation": measured,
        "parity": contents.parity,
        "limits": _limits(ensemble, contents, measured, no_heat),
        "heat_maps_missing": dict(no_heat),
        "versions": contents.versions,
        "licence": contents.licence,
    }


def measure(images: Labelled, model: str, points: Sequence[Point], metrics: Mapping[str, Any] | None) -> dict:
    """Compute what a card says of how good the model is, on labelled images.

    Parameters
    ----------
    images : Labelled
        Test images, and what the model says of them.
    model : str
        Its name among the probabilities.
    points : sequence of Point
        The bundle's operating points.
    metrics : mapping, optional
        All metrics with intervals, where an evaluation computed them already.
    """
    if metrics is None:
        metrics = assessment.assess(images, None, RESAMPLES, SEED)[0][model]
    return {
        "images": len(images.labels),
        "patients": len(np.unique(images.patients)),
        "positive_class": images.classes[images.positive] if len(images.classes) == 2 or points else None,
        "metrics": dict(metrics),
        "operating_points": {
            point.name: assessment.at_operating_point(images, model, point.threshold(), RESAMPLES, SEED)
            for point in points
        },
    }


def write_cards(folder: Path, card: Mapping[str, Any]) -> None:
    """Write ``card.json`` and the page of each language into a bundle's folder."""
    files.write_json(folder / "card.json", card)
    for language, name in LANGUAGES.items():
        files.write_text(folder / name, render(card, language))


def render(card: Mapping[str, Any], language: str) -> str:
    """Write a card as a Markdown page.

    Parameters
    ----------
    card : mapping
        From `describe`.
    language : str
        One of `LANGUAGES`.
    """
    template = resources.files("freezeframe.bundle").joinpath(f"templates/card.{language}.md.j2")
    environment = jinja2.Environment(
        autoescape=False,  # noqa: S701 - the page is Markdown
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    mark = "," if language == "es" else "."

    def number(value: float | None, digits: int = 3) -> str:
        return "–" if value is None else f"{value:.{digits}f}".replace(".", mark)

    def scientific(value: float) -> str:
        return f"{value:.1e}".replace(".", mark)

    def interval(found: Mapping[str, Any]) -> str:
        if found["value"] is None or found["low"] is None:
            return number(found["value"])
        return f"{number(found['value'])} ({number(found['low'])}–{number(found['high'])})"

    environment.filters |= {
        "number": number,
        "interval": interval,
        "scientific": scientific,
        "cell": _cell,
    }
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        card=card, splits=SPLITS, metrics=METRICS
    )


def _cell(text: Any) -> str:
    # A class or site may be called anything, and a bar would end the table's cell.
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def _data(manifest: Manifest, classes: Sequence[str]) -> dict[str, Any]:
    counts: dict[str, Any] = {}
    for split in SPLITS:
        part = manifest.subset(split)
        labels = part.table["label"].tolist()
        sites = Counter(site for site in part.table["site"].tolist() if site)
        counts[split] = {
            "images": len(part),
            "patients": len(set(part.table["patient"]) - {""}),
            "by_class": {name: labels.count(name) for name in classes},
            "unlabelled": labels.count(""),
            "synthetic": int(part.added().sum()),
            "by_site": dict(sorted(sites.items())),
        }
    return {"splits": counts, "notes": list(manifest.notes)}


def _training(member: Run, contents: Contents) -> dict[str, Any]:
    recipe = Recipe.read(member.folder / "recipe.yaml")
    own = next(entry for entry in contents.members if entry.name == member.name)
    chosen = recipe.to_dict()
    names = (
        "unfreeze", "augment", "views", "dropout", "hidden", "optimiser", "learning_rate", "imbalance", "batch_size",
        "seed",
    )  # fmt: skip
    return {
        "member": member.name,
        "backbone": recipe.backbone,
        "pretrained": member.details.get("weights", {}),
        "weights_sha256": member.weights_sha256,
        "input_size": [own.prepared_by().height, own.prepared_by().width],
        "preprocessing": own.preprocessing,
        "epochs": member.details["epochs"],
        "best_epoch": member.details["best_epoch"] + 1,  # counted from 1, as people do
        "recipe": {name: chosen[name] for name in names},
    }


def _limits(
    ensemble: Ensemble, contents: Contents, measured: Mapping[str, Any] | None, no_heat: Mapping[str, str]
) -> list[str]:
    """Return the keys of the sentences that a page says about the limits of the model."""
    manifest = ensemble.members[0].manifest
    table = manifest.table
    train = manifest.subset("train").table
    test = table[table["split"] == "test"].assign(person=manifest.patients()[table["split"] == "test"])
    smallest = min(
        (test.loc[test["label"] == name, "person"].nunique() for name in ensemble.classes), default=0
    )
    found = {
        "no_test": measured is None,
        "few_patients": measured is not None and smallest < FEW_PATIENTS,
        "patients_unknown": bool((train["patient"] == "").any()),
        "sites_unknown": bool((train["site"] == "").all()),
        "one_site": train.loc[train["site"] != "", "site"].nunique() == 1,
        "synthetic": bool(manifest.added().any()),
        "no_screening": all(member.reference is None for member in contents.members),
        "no_heat": bool(no_heat),
        "no_code": any(entry.code is None for entry in contents.classes),
        "no_intended": contents.intended == type(contents.intended)(),
    }
    return [name for name, holds in found.items() if holds]
