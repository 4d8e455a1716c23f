"""The node: intake, completion, delivery and the page in one process, reading in processes of its own.

Every part finds its work in the database, so any of them may be killed at any moment, and several nodes may share one
database: each does what it finds, and nothing is done twice.
"""

import logging
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Literal, Self

import uvicorn

from freezeframe import files
from freezeframe.bundle.runtime.folder import open_bundle
from freezeframe.errors import FreezeframeError, UserError
from freezeframe.pacs.configuration import NodeConfiguration, QueryPull, Source, WebPull
from freezeframe.pacs.database import Database, make_private, open_database
from freezeframe.pacs.delivery import outbox
from freezeframe.pacs.delivery.commitment import committed
from freezeframe.pacs.delivery.retention import delete_all_due
from freezeframe.pacs.intake.association import DicomService
from freezeframe.pacs.intake.keeping import Keeper
from freezeframe.pacs.intake.pulling import Puller
from freezeframe.pacs.intake.query import query_puller
from freezeframe.pacs.intake.reconcile import reconcile
from freezeframe.pacs.intake.watched import FolderWatch
from freezeframe.pacs.intake.web_pull import web_puller
from freezeframe.pacs.one_folder import check_folder
from freezeframe.pacs.reading import process
from freezeframe.pacs.reading.queue import return_expired
from freezeframe.pacs.review.app import make_app
from freezeframe.pacs.review.serving import make_server, port_of
from freezeframe.pacs.security import audit
from freezeframe.pacs.security.syslog import Forwarder
from freezeframe.pacs.studies.completion import complete_due
from freezeframe.pacs.watching import drift, health, log, metrics

Part = Literal["intake", "reading", "delivery", "web"]
PARTS: tuple[Part, ...] = ("intake", "reading", "delivery", "web")
SECONDS_BETWEEN_LOOKS = 0.25
SECONDS_BETWEEN_EXPIRIES = 2.0
SECONDS_BETWEEN_RETENTION, SECONDS_BETWEEN_DRIFT = 600.0, 60.0
SECONDS_BETWEEN_HEADS = 3600.0
SECONDS_BETWEEN_STARTS = 2.0
"""Of a reading process that dies at once."""
LONGEST_PAUSE = 60.0
PORTS = "ports.json"
"""In the node's folder: where it listens, for whoever gave it free ports."""
START_SECONDS, STOP_SECONDS = 30.0, 20.0

_log = logging.getLogger(__name__)


class Repeated(threading.Thread):
    """Does something again and again until it is stopped, and lives through its failures.

    Parameters
    ----------
    name : str
        For the log.
    step : callable
        Takes the time. While it returns how many things it did, it is called again at once.
    seconds : float
        Between calls that found nothing to do; after failures up to `LONGEST_PAUSE`.
    ending : Event
        Ends it.
    """

    def __init__(
        self, name: str, step: Callable[[float], object], seconds: float, ending: threading.Event
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._step, self._seconds, self._ending = step, seconds, ending

    def run(self) -> None:
        """Go on until the event is set."""
        pause = 0.0
        while not self._ending.wait(pause):
            try:
                done = self._step(time.time())
                pause = 0.0 if isinstance(done, int) and done > 0 else self._seconds
            except Exception as error:  # such as a database that is away: the next call may succeed
                pause = min(LONGEST_PAUSE, max(1.0, 2 * pause))
                _log.error("A step failed.", extra={"step": self.name, "reason": type(error).__name__})


class ReadingProcesses:
    """Keeps as many reading processes alive as the configuration's limits say.

    Their names are those of the machine and of what runs in this node, since two nodes on one machine may read: a
    process takes back what an earlier one of its name had in hand.
    """

    def __init__(self, configuration: NodeConfiguration, parts: Sequence[Part]) -> None:
        self._file = process.write_configuration(configuration)
        machine = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()).strip(".-") or "machine"
        own = "" if set(parts) == set(PARTS) else f"-{'-'.join(parts)}"
        self._names = [f"{machine}{own}-{number}" for number in range(configuration.limits.workers)]
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._not_before: dict[str, float] = {}

    def step(self, now: float) -> None:
        """Start what is missing; one that died is logged."""
        for name in self._names:
            running = self._running.get(name)
            if running is not None:
                status = running.poll()
                if status is None:
                    continue
                del self._running[name]
                _log.warning("A reading process ended.", extra={"worker": name, "status": status})
            if now >= self._not_before.get(name, 0.0):
                self._not_before[name] = now + SECONDS_BETWEEN_STARTS
                self._running[name] = process.start(self._file, name)

    def stop(self) -> None:
        """End them after the reading in hand, or before it where that takes long: it will be done again."""
        for running in self._running.values():
            running.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for running in self._running.values():
            try:
                running.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


