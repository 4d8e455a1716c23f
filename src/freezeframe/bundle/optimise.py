"""The optimise table: how large, how fast and how good each variant of a bundle is, measured side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from freezeframe import files, machine
from freezeframe.bundle import gate
from freezeframe.bundle.runtime.contents import LOGITS
from freezeframe.bundle.runtime.folder import Bundle, open_bundle
from freezeframe.bundle.runtime.sessions import Session, open_session
from freezeframe.bundle.variants import Asked, ask
from freezeframe.data.manifest import Manifest
from freezeframe.errors import UserError
from freezeframe.evaluation import assessment
from freezeframe.evaluation.assessment import Labelled
from freezeframe.progress import progress, say
from freezeframe.seeds import generator

SCHEMA_VERSION = 1
FLOAT32 = "float32"
BATCH = 16
REPEATS = 15
"""Of each speed, in turns; the median is not moved by a pause of the machine."""
RESAMPLES = 2000
SEED = 0
TABLE = "optimise.json"
HEADINGS = (
    "variant",
    "MB",
    "images/s (batch 16)",
    "ms (one image)",
    "test AUC (95 %)",
    "test accuracy (95 %)",
    "AUC lost, validation (95 %)",
    "AUC lost, test (95 %)",
    "decisions changed, validation",
    "decisions changed, test",
    "offered",
)


def compare(
    bundles: Mapping[str, Path],
    validation: Manifest,
    test: Manifest,
    positive: int,
    out: Path,
    members: Mapping[str, str],
    limit: float = gate.LARGEST_LOSS,
    not_made: Mapping[str, str] | None = None,
    repeats: int = REPEATS,
) -> dict[str, Any]:
    """Measure variants of one bundle, and write ``optimise.json`` and ``optimise.md``.

    A variant is passed by what it loses on validation images; what it loses on test images is said beside it and
    chooses nothing.

    Parameters
    ----------
    bundles : mapping of str to Path
        Folder of each variant; 'float32' among them.
    validation, test : Manifest
        Labelled images.
    positive : int
        Index of the positive class of two, in float32's order.
    out : Path
        Folder of the table.
    members : mapping of str to str
        Name and hash of the weights of the runs that all this was made of, by which a report knows it.
    limit : float
        Of what a variant may lose, see `gate.Verdict`.
    not_made : mapping of str to str, optional
        Variants that could not be made, and why.
    repeats : int
        Of each speed.

    Returns
    -------
    dict
        The content of ``optimise.json``.

    Raises
    ------
    UserError
        If a bundle can't be opened, or the variants' classes differ.
    """
    opened = {name: open_bundle(path) for name, path in bundles.items()}
    labels = opened[FLOAT32].contents.labels
    for name, bundle in opened.items():
        if bundle.contents.labels != labels:
            raise UserError(
                f"The classes of {name} are {', '.join(bundle.contents.labels)}, those of {FLOAT32} "
                f"{', '.join(labels)}.",
                "the same classes in the same order.",
            )
    asked = {
        split: {
            name: ask(bundle, manifest, positive, f"{name} on {split}") for name, bundle in opened.items()
        }
        for split, manifest in (("validation", validation), ("test", test))
    }
    speeds = speed(opened, repeats)
    scores = _scores(asked["test"])
    rows = []
    for name, bundle in opened.items():
        verdicts = {
            split: gate.judge(sides[FLOAT32].images, sides[FLOAT32].side, sides[name].side, limit)
            for split, sides in asked.items()
            if name != FLOAT32
        }
        rows.append(
            {
                "variant": name,
                "folder": str(Path(bundles[name]).relative_to(out))
                if Path(bundles[name]).is_relative_to(out)
                else str(bundles[name]),
                "members": len(bundle.contents.members),
                "bytes": sum(bundle.sizes.values()),
                "graph_bytes": sum(bundle.sizes[member.graph] for member in bundle.contents.members),
                **speeds[name],
                "test": {metric: scores[name][metric] for metric in ("roc_auc", "accuracy")},
                "against_float32": {split: verdict.to_dict() for split, verdict in verdicts.items()},
                "passed": all(verdict.passed for split, verdict in verdicts.items() if split == "validation"),
            }
        )
    content = {
        "schema_version": SCHEMA_VERSION,
        "members": dict(members),
        "limit": limit,
        "cores": machine.available_cores(),
        "images": {split: len(sides[FLOAT32].images.labels) for split, sides in asked.items()},
        "positive_class": labels[positive],
        "variants": rows,
        "not_made": dict(not_made or {}),
    }
    for row in rows:
        if not row["passed"]:
            lost = row["against_float32"]["validation"]["auc_loss"]
            say(
                f"{row['variant']} is not offered: on validation images it loses {_interval(lost)} of the AUC, and at "
                f"most {limit} is accepted."
            )
    files.write_json(out / TABLE, content)
    files.write_text(out / "optimise.md", in_markdown(content))
    return content


def speed(bundles: Mapping[str, Bundle], repeats: int = REPEATS) -> dict[str, dict[str, float]]:
    """Time all members of each bundle, one bundle after the other in turns, so that all see the same machine.

    Returns
    -------
    dict
        For each bundle ``images_per_second`` (batches of 16) and ``latency_ms`` (one image): medians. From prepared
        images to logits; decoding is the same for all.
    """
    sessions: dict[str, list[tuple[Session, np.ndarray]]] = {}
    for name, bundle in bundles.items():
        sessions[name] = []
        for number, member in enumerate(bundle.contents.members):
            frame = member.prepared_by()
            shape = (BATCH, 3, frame.height, frame.width)
            images = generator(SEED, "speed", number).standard_normal(shape, dtype=np.float32)
            sessions[name].append((open_session(bundle.read(member.graph)), images))
    seconds: dict[tuple[str, int], list[float]] = {
        (name, size): [] for name in bundles for size in (BATCH, 1)
    }
    with progress("Timing", repeats + 1, "rounds") as advance:
        for turn in range(repeats + 1):
            for (name, size), found in seconds.items():
                start = time.perf_counter()
                for session, images in sessions[name]:
                    session.run(images[:size], (LOGITS,))
                if turn:  # the first warms up
                    found.append(time.perf_counter() - start)
            advance(1)
    return {
        name: {
            "images_per_second": BATCH / statistics.median(seconds[name, BATCH]),
            "latency_ms": 1000 * statistics.median(seconds[name, 1]),
        }
        for name in bundles
    }


def _scores(sides: Mapping[str, Asked]) -> dict[str, dict[str, dict[str, Any]]]:
    images = next(iter(sides.values())).images
    probabilities = {name: asked.side.probabilities for name, asked in sides.items()}
    labelled = Labelled(images.labels, images.patients, probabilities, images.classes, images.positive)
    return assessment.assess(labelled, None, RESAMPLES, SEED)[0]


def in_markdown(content: Mapping[str, Any]) -> str:
    """Write the table of ``optimise.json`` as Markdown."""
    images = content["images"]
    said = (
        f"{images['test']:,} test and {images['validation']:,} validation images; {content['cores']} cores. Speed is "
        "from prepared images to logits, all members. A variant is offered where the upper end of its AUC's loss on "
        f"validation images is at most {content['limit']}."
    )
    lines = ["# Variants", "", said, "", f"| {' | '.join(HEADINGS)} |", "| " + "--- | " * len(HEADINGS)]
    for row in content["variants"]:
        against = row["against_float32"]
        lost = [_interval(against[split]["auc_loss"]) if against else "" for split in ("validation", "test")]
        changed = [_changed(against[split]) if against else "" for split in ("validation", "test")]
        cells = [
            row["variant"],
            f"{row['bytes'] / 1e6:.1f}",
            f"{row['images_per_second']:.0f}",
            f"{row['latency_ms']:.1f}",
            _interval(row["test"]["roc_auc"]),
            _interval(row["test"]["accuracy"]),
            *lost,
            *changed,
            "yes" if row["passed"] else "no",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    missing = [f"- {name} could not be made: {reason}" for name, reason in content["not_made"].items()]
    return "\n".join([*lines, *([""] if missing else []), *missing]) + "\n"


def _interval(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is None:
        return ""
    if estimate["low"] is None:
        return f"{estimate['value']:.4f}"
    return f"{estimate['value']:.4f} ({estimate['low']:.4f} to {estimate['high']:.4f})"


def _changed(verdict: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} ({name})" for name, count in verdict["decisions_changed"].items())
