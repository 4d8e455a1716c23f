"""Make a training set of a node's or a PACS's own images, without their patients."""

import getpass
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from freezeframe.data.sources.table import plain, read_table
from freezeframe.errors import UserError, did_you_mean
from freezeframe.pacs.configuration import DicomServer, NodeConfiguration, QueryPull, WebPull
from freezeframe.pacs.database import Database, open_database
from freezeframe.pacs.deidentify_regions import Stations
from freezeframe.pacs.deidentify_rules import Dates
from freezeframe.pacs.deidentify_salt import read_salt
from freezeframe.pacs.security import audit
from freezeframe.progress import progress
from freezeframe.verbs.pull_export import Export, Pulled
from freezeframe.verbs.pull_node import reviewed
from freezeframe.verbs.pull_pacs import Archive, Found, PacsError, QueryArchive, Wanted, WebArchive

SALT = "pseudonyms.salt"
"""In the node's folder."""
Origin = Literal["node", "pacs"]
_DATE = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})")


def pull(
    origin: Origin,
    config: str | Path,
    out: str | Path,
    *,
    source: str = "",
    first: str = "",
    last: str = "",
    modalities: tuple[str, ...] = (),
    accessions: str | Path | None = None,
    receive: str = "",
    keep_unlabelled: bool = False,
    dates: str = "shift",
    stations: str | Path | None = None,
    salt: str | Path | None = None,
) -> Pulled:
    """Pull images into a folder that ``freezeframe train`` takes at once; the same call goes on where one was ended.

    Each study that leaves is written into the node's audit trail before its first image is.

    Parameters
    ----------
    origin : str
        ``node``: the images that its readers have judged, with what they said as labels. ``pacs``: images of a
        source of the configuration.
    config : str or Path
        ``node.yaml``.
    out : str or Path
        Folder to fill.
    source : str
        Name of the PACS among the configuration's sources; may be left out where there is one.
    first, last : str
        Dates of the studies, YYYY-MM-DD.
    modalities : tuple of str
        Such as ``("DX", "CR")``; the source's where left out.
    accessions : str or Path, optional
        Table with a column ``accession``, and perhaps ``label``: only these studies.
    receive : str
        ``TITLE:PORT`` where a PACS without DICOMweb sends to; it must know it as a destination.
    keep_unlabelled : bool
        Whether images without a label are pulled, too (from a node).
    dates : str
        ``shift``: all dates of a patient are moved by one number of days. ``remove``: there are none.
    stations : str or Path, optional
        YAML table of where stations burn text into their images.
    salt : str or Path, optional
        File of the secret that pseudonyms are made with; in the node's folder where left out.

    Raises
    ------
    UserError
        If anything that was given is wrong.
    """
    if origin not in get_args(Origin):
        raise UserError(f"--from says '{origin}'.", did_you_mean(str(origin), get_args(Origin)))
    if dates not in get_args(Dates):
        raise UserError(f"--dates says '{dates}'.", did_you_mean(dates, get_args(Dates)))
    configuration = NodeConfiguration.read(Path(config).expanduser())
    database = open_database(configuration)
    try:
        pseudonyms = read_salt(Path(salt).expanduser() if salt else configuration.folder / SALT)
        table = Stations.read(Path(stations).expanduser()) if stations else Stations()
        export = Export(
            Path(out).expanduser(), pseudonyms, table, "shift" if dates == "shift" else "remove", origin
        )
        if origin == "node":
            _from_node(database, configuration, export, keep_unlabelled)
        else:
            labels = _accessions(Path(accessions).expanduser()) if accessions else {}
            chosen = _source(configuration, source)
            wanted = Wanted(_date(first), _date(last), modalities or chosen.modalities, tuple(labels))
            if not (wanted.first or wanted.last or wanted.accession_numbers):
                raise UserError(
                    "Nothing says which studies.",
                    "dates or accession numbers.",
                    "See --first-date and --accessions.",
                )
            with _opened(chosen, configuration, receive) as archive:
                _from_pacs(database, archive, export, wanted, labels)
        return export.finish()
    finally:
        database.close()


