"""From the recipe's data source to a manifest: class folders, tables, DICOM files."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pandas as pd

from freezeframe.data.manifest import Manifest
from freezeframe.data.sources.dicom import IDENTIFIERS, Header, header_notes, read_headers
from freezeframe.data.sources.folder import Rows, read_class_folders
from freezeframe.data.sources.identity import check_unchanged, identify
from freezeframe.data.sources.join import join_rows, match_files
from freezeframe.data.sources.labels import match_labels
from freezeframe.data.sources.patients import detect_patients, match_patients
from freezeframe.data.sources.scan import is_regular_file, kind_of_file, scan
from freezeframe.data.sources.synthetic import add_synthetic, outside
from freezeframe.data.sources.table import (
    TABLE_SUFFIXES,
    Columns,
    find_columns,
    named_column,
    plain,
    read_table,
)
from freezeframe.data.wording import counted, listed
from freezeframe.errors import UserError
from freezeframe.recipe import DataSource

__all__ = ["check_unchanged", "read_manifest"]


def read_manifest(source: DataSource) -> Manifest:
    """List a data set's images with labels, patients, sites and splits, and hash them.

    Labels come from class folders (``class/``, or ``train|validation|test/class/``), from a table of image paths, or
    from a table joined to the images of a folder by their path or by a DICOM identifier, or from ``label_pattern``.
    Patients come from a column, from ``patient_pattern``, from DICOM, or from a naming that is known. Only a folder
    that tells nothing of classes gives images without labels. No split is made here: the data set's own, if any, is
    kept. Synthetic images are added for training alone.

    Parameters
    ----------
    source : DataSource
        The ``data`` of a recipe.

    Returns
    -------
    Manifest
        In code-point order of the images' names, synthetic ones last; its notes tell what was left out and how it was
        understood.

    Raises
    ------
    UserError
        If there is nothing to read, or it contradicts itself.
    """
    for what in ("label", "patient"):
        if getattr(source, f"{what}_column") and getattr(source, f"{what}_pattern"):
            raise UserError(
                f"Both {what}_column and {what}_pattern are given.", "one of them.", "Leave one out."
            )
    path = source.path.expanduser().absolute()
    if path.is_dir():
        root, rows, headers = _read_folder(path, source)
    elif is_regular_file(path):
        root, rows, headers = _read_lone_table(path, source)
    else:
        raise UserError(
            f"There is no folder or table {source.path}.", "a folder of images, or a table.", "Check 'data'."
        )
    if source.split_column == "none":
        rows = _without_splits(rows)
    if source.label_pattern:
        labels, said = match_labels(rows.table["file"].tolist(), source.label_pattern)
        labelled = rows.table.assign(label=pd.Series(labels, index=rows.table.index, dtype="str"))
        rows = Rows(labelled, (*rows.notes, *said))
    rows = _with_patients(rows, headers, source)
    manifest = _finish(rows, headers, root, source)
    return add_synthetic(manifest, source.synthetic) if source.synthetic else manifest


def _read_folder(root: Path, source: DataSource) -> tuple[Path, Rows, dict[str, Header]]:
    table = _table_path(root, source.table) if source.table is not None else None
    found = scan(root, table)
    if not found.files:
        raise UserError(
            f"{source.path} holds no images. {' '.join(found.notes)}".strip(),
            "JPEG, PNG, TIFF, WebP or DICOM files in a folder for each class.",
            "Check the path.",
        )
    headers, others = read_headers(root, sorted(found.dicom))
    dropped = set(others)
    names = outside([name for name in found.files if name not in dropped], root, source.synthetic)
    notes = [*found.notes, *header_notes(sorted(found.dicom), headers, others)]
    if table is not None:
        rows = _join(names, headers, root, table, source)
    else:
        _refuse_columns(source)
        rows = read_class_folders(names, labels=source.label_pattern is None)
        beside = [name for name in found.others if "/" not in name and name.lower().endswith(TABLE_SUFFIXES)]
        if beside:
            notes.append(f"{listed(beside)} in the folder was not read; 'table: {beside[0]}' would use it.")
        if names and source.label_pattern is None and not any(rows.table["label"].tolist()):
            notes.append("The images have no labels: there are no class folders and no table.")
    return root, replace(rows, notes=(*notes, *rows.notes)), headers


def _refuse_columns(source: DataSource) -> None:
    named = [
        field
        for field in (
            "image_column",
            "label_column",
            "patient_column",
            "site_column",
            "split_column",
            "join_on",
        )
        if getattr(source, field) not in (None, "none")
    ]
    if named:
        raise UserError(
            f"{', '.join(named)} is given, but {source.path} is a folder and no table is named.",
            "a table for the column.",
            "Add 'table: file.csv' to 'data'.",
        )


def _table_path(root: Path, given: Path) -> Path:
    """Take a table's path as it stands, else as one in the data set's folder."""
    path = given.expanduser()
    if path.exists() or (root / path).exists():
        return path.absolute() if path.exists() else root / path
    above = root.parent / path
    raise UserError(
        f"There is no table {given}, neither here nor in {root}.",
        "a CSV, TSV or Parquet file.",
        f"There is {above}: say 'table: {above}'." if above.is_file() else "Check the path.",
    )


def _join(names: list[str], headers: dict[str, Header], root: Path, path: Path, source: DataSource) -> Rows:
    table = read_table(path)
    columns, notes = find_columns(table, source, path.name)
    identifier, column = _identifier(table, columns, headers, source, path.name)
    if identifier:
        rows_of = defaultdict(list)
        for number, cell in enumerate(table[column]):
            rows_of[cell].append(number)
        pairs = [
            (name, number)
            for name in names
            if name in headers and (value := headers[name].identifiers[identifier])
            for number in rows_of.get(value, [])
        ]
        notes.append(f"The table is joined to the DICOM files by {identifier} (column '{column}').")
    elif columns.image:
        matched = match_files(table[columns.image].tolist(), names, (root, path.parent))
        pairs = [(name, number) for number, name in enumerate(matched) if name]
    else:
        raise UserError(
            f"{path.name} has no column that joins it to the images; it has {listed(table.columns, 30)}.",
            f"a column of image paths, or for DICOM files one of {', '.join(IDENTIFIERS)}.",
            "Name it with 'image_column'.",
        )
    rows = join_rows(table, columns, pairs, len(names), path.name)
    return replace(rows, notes=(*notes, *rows.notes))


def _identifier(
    table: pd.DataFrame, columns: Columns, headers: dict[str, Header], source: DataSource, name: str
) -> tuple[str, str]:
    """Return the DICOM attribute that joins table and files, and its column; ('', '') to join by path."""
    if source.join_on:
        return source.join_on, named_column(table, source.join_on, "join_on", name)
    if source.image_column or not headers:
        return "", ""
    by_plain_name = {plain(column): column for column in table.columns}
    known = {word: by_plain_name[plain(word)] for word in IDENTIFIERS if plain(word) in by_plain_name}
    if "SOPInstanceUID" not in known and columns.image:
        return "", ""
    return next(iter(known.items()), ("", ""))


def _read_lone_table(path: Path, source: DataSource) -> tuple[Path, Rows, dict[str, Header]]:
    if kind_of_file(path):
        raise UserError(f"{source.path} is one image.", "a folder of images, or a table.", "Give its folder.")
    if source.table is not None or source.join_on:
        raise UserError(
            f"'path' is the file {source.path}, and 'table' or 'join_on' is given too.",
            "the images' folder as 'path' and the table as 'table', or a table of image paths alone.",
            "Give the folder, or leave 'table' and 'join_on' out.",
        )
    root = path.parent
    table = read_table(path)
    columns, notes = find_columns(table, source, path.name)
    if not columns.image:
        raise UserError(
            f"{path.name} has no column of image paths; it has {listed(table.columns, 30)}.",
            "one with a usual name, such as 'image' or 'file'.",
            "Name it with 'image_column', or give the images' folder: data: {path: folder, table: the table}.",
        )
    pairs = [
        (_relative(file, root), number)
        for number, cell in enumerate(table[columns.image])
        if cell and is_regular_file(file := root / cell.replace("\\", "/"))
    ]
    real = set(outside({name for name, _ in pairs}, root, source.synthetic))
    pairs = [pair for pair in pairs if pair[0] in real]
    files = sorted(real)
    dicom = [name for name in files if kind_of_file(root / name) == "dicom"]
    headers, others = read_headers(root, dicom)
    dropped = set(others)
    pairs = [pair for pair in pairs if pair[0] not in dropped]
    rows = join_rows(table, columns, pairs, len(files) - len(dropped), path.name)
    return (
        root,
        replace(rows, notes=(*notes, *header_notes(dicom, headers, others), *rows.notes)),
        headers,
    )


def _relative(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def _without_splits(rows: Rows) -> Rows:
    number = sum(word != "" for word in rows.table["split"])
    note = f"The data set's own splits are not used (split_column: none): {counted(number, 'image')} had one."
    return Rows(rows.table.assign(split=""), (*rows.notes, note) if number else rows.notes)


def _with_patients(rows: Rows, headers: dict[str, Header], source: DataSource) -> Rows:
    table, notes = rows.table.copy(), list(rows.notes)
    files = table["file"].tolist()
    if source.patient_pattern:
        table["patient"], said = match_patients(files, source.patient_pattern)
        notes += said
    elif not any(table["patient"].tolist()):
        own = [headers[name].identifiers["PatientID"] if name in headers else "" for name in files]
        if any(own):
            table["patient"] = own
            missing = own.count("")
            remark = (
                f"; {counted(missing, 'file')} without one count as patients of their own" if missing else ""
            )
            notes.append(
                f"Patients are the DICOM files' PatientID: {counted(len({*own} - {''}), 'patient')}{remark}."
            )
        else:
            table["patient"], said = detect_patients(files)
            notes += said
    if not any(table["site"].tolist()):
        table["site"] = [headers[name].institution if name in headers else "" for name in files]
    if not source.patient_pattern and not any(table["patient"].tolist()):
        notes.append("No patients are known: each image counts as a patient of its own.")
    return Rows(table, tuple(notes))


def _finish(rows: Rows, headers: dict[str, Header], root: Path, source: DataSource) -> Manifest:
    table, said = identify(rows.table, headers, root)
    notes = [*rows.notes, *said]
    if table.empty:
        raise UserError(
            f"{source.path} has no usable image. {' '.join(notes)}".strip(), "images.", "Check the path."
        )
    return Manifest(table, root, _classes(table["label"].tolist(), source), tuple(notes))


def _classes(labels: list[str], source: DataSource) -> tuple[str, ...]:
    found = {label for label in labels if label}
    if source.classes is None:
        numbers = all(label.isascii() and label.isdigit() for label in found)
        return tuple(sorted(found, key=lambda label: (int(label), label) if numbers else (0, label)))
    unknown = sorted(found - set(source.classes))
    if unknown:
        number = sum(label in unknown for label in labels)
        raise UserError(
            f"{counted(number, 'image')} have the label {listed(unknown)}, which is not among 'classes'.",
            f"one of {listed(source.classes, 30)}.",
            "Add it to 'classes', mend the labels, or leave 'classes' out.",
        )
    return source.classes
