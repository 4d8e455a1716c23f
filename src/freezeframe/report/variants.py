"""The table of a bundle's variants in a report: how large, how fast and how good each is."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from freezeframe import files
from freezeframe.errors import UserError
from freezeframe.report.contents import Contents
from freezeframe.report.language import Language
from freezeframe.report.tables import Cell, Estimate, Quantity, Table

FILE = "optimise.json"
SCHEMA_VERSION = 1


def find(folder: Path, contents: Contents) -> dict[str, Any] | None:
    """Return the variants that were made of the evaluated networks, from a folder beside the evaluation's.

    None where there is no such folder; a table of other networks is not taken.
    """
    for path in sorted(Path(folder).absolute().parent.glob(f"*/{FILE}")):
        content = files.read_json(path)
        if content.get("schema_version") == SCHEMA_VERSION and _is_of(content, contents):
            return content
    return None


def read(folder: Path, contents: Contents) -> dict[str, Any]:
    """Read the table that `freezeframe export --optimise` wrote into a folder.

    Raises
    ------
    UserError
        If there is none, or it is of other networks than the evaluated ones.
    """
    path = Path(folder) / FILE
    content = files.read_json(path)
    if content.get("schema_version") != SCHEMA_VERSION:
        raise UserError(
            f"{path} is of schema version {content.get('schema_version')}.",
            f"version {SCHEMA_VERSION}.",
            "Make the variants again with `freezeframe export --optimise`.",
        )
    if not _is_of(content, contents):
        raise UserError(
            f"{path} is about other networks than this evaluation.",
            "variants of the evaluated ensemble.",
            "Give the folder that `freezeframe export --optimise` made of it.",
        )
    return content


def _is_of(content: Mapping[str, Any], contents: Contents) -> bool:
    evaluated = sorted(str(member.run.get("weights_sha256", "")) for member in contents.members)
    return sorted(content.get("members", {}).values()) == evaluated


def table(content: Mapping[str, Any], language: Language) -> Table:
    """Lay out the variants, one a row."""
    columns = (
        "variant", "bundle_size", "images_per_second", "latency", "variant_auc", "auc_lost", "auc_lost_test",
        "decisions_changed", "offered",
    )  # fmt: skip
    rows = tuple(_row(row, language) for row in content["variants"])
    images = content["images"]
    note = language.text(
        "variants_note",
        test=images["test"],
        validation=images["validation"],
        cores=content["cores"],
        limit=language.number(content["limit"]),
    )
    return Table(
        "variants",
        language.text("variants_caption"),
        tuple(language.text(name) for name in columns),
        rows,
        " ".join([note, *_missing(content, language)]),
    )


def _row(row: Mapping[str, Any], language: Language) -> tuple[Cell, ...]:
    against = row["against_float32"]
    changed: Cell = None
    if against:
        changed = max(against["validation"]["decisions_changed"].values())
    lost = [
        _estimate(against[split]["auc_loss"], True) if against else None for split in ("validation", "test")
    ]
    return (
        row["variant"],
        Quantity(row["bytes"], language.size(row["bytes"])),
        Quantity(row["images_per_second"], language.number(row["images_per_second"], 0)),
        Quantity(row["latency_ms"], f"{language.number(row['latency_ms'], 1)}\u00a0ms"),
        _estimate(row["test"]["roc_auc"]),
        *lost,
        changed,
        language.text("yes" if row["passed"] else "no"),
    )


def _estimate(found: Mapping[str, Any], signed: bool = False) -> Estimate:
    return Estimate(found["value"], found["low"], found["high"], signed=signed)


def _missing(content: Mapping[str, Any], language: Language) -> Iterable[str]:
    names = sorted(content["not_made"])
    if names:
        yield language.text("variants_not_made", names=language.enumerate(names))