class Node:
    """A node, running from `start` to `stop`; also a context manager.

    Parameters
    ----------
    configuration : NodeConfiguration
        From ``node.yaml``.
    parts : sequence of str
        Which of `PARTS` run here. Several machines share one database, and those that read, deliver or show also the
        folder.

    Attributes
    ----------
    dicom_port, web_port : int or None
        Where it listens; None where that part does not run here.
    """

    def __init__(self, configuration: NodeConfiguration, parts: Sequence[Part] = PARTS) -> None:
        self._configuration, self._parts = configuration, parts
        self._ending = threading.Event()
        self._held = ExitStack()
        self.dicom_port: int | None = None
        self.web_port: int | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all parts; images are taken and the page is there when it returns.

        Raises
        ------
        UserError
            If another node runs in the folder, a port is taken, or a bundle or the database can't be opened.
        """
        with ExitStack() as held:
            try:
                self._start(held)
            except BaseException:
                self._ending.set()  # what runs already is waited for on the way out
                raise
            self._held = held.pop_all()
        if self.dicom_port is not None or self.web_port is not None:
            ports = {"dicom": self.dicom_port, "web": self.web_port}
            files.write_json(self._configuration.folder / PORTS, ports)

    def end(self) -> None:
        """Have `wait` return; not to be called from a signal's handler (see `signals`)."""
        self._ending.set()

    def wait(self) -> None:
        """Return when `end` was called."""
        self._ending.wait()

    def stop(self) -> None:
        """End all parts: what was begun is finished or will be found again, and nothing is lost."""
        self._ending.set()
        self._held.close()

    def _start(self, held: ExitStack) -> None:
        configuration = self._configuration
        make_private(configuration.folder)
        own = _own_name(self._parts)
        log.set_up(configuration.folder, own)
        held.callback(log.end)
        if not held.enter_context(files.claimed(configuration.folder / f"{own}.lock")):
            raise UserError(
                f"Another node does the same in {configuration.folder}.",
                "one node for a folder.",
                "Stop the other one, or give this one a folder of its own (`folder:`).",
            )
        for used in configuration.bundles:  # what is wrong with one is said now, not when a study waits
            open_bundle(used.path, used.public_key)
        database = open_database(configuration)
        held.callback(database.close)
        check_folder(database, configuration.folder)
        _note(database, audit.STARTED)
        held.callback(_note, database, audit.STOPPED)
        threads: list[Repeated] = []
        held.callback(lambda: [thread.join(STOP_SECONDS) for thread in threads if thread.is_alive()])

        def repeat(name: str, step: Callable[[float], object], seconds: float) -> None:
            threads.append(Repeated(name, step, seconds, self._ending))

        keeper = Keeper(database, configuration)
        if "intake" in self._parts:
            reconcile(database, configuration)
            repeat(
                "completion", lambda now: complete_due(database, configuration, now), SECONDS_BETWEEN_LOOKS
            )
            for source in configuration.sources:
                puller = _puller(source, database, configuration, keeper)
                repeat(f"source-{source.name}", puller.step, min(source.seconds, 1.0))
            repeat(
                "retention",
                lambda now: delete_all_due(database, configuration, now),
                SECONDS_BETWEEN_RETENTION,
            )
            repeat("drift", lambda now: drift.look(database, configuration, now), SECONDS_BETWEEN_DRIFT)
            repeat("audit", Forwarder(database, configuration).step, 1.0)
            repeat("audit-head", lambda _: audit.note_head(database), SECONDS_BETWEEN_HEADS)
            if configuration.dicom is not None:
                self._listen(held, database, keeper)
        if "reading" in self._parts:
            reading = ReadingProcesses(configuration, self._parts)
            held.callback(reading.stop)
            repeat("workers", reading.step, SECONDS_BETWEEN_LOOKS)
        # Whoever reads on any machine may die, so everybody looks.
        repeat(
            "claims",
            lambda now: return_expired(database, configuration.limits, now),
            SECONDS_BETWEEN_EXPIRIES,
        )
        if "delivery" in self._parts:
            delivery = threading.Thread(
                target=outbox.run, args=(database, configuration, self._ending), name="delivery", daemon=True
            )
            delivery.start()
            held.callback(delivery.join, STOP_SECONDS)
        if "web" in self._parts and configuration.web is not None:
            self._serve(held, database, keeper)
        for thread in threads:
            thread.start()
        held.callback(self._ending.set)  # the first when all is ended

    def _listen(self, held: ExitStack, database: Database, keeper: Keeper) -> None:
        def take_commitment(transaction_uid: str, done: list[str], failed: list[tuple[str, int]]) -> None:
            committed(database, self._configuration, transaction_uid, done, failed, time.time())

        service = DicomService(database, self._configuration, keeper, take_commitment)
        service.start()
        held.callback(service.stop)
        self.dicom_port = service.port

    def _serve(self, held: ExitStack, database: Database, keeper: Keeper) -> None:
        configuration = self._configuration
        assert configuration.web is not None
        routers = (metrics.router(database, configuration), health.router(database, configuration))
        server = make_server(make_app(database, configuration, keeper, routers), configuration.web)
        thread = threading.Thread(target=_run_server, args=(server,), name="web", daemon=True)
        thread.start()

        def stop() -> None:
            server.should_exit = True
            thread.join(STOP_SECONDS)

        held.callback(stop)
        deadline = time.monotonic() + START_SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise UserError(
                    f"The page can't be served at {configuration.web.address}:{configuration.web.port}.",
                    "an address of this machine and a free port.",
                    "Change `web.port`, or end what listens there.",
                )
            time.sleep(0.02)
        self.web_port = port_of(server)


def _run_server(server: uvicorn.Server) -> None:
    try:
        server.run()
    except SystemExit:
        _log.error("The page is not served.")  # why, uvicorn has said in the log


def _own_name(parts: Sequence[Part]) -> str:
    """Name what runs here, for its lock and its log: others may run in the same folder."""
    return "node" if "intake" in parts else "-".join(parts)


def _puller(
    source: Source, database: Database, configuration: NodeConfiguration, keeper: Keeper
) -> FolderWatch | Puller:
    if isinstance(source, WebPull):
        return web_puller(database, keeper, source)
    if isinstance(source, QueryPull):
        return query_puller(database, configuration, source)
    return FolderWatch(database, configuration, keeper, source)


def _note(database: Database, what: str) -> None:
    try:
        with database.transaction() as session:
            audit.record(session, audit.NODE, what)
    except Exception as error:  # at the end nobody can be told but the log
        if what == audit.STARTED:
            raise FreezeframeError("The audit trail can't be written.") from error
        _log.error("The audit trail can't be written.", extra={"reason": type(error).__name__})