def _from_node(
    database: Database, configuration: NodeConfiguration, export: Export, keep_unlabelled: bool
) -> None:
    with database.reading() as session:
        found = reviewed(session)
    recorded: set[str] = set()
    with progress("Pulling", len(found)) as advance:
        for image in found:
            advance(1)
            if not image.label and not keep_unlabelled:
                export.leave_out(image.sop_instance_uid, image.reason)
                continue
            if image.path is None and not export.has(image.sop_instance_uid):
                export.leave_out(image.sop_instance_uid, "it was deleted by retention")
                continue
            _record(database, image.study_uid, "node", recorded)
            path = configuration.folder / image.path if image.path is not None else None
            export.add(image.sop_instance_uid, path, image.label, image.feedback)


def _from_pacs(
    database: Database, archive: Archive, export: Export, wanted: Wanted, labels: dict[str, str]
) -> None:
    recorded: set[str] = set()
    with progress("Pulling", None) as advance:
        for images in archive.find(wanted):
            for image in images:
                _record(database, image.study_uid, "pacs", recorded)
                dataset = None
                if not export.has(image.sop_instance_uid):
                    dataset = _fetched(archive, image, export)
                    if dataset is None:
                        continue
                export.add(image.sop_instance_uid, dataset, labels.get(image.accession_number, ""))
                advance(1)


def _fetched(archive: Archive, image: Found, export: Export):
    try:
        return archive.fetch(image)
    except PacsError as error:
        export.leave_out(image.sop_instance_uid, str(error))
        return None


def _record(database: Database, study_uid: str, origin: str, recorded: set[str]) -> None:
    if study_uid in recorded:
        return
    with database.transaction() as session:
        audit.record(
            session, f"system:{_who()}", audit.IMAGES_EXPORTED, study_uid,
            detail=f"de-identified, from {origin}",
        )  # fmt: skip
    recorded.add(study_uid)


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container the user may have no name
        return str(os.getuid())


@contextmanager
def _opened(source: WebPull | QueryPull, configuration: NodeConfiguration, receive: str) -> Iterator[Archive]:
    if isinstance(source, WebPull):
        yield WebArchive(source)
        return
    title, _, port = receive.rpartition(":")
    if not title or not port.isdigit():
        raise UserError(
            f"--receive says '{receive}'.",
            "TITLE:PORT, where the PACS sends to.",
            "Add it to the PACS first.",
        )
    own = configuration.dicom or DicomServer()
    senders = tuple(title for peer in configuration.peers for title in peer.ae_titles)
    with QueryArchive(source, title, own.address, int(port), senders, own.tls).opened() as archive:
        yield archive


def _source(configuration: NodeConfiguration, name: str) -> WebPull | QueryPull:
    known = {entry.name: entry for entry in configuration.sources if isinstance(entry, WebPull | QueryPull)}
    if name in known:
        return known[name]
    if not name and len(known) == 1:
        return next(iter(known.values()))
    if not known:
        raise UserError(
            "The configuration has no source that is a PACS.",
            "one of kind dicomweb or query.",
            "See docs/node.md.",
        )
    raise UserError(f"--source says '{name}'.", did_you_mean(name, known))


def _accessions(path: Path) -> dict[str, str]:
    table = read_table(path)
    columns = {plain(str(column)): column for column in table.columns}
    column = columns.get("accession") or columns.get("accessionnumber")
    if column is None:
        raise UserError(f"{path} has no column 'accession'.", "accession, and perhaps label.")
    label = columns.get("label")
    labels = table[label] if label is not None else [""] * len(table)
    found = {number: text for number, text in zip(table[column], labels, strict=True) if number}
    odd = next((number for number in found if re.search(r"[*?\\]", number)), None)
    if odd is not None or not found:
        raise UserError(
            f"{path} has an accession number with a wildcard."
            if found
            else f"{path} has no accession numbers.",
            "whole accession numbers.",
        )
    return found


def _date(text: str) -> str:
    if not text:
        return ""
    found = _DATE.fullmatch(text)
    if found is None:
        raise UserError(f"'{text}' is no date.", "YYYY-MM-DD.")
    return "".join(found.groups())
