"""What identifies each image: the hash of its file, and the frame in it."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from freezeframe.data.manifest import Manifest, image_name
from freezeframe.data.sources.dicom import Header
from freezeframe.data.sources.scan import Content, hash_files
from freezeframe.data.wording import counted, listed
from freezeframe.errors import UserError


def identify(
    table: pd.DataFrame, headers: Mapping[str, Header], root: Path
) -> tuple[pd.DataFrame, list[str]]:
    """Hash files, and give each frame of a multi-frame file a row of its own.

    Parameters
    ----------
    table : DataFrame
        A row a file, its path in the column ``file``, as in `freezeframe.data.sources.folder.Rows`.
    headers : mapping of str to Header
        Of the DICOM files among them, by path.
    root : Path
        Folder that relative paths start from.

    Returns
    -------
    table : DataFrame
        A row an image, in code-point order of ``image``, with ``sha256``, ``bytes`` and ``frame`` for ``file``.
    notes : list of str
        Files that can't be opened, which are left out, and empty ones.
    """
    notes = []
    contents = list(hash_files([root / name for name in table["file"]]))
    failed = {
        name: content
        for name, content in zip(table["file"], contents, strict=True)
        if isinstance(content, OSError)
    }
    if failed:
        reasons = [f"{name} ({error.strerror})" for name, error in failed.items()]
        notes.append(f"Left out {counted(len(failed), 'file')} that can't be opened: {listed(reasons, 10)}.")
    readable = [content for content in contents if isinstance(content, Content)]
    table = table.loc[~table["file"].isin(list(failed))].reset_index(drop=True)
    table["sha256"] = pd.Series([content.sha256 for content in readable], dtype="str")
    table["bytes"] = pd.Series([content.bytes for content in readable], dtype="int64")
    empty = table["file"][table["bytes"] == 0]
    if len(empty):
        notes.append(
            f"{counted(len(empty), 'file')} {'is' if len(empty) == 1 else 'are'} empty (0 bytes): {listed(empty)}."
        )

    frames = [headers[name].frames if name in headers else 1 for name in table["file"]]
    repeated = table.loc[table.index.repeat(frames)].reset_index(drop=True)
    repeated["frame"] = pd.Series([frame for number in frames for frame in range(number)], dtype="int64")
    of = [number for number in frames for _ in range(number)]
    triples = zip(repeated["file"], repeated["frame"], of, strict=True)
    repeated.insert(0, "image", pd.Series([image_name(*triple) for triple in triples], dtype="str"))
    return repeated.drop(columns="file").sort_values("image", ignore_index=True), notes


def check_unchanged(manifest: Manifest) -> None:
    """Hold the files of a stored manifest against their hashes: a resumed job must see what it began with.

    Raises
    ------
    UserError
        With the names of files that changed or are gone.
    """
    names = list(dict.fromkeys(manifest.file_names()))
    expected = dict(zip(manifest.file_names(), manifest.table["sha256"], strict=True))
    contents = hash_files([manifest.root / name for name in names])
    changed = [
        name
        for name, content in zip(names, contents, strict=True)
        if isinstance(content, OSError) or content.sha256 != expected[name]
    ]
    if changed:
        raise UserError(
            f"{counted(len(changed), 'image')} in {manifest.root} changed or went away since the run began: "
            f"{listed(changed)}.",
            "the images that it began with.",
            "Put them back, or begin another run with another --out.",
        )
