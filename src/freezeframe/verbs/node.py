"""The node's commands: run it, look at it, and say who may log in. None of it needs torch."""

import ipaddress
import math
import os
import re
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import select

from freezeframe import files
from freezeframe.bundle.runtime.folder import open_bundle
from freezeframe.errors import UserError
from freezeframe.imaging.header import opened
from freezeframe.imaging.image import UnreadableImage
from freezeframe.pacs import doctor
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.configuration_paths import absolute
from freezeframe.pacs.configuration_types import AeTitle
from freezeframe.pacs.database import Database, open_database
from freezeframe.pacs.delivery import claims
from freezeframe.pacs.node import PARTS, Node, Part
from freezeframe.pacs.reading.again import put_aside_or_newest, read_again
from freezeframe.pacs.security import audit, passwords
from freezeframe.pacs.signals import on_signals
from freezeframe.pacs.studies.rules import explain
from freezeframe.pacs.tables import JOB_QUARANTINED, QUARANTINED, Delivery, Study
from freezeframe.progress import say
from freezeframe.report.language import check

PEER = """\
  - name: pacs
    ae_titles: [{title}]       # all that it calls from; a PACS may use several
    networks: [{network}]
"""
NO_PEER = """\
  []
  # - name: pacs
  #   ae_titles: [{title}]     # all that it calls from; a PACS may use several
  #   networks: [{network}]
"""
DESTINATION = """\
  - kind: dicom
    name: pacs
    ae_title: {title}
    address: {host}
    port: {port}
    commitment: false          # true: a result is done only when the PACS commits to keep it
"""
NO_DESTINATION = """\
  []
  # - kind: dicom
  #   name: pacs
  #   ae_title: {title}
  #   address: {host}
  #   port: {port}
"""


def run(config: str | Path, bundle: str | Path | None = None, only: Sequence[Part] = ()) -> None:
    """Run a node until the process is told to stop (SIGINT, SIGTERM).

    Parameters
    ----------
    config : str or Path
        ``node.yaml``; see ``docs/node.md``.
    bundle : str or Path, optional
        Serves as the bundle ``default``, whatever the file says.
    only : sequence of str
        Parts that run here: intake, reading, delivery, web; all where left out.

    Raises
    ------
    UserError
        If the configuration, a bundle, the database or a port is refused.
    """
    with _for_the_owner_alone():
        configuration = NodeConfiguration.read(Path(config), None if bundle is None else Path(bundle))
        node = Node(configuration, only or PARTS)
        on_signals((signal.SIGTERM, signal.SIGINT), node.end)
        with node:
            _announce(configuration, node)
            node.wait()
            say("Stopping.")


@contextmanager
def _for_the_owner_alone() -> Iterator[None]:
    """Let whatever the process writes be for nobody else, even where the node's folder is open to others."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def _announce(configuration: NodeConfiguration, node: Node) -> None:
    if configuration.shadow:
        say("Shadow mode: everything is read and recorded, nothing leaves.")
    if node.dicom_port is not None and configuration.dicom is not None:
        say(f"DICOM: {configuration.ae_title} at {configuration.dicom.address}:{node.dicom_port}")
    if node.web_port is not None and configuration.web is not None:
        scheme = "https" if configuration.web.tls else "http"
        say(f"Page: {scheme}://{configuration.web.address}:{node.web_port}/")
    say("The node runs. Ctrl-C stops it.")


def init(folder: str | Path, bundle: str | Path, pacs: str | None = None, lang: str = "en") -> Path:
    """Write a first ``node.yaml`` with a comment on each line.

    Parameters
    ----------
    folder : str or Path
        Is made where it is missing.
    bundle : str or Path
        Is opened, to see that it can be.
    pacs : str, optional
        ``TITLE@HOST:PORT`` of the PACS that sends images and takes results.
    lang : str
        Of the results, 'en' or 'es'.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    UserError
        If there is one already, or the bundle or the PACS's address is refused.
    """
    check(lang)
    opened_bundle = open_bundle(Path(bundle))
    path = Path(folder) / "node.yaml"
    if path.exists():
        raise UserError(
            f"{path} exists already.", "a new file.", "Change it with an editor, or choose another folder."
        )
    text = resources.files("freezeframe.pacs").joinpath("example.yaml").read_text(encoding="utf-8")
    title, host, port = _address(pacs) if pacs else ("", "", 0)
    address = _resolved(host) if pacs else "127.0.0.1"
    local = ipaddress.ip_address(address).is_loopback
    content = text.format(
        bundle=_scalar(str(opened_bundle.path.absolute())),
        # Where the PACS is on another machine, it has to reach this one.
        address="127.0.0.1" if local else "0.0.0.0",  # noqa: S104
        peers=(PEER if pacs else NO_PEER).format(
            title=_scalar(title or "ORTHANC"), network=_scalar(address if pacs else "10.0.0.5")
        ),
        destinations=(DESTINATION if pacs else NO_DESTINATION).format(
            title=_scalar(title or "ORTHANC"), host=_scalar(host or "10.0.0.5"), port=port or 4242
        ),
        language=lang,
    )
    NodeConfiguration.parse(absolute(yaml.safe_load(content), path.absolute().parent), str(path))
    files.write_text(path, content)
    return path


def _scalar(text: str) -> str:
    """Write a text as YAML, in quotes where it would otherwise be read as something else (``NO``, ``a, b``)."""
    return yaml.safe_dump([text], default_flow_style=True, allow_unicode=True, width=math.inf).strip()[1:-1]


def _address(pacs: str) -> tuple[str, str, int]:
    title, _, rest = pacs.partition("@")
    host, _, port = rest.rpartition(":")
    if not (title and host and port.isdecimal() and 0 < int(port) < 65536):
        raise UserError(f"--pacs is '{pacs}'.", "TITLE@HOST:PORT, such as ORTHANC@10.0.0.5:4242.")
    try:
        TypeAdapter(AeTitle).validate_python(title)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"--pacs: '{title}' {reason}.", "TITLE@HOST:PORT, as the PACS has them.") from error
    return title, host, int(port)


def _resolved(host: str) -> str:
    try:
        return socket.getaddrinfo(host, None)[0][4][0]  # pyright: ignore[reportReturnType] - an address is text
    except OSError as error:
        raise UserError(
            f"--pacs: nobody knows the host '{host}'.", "a host name or an IP address."
        ) from error


def examine(config: str | Path, lang: str | None = None) -> list[doctor.Finding]:
    """Say what is open and what is missing, in a language, the results' where left out."""
    if lang is not None:
        check(lang)
    return doctor.examine(NodeConfiguration.read(Path(config)), lang)


