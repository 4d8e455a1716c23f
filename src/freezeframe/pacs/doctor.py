"""What is open or broken of a node, before anybody else finds out: `freezeframe node doctor`."""

import ipaddress
import os
import resource
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil
from cryptography import x509
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from freezeframe.bundle.runtime.folder import open_bundle
from freezeframe.errors import FreezeframeError
from freezeframe.pacs.configuration import (
    DicomDestination,
    Hl7Destination,
    NodeConfiguration,
    QueryPull,
    Tls,
    WatchedFolder,
    Web,
)
from freezeframe.pacs.database import database_url, open_database
from freezeframe.pacs.doctor_network import ask_all
from freezeframe.pacs.doctor_words import WORDS
from freezeframe.pacs.tables import User

Level = Literal["ok", "warning", "problem"]
WIDE = {4: 24, 6: 64}
"""Prefix lengths of networks below which a peer's are called wide."""
DAYS_BEFORE_THE_END = 30
MOST_SKEW = 2.0
"""Seconds: leases and deadlines are compared between machines."""
_NETWORK_DISKS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "fuse.sshfs", "ceph", "glusterfs")


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes
    ----------
    level : str
        ``ok``, ``warning`` (think about it) or ``problem`` (mend it).
    key : str
        Of `doctor_words.WORDS`.
    sentence : str
        What was found.
    action : str
        What to do; '' where nothing is.
    """

    level: Level
    key: str
    sentence: str
    action: str = ""


def examine(
    configuration: NodeConfiguration, language: str | None = None, now: float | None = None
) -> list[Finding]:
    """Look at everything that a configuration opens, and at whatever it needs.

    It asks each source and destination for a sign of life, at the same time and at most some seconds each, and
    stores nothing but the tables of a database that is new.

    Parameters
    ----------
    configuration : NodeConfiguration
        Of the node, which may run or not.
    language : str, optional
        ``en`` or ``es``; that of the results where left out.
    now : float, optional
        Seconds since 1970, against which certificates are checked.

    Returns
    -------
    list of Finding
        Problems first, then warnings.
    """
    moment = time.time() if now is None else now
    language = language or configuration.results.language
    found = [
        Finding(level, key, *(text.format(**values) for text in WORDS[key][language]))
        for checks in (
            _place(configuration),
            _secrets(configuration),
            _servers(configuration),
            _peers(configuration),
            _web(configuration),
            _database(configuration),
            _outlets(configuration),
            _bundles(configuration),
            _certificates(configuration, moment),
            _network(configuration),
            _machine(configuration),
        )
        for level, key, values in checks
    ]
    order = ("problem", "warning", "ok")
    return sorted(found, key=lambda finding: order.index(finding.level))


Checked = tuple[Level, str, dict[str, Any]]


def _place(configuration: NodeConfiguration) -> Iterator[Checked]:
    folder = configuration.folder
    if not folder.is_dir():
        yield "ok", "folder-missing", {"path": folder}
    else:
        mode = folder.stat().st_mode & 0o777
        if mode & 0o077:
            yield "problem", "folder-open", {"path": folder, "mode": f"{mode:o}"}
        else:
            yield "ok", "folder", {"path": folder}
    existing = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    free, least = shutil.disk_usage(existing).free / 1e9, configuration.retention.least_free_gigabytes
    if free < 5 * least:
        yield "problem" if free < least else "warning", "disk-little", {"free": free, "least": least}
    else:
        yield "ok", "disk", {"free": free}
    if configuration.database is None:
        mounts = [
            mount for mount in psutil.disk_partitions(all=True)
            if existing.absolute().is_relative_to(mount.mountpoint)
        ]  # fmt: skip
        kind = max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else ""
        if kind in _NETWORK_DISKS:
            yield "problem", "network-disk", {"kind": kind}
    if os.geteuid() == 0:
        yield "warning", "root", {}


def _secrets(configuration: NodeConfiguration) -> Iterator[Checked]:
    paths = [
        configuration.database_password_file,
        *(tls.key for tls in _all_tls(configuration)),
        *(
            getattr(entry, name, None)
            for entry in (*configuration.sources, *configuration.destinations)
            for name in ("password_file", "token_file")
        ),
    ]
    for path in dict.fromkeys(path for path in paths if path is not None):
        if not os.access(path, os.R_OK) or not path.is_file():
            yield "problem", "secret-missing", {"path": path}
        elif path.stat().st_mode & 0o077:
            mode = path.stat().st_mode & 0o777
            yield "problem" if mode & 0o007 else "warning", "secret-open", {"path": path, "mode": f"{mode:o}"}


def _servers(configuration: NodeConfiguration) -> Iterator[Checked]:
    for what, server in (("DICOM", configuration.dicom), ("Web", configuration.web)):
        if server is None:
            continue
        values = {"what": what, "address": server.address, "port": server.port}
        if server.tls is None and not _is_loopback(server.address):
            if isinstance(server, Web) and server.https:
                yield "warning", "listens-behind-proxy", values
            else:
                yield "problem", "listens-plain", values
        else:
            yield "ok", "listens", values
    dicom = configuration.dicom
    if dicom is not None and dicom.tls is not None and not dicom.tls.require_client:
        yield "warning", "client-certificates-off", {"what": "DICOM"}


def _peers(configuration: NodeConfiguration) -> Iterator[Checked]:
    if configuration.dicom is not None and not configuration.peers:
        yield "warning", "no-peers", {}
    for peer in configuration.peers:
        bounded = True
        for text in peer.networks:
            network = ipaddress.ip_network(text, strict=False)
            values = {"name": peer.name, "network": text}
            if network.prefixlen == 0:
                yield "problem", "peer-everywhere", values
            elif not network.is_loopback and network.prefixlen < WIDE[network.version]:
                yield "warning", "peer-wide", values
            else:
                continue
            bounded = False
        alone = all(ipaddress.ip_network(text, strict=False).is_loopback for text in peer.networks)
        if not peer.certificates and not alone:
            bounded = False
            yield "warning", "peer-without-certificate", {"name": peer.name}
        if bounded:
            yield "ok", "peer", {"name": peer.name}


def _web(configuration: NodeConfiguration) -> Iterator[Checked]:
    web = configuration.web
    if web is None:
        return
    for text in web.metrics_networks:
        if ipaddress.ip_network(text, strict=False).prefixlen == 0:
            yield "warning", "metrics-wide", {"network": text}
    for text in web.proxy.networks if web.proxy is not None else ():
        network = ipaddress.ip_network(text, strict=False)
        if not network.is_loopback and network.num_addresses > 4:
            level = "problem" if network.prefixlen == 0 else "warning"
            yield level, "proxy-wide", {"network": text, "header": web.proxy.user_header if web.proxy else ""}


def _database(configuration: NodeConfiguration) -> Iterator[Checked]:
    try:
        if configuration.database is not None:
            host = database_url(configuration).host
            if host is not None and not _is_loopback(host):
                yield "warning", "database-plain", {"host": host}
        elif not (configuration.folder / "node.sqlite").exists():
            return  # the node makes it
        database = open_database(configuration)
    except (FreezeframeError, OSError) as error:
        yield "problem", "database-broken", {"reason": str(error)}
        return
    try:
        with database.reading() as session:
            roles = session.scalars(select(User.role).where(User.disabled.is_(False))).all()
            if not database.is_sqlite:
                before = time.time()
                there = float(session.scalar(select(func.extract("epoch", func.clock_timestamp()))) or 0)
                skew = abs(there - (before + time.time()) / 2)
                if skew > MOST_SKEW:
                    yield "problem", "clock", {"seconds": skew}
        yield "ok", "database", {}
    except SQLAlchemyError as error:
        yield "problem", "database-broken", {"reason": type(error).__name__}
        return
    finally:
        database.close()
    if configuration.web is not None and configuration.web.proxy is None:
        if not roles:
            yield "warning", "no-users", {}
        elif "admin" not in roles:
            yield "warning", "no-admin", {}
        else:
            yield "ok", "users", {"count": len(roles)}


def _outlets(configuration: NodeConfiguration) -> Iterator[Checked]:
    if configuration.shadow:
        yield "warning", "shadow", {}
    if not configuration.destinations:
        yield "warning", "no-destinations", {}
    if configuration.retention.image_days is None:
        yield "warning", "retention-off", {}
    for entry in (*configuration.sources, *configuration.destinations):
        if isinstance(entry, DicomDestination | Hl7Destination | QueryPull):
            if entry.tls is None and not _is_loopback(entry.address):
                yield "warning", "sends-plain", {"name": entry.name, "address": entry.address}
        elif not isinstance(entry, WatchedFolder) and entry.url.startswith("http://"):
            host = entry.url.removeprefix("http://").partition("/")[0].rpartition("@")[2]
            name = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
            if not _is_loopback(name):
                yield "warning", "sends-plain", {"name": entry.name, "address": host}


def _bundles(configuration: NodeConfiguration) -> Iterator[Checked]:
    for used in configuration.bundles:
        try:
            bundle = open_bundle(used.path, used.public_key)
        except (FreezeframeError, OSError) as error:
            yield "problem", "bundle-broken", {"name": used.name, "reason": str(error)}
            continue
        title = bundle.contents.name
        yield "ok", "bundle", {"name": used.name, "title": title, "sha256": bundle.sha256[:12]}
        if not bundle.signed:
            yield "warning", "bundle-unsigned", {"name": used.name}
        known = [point.name for point in bundle.contents.operating_points]
        if used.operating_point is not None and used.operating_point not in known:
            values = {"name": used.name, "point": used.operating_point, "known": ", ".join(known) or "-"}
            yield "problem", "operating-point", values


def _certificates(configuration: NodeConfiguration, now: float) -> Iterator[Checked]:
    authorities = (
        getattr(entry, "authority", None) for entry in (*configuration.sources, *configuration.destinations)
    )
    tls = _all_tls(configuration)
    paths = [
        *(one.certificate for one in tls),
        *(one.authority for one in tls),
        *authorities,
        configuration.audit.authority,
    ]
    for path in dict.fromkeys(path for path in paths if path is not None):
        try:
            chain = x509.load_pem_x509_certificates(path.read_bytes())
        except (OSError, ValueError):
            yield "problem", "certificate-broken", {"path": path}
            continue
        end = min(certificate.not_valid_after_utc for certificate in chain)
        days = int((end - datetime.fromtimestamp(now, UTC)).total_seconds() // 86400)
        values = {"path": path, "until": end.date().isoformat(), "days": days}
        if days < 0:
            yield "problem", "certificate-ended", values
        elif days < DAYS_BEFORE_THE_END:
            yield "warning", "certificate-ends", values
        else:
            yield "ok", "certificate", values


def _network(configuration: NodeConfiguration) -> Iterator[Checked]:
    for sign in ask_all(configuration):
        if sign.reason:
            yield (
                "problem",
                "unreachable",
                {"name": sign.name, "address": sign.address, "reason": sign.reason},
            )
        else:
            yield "ok", "reachable", {"name": sign.name}


def _machine(configuration: NodeConfiguration) -> Iterator[Checked]:
    limits = configuration.limits
    wanted, there = limits.workers * limits.memory_gigabytes, psutil.virtual_memory().total / 1e9
    if wanted > there:
        yield "warning", "memory", {"workers": limits.workers, "wanted": wanted, "there": there}
    associations = configuration.dicom.maximum_associations if configuration.dicom is not None else 0
    needed, (limit, _) = 256 + 4 * associations, resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < needed:
        yield "warning", "open-files", {"limit": limit, "wanted": needed}


def _all_tls(configuration: NodeConfiguration) -> list[Tls]:
    owners = (
        configuration.dicom, configuration.web, *configuration.sources, *configuration.destinations
    )  # fmt: skip
    return [tls for owner in owners if (tls := getattr(owner, "tls", None)) is not None]


def _is_loopback(address: str) -> bool:
    if address == "localhost" or Path(address).is_absolute():  # a socket of this machine
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