def try_rules(config: str | Path, paths: Sequence[str | Path]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield for each DICOM file and each rule what did not fit; nothing where the image is read."""
    configuration = NodeConfiguration.read(Path(config))
    for path in paths:
        try:
            with opened(Path(path)) as file:
                header, has_pixels = file.header, bool(file.keyword)
        except UnreadableImage as error:
            raise UserError(f"{path}: {error.reason}", "a DICOM image.") from error
        if not has_pixels:
            raise UserError(f"{path} has no pixels.", "a DICOM image.")
        for rule in configuration.rules:
            yield str(path), rule.name, explain(header, rule)


def check_audit(config: str | Path, head: str | None = None) -> audit.Verified:
    """Check the chain of the audit trail.

    Parameters
    ----------
    config : str or Path
        ``node.yaml``.
    head : str, optional
        ``LINE:HASH`` that the log noted earlier: a trail that was cut since is told by it.
    """
    noted = None
    if head is not None:
        line, _, digest = head.partition(":")
        if not line.isdecimal() or not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise UserError(
                f"--head is '{head}'.", "LINE:HASH, as the log's audit_line and audit_hash have it."
            )
        noted = audit.Head(int(line), digest)
    with _opened(config) as database:
        return audit.verify(database, noted)


def rerun(config: str | Path, studies: Sequence[str] = ()) -> int:
    """Have studies read again; returns how many readings wait now.

    Parameters
    ----------
    config : str or Path
        ``node.yaml``.
    studies : sequence of str
        Study UIDs; all that were put aside where left out.
    """
    with _opened(config) as database, database.transaction() as session:
        chosen = select(Study).where(Study.study_uid.in_(studies) if studies else Study.state == QUARANTINED)
        found = session.scalars(chosen.order_by(Study.id)).all()
        if missing := set(studies) - {study.study_uid for study in found}:
            raise UserError(f"No study {min(missing)} is known.", "study UIDs as on the page.")
        now, count = time.time(), 0
        for study in found:
            jobs = put_aside_or_newest(session, study.id)
            if not studies and jobs and all(job.state != JOB_QUARANTINED for job in jobs):
                continue  # it has lost images: that is no reading's fault, and whoever means it names it
            count += max(1, len(read_again(session, study.id, now)))
            audit.record(session, passwords.COMMAND_LINE, audit.RERUN, study.study_uid, now=now)
        return count


def withhold(config: str | Path, destination: str) -> int:
    """Keep back for good all that waits for a destination, such as one that is no longer there; returns how much.

    Parameters
    ----------
    config : str or Path
        ``node.yaml``.
    destination : str
        Its name; it need no longer be in the configuration.

    Raises
    ------
    UserError
        If it is neither configured nor does anything wait for it.
    """
    configuration = NodeConfiguration.read(Path(config))
    with _opened(config) as database:
        with database.transaction() as session:
            is_open = Delivery.state.in_(claims.OPEN)
            ids = claims.lock(session, Delivery.destination == destination, is_open)
            if not ids and destination not in {entry.name for entry in configuration.destinations}:
                names = session.scalars(select(Delivery.destination).where(is_open).distinct()).all()
                raise UserError(
                    f"Nothing waits for a destination '{destination}'.",
                    f"one of {', '.join(sorted(names))}."
                    if names
                    else "a name as in the deliveries of a study.",
                )
            claims.withhold(session, ids)
            detail = f"{len(ids)} deliveries to {destination}"
            audit.record(session, passwords.COMMAND_LINE, audit.WITHHELD, detail=detail)
        claims.settle(database)
        return len(ids)


def add_user(config: str | Path, name: str, role: str, password: str) -> None:
    """Add somebody who may log in: viewer, reader, admin or sender."""
    with _opened(config) as database:
        passwords.add_user(database, name, role, password)


def change_password(config: str | Path, name: str, password: str) -> None:
    """Give somebody a new password; their logins end."""
    with _opened(config) as database:
        passwords.change_password(database, name, password)


def disable_user(config: str | Path, name: str) -> None:
    """Let somebody in no longer; their logins end."""
    with _opened(config) as database:
        passwords.disable(database, name)


def enable_user(config: str | Path, name: str) -> None:
    """Let somebody in again who was disabled."""
    with _opened(config) as database:
        passwords.enable(database, name)


def list_users(config: str | Path) -> list[passwords.UserSummary]:
    """Return who may log in, and who may no longer."""
    with _opened(config) as database:
        return passwords.users(database)


@contextmanager
def _opened(config: str | Path) -> Iterator[Database]:
    database = open_database(NodeConfiguration.read(Path(config)))
    try:
        yield database
    finally:
        database.close()
