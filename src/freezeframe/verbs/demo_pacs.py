"""A hospital in small: Orthanc as the PACS, the node beside it, synthetic films, results in both."""

import secrets
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from pydicom import dcmread
from sqlalchemy import func, select

from freezeframe import files
from freezeframe.bundle.runtime.folder import open_bundle
from freezeframe.errors import FreezeframeError
from freezeframe.pacs.configuration import NodeConfiguration
from freezeframe.pacs.database import Database, open_database
from freezeframe.pacs.node import PORTS
from freezeframe.pacs.tables import DELIVERY_WAITING, Delivery, Result
from freezeframe.pacs.trial.orthanc import Orthanc, orthanc
from freezeframe.progress import progress, say
from freezeframe.recipe import Recipe
from freezeframe.verbs.demo import LICENCE
from freezeframe.verbs.node import add_user

USER = "demo"
AE_TITLE = "FREEZEFRAME"
MEMBERS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
# Enough to see something within a minute; `freezeframe demo` trains better ones.
TRAINING = {
    "preprocess": [{"resize": {"size": 128}}],
    "unfreeze": "head",
    "epochs": 8,
    "batch_size": 16,
    "learning_rate": 5e-3,
    "seed": 0,
}
PEOPLE, SEED = 120, 0
SEED_OF_THE_DAY = 7
"""The films that are sent are of other invented people than those that were trained on."""
START_SECONDS, READ_SECONDS = 120.0, 150.0


@dataclass(frozen=True)
class Shown:
    """What the demo has running.

    Attributes
    ----------
    folder : Path
        Of the configuration, the PACS's and the node's data.
    page : str
        Address of the page.
    user, password : str
        To log in with.
    studies : int
        How many were read.
    positive : int
        In how many something was found.
    objects : int
        Result objects that came back to the PACS.
    """

    folder: Path
    page: str
    user: str
    password: str
    studies: int
    positive: int
    objects: int


def demo_pacs(
    out: str | Path = "demo-pacs",
    bundle: str | Path | None = None,
    patients: int = 20,
    language: Literal["en", "es"] = "en",
    stay: bool = False,
) -> Shown:
    """Start Orthanc and a node, send synthetic studies, and show their results arrive in Orthanc and on the page.

    Parameters
    ----------
    out : str or Path
        Folder for all of it. What an earlier call left of bundle and films is used again; PACS and node begin empty.
    bundle : str or Path, optional
        Answers; the one of ``freezeframe demo`` where left out, and a quickly trained one where there is none.
    patients : int
        How many people come to the hospital.
    language : str
        Of the results, 'en' or 'es'.
    stay : bool
        Whether all goes on until Ctrl-C, so that page and PACS can be looked at.

    Returns
    -------
    Shown
        What came of it.

    Raises
    ------
    UserError
        If Orthanc is not installed.
    FreezeframeError
        If results do not arrive.
    """
    from freezeframe.verbs.phantom import phantom

    out = Path(out).expanduser().absolute()
    used = _bundle(out, None if bundle is None else Path(bundle))
    say(f"The bundle: {used}")
    films = phantom(out / "films", patients, SEED_OF_THE_DAY).parent / "dicom"
    place = out / "running" / time.strftime("%Y%m%d-%H%M%S")
    place.mkdir(parents=True)
    with orthanc(place) as pacs:
        config = _configure(place, used, pacs, language)
        password = secrets.token_urlsafe(12)
        add_user(config, USER, "admin", password)
        with _node(config, place) as (dicom_port, page):
            pacs.add_modality(AE_TITLE, dicom_port)
            say(f"The PACS: {pacs.http_url}/ (user {pacs.auth[0]}, password {pacs.auth[1]})")
            say(f"The page: {page} (user {USER}, password {password})")
            studies = _send(pacs, sorted(films.rglob("*.dcm")))
            _wait(pacs, config, studies)
            read, positive = _count(config)
            objects = int(pacs.rest("/statistics")["CountInstances"]) - len(list(films.rglob("*.dcm")))
            say(
                f"{read} studies were read, {positive} of them positive; the PACS has {objects} result objects."
            )
            shown = Shown(place, page, USER, password, read, positive, objects)
            if stay:
                say("Look at the page. Ctrl-C ends it all.")
                with suppress(KeyboardInterrupt):
                    while True:
                        time.sleep(3600)
    return shown


def _bundle(out: Path, given: Path | None) -> Path:
    """Return the bundle that answers; train a small ensemble where there is none."""
    if given is not None:
        return open_bundle(given).path.absolute()  # what is wrong with it is said before anything is started
    for known in (Path("demo/bundle").absolute(), out / "bundle"):
        if (known / "bundle.json").exists():
            return known
    from freezeframe.verbs.ensemble import ensemble
    from freezeframe.verbs.export import export
    from freezeframe.verbs.phantom import phantom
    from freezeframe.verbs.train import train

    say(
        "There is no demo/bundle (freezeframe demo makes one): a small ensemble is trained, which takes a minute."
    )
    table = phantom(out / "hospital", PEOPLE, SEED)
    data = {"path": str(table.parent / "dicom"), "table": str(table), "join_on": "SOPInstanceUID"}
    runs = [
        train(Recipe.parse({"data": data, "backbone": name, **TRAINING}), out / "runs" / name)
        for name in MEMBERS
    ]
    combined = ensemble(runs, out / "runs" / "ensemble", rule="mean")
    return export(combined, out / "bundle", name="demo-pacs", licence=LICENCE)


def _configure(place: Path, bundle: Path, pacs: Orthanc, language: str) -> Path:
    path = place / "node.yaml"
    content = {
        "ae_title": AE_TITLE,
        "folder": "node",
        "bundles": [{"path": str(bundle)}],
        "dicom": {"address": "127.0.0.1", "port": 0},
        "peers": [{"name": "pacs", "ae_titles": [pacs.ae_title]}],
        "rules": [{"name": "chest", "modality": ["CR", "DX"]}],
        "complete": {"quiet_seconds": 2, "at_most_seconds": 60},
        "results": {"language": language},
        "destinations": [
            {
                "kind": "dicom",
                "name": "pacs",
                "ae_title": pacs.ae_title,
                "address": "127.0.0.1",
                "port": pacs.dicom_port,
                "commitment": True,
            }
        ],
        "web": {"address": "127.0.0.1", "port": 0},
    }
    files.write_text(path, yaml.safe_dump(content, sort_keys=False))
    return path


@contextmanager
def _node(config: Path, place: Path) -> Iterator[tuple[int, str]]:
    """Run the node as a user would, in a process of its own; yields its DICOM port and the address of its page."""
    with (place / "node.log").open("wb") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", "freezeframe", "node", "--config", str(config)],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    ports = place / "node" / PORTS
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ports.exists():
            if running.poll() is not None or time.monotonic() > deadline:
                raise FreezeframeError(f"The node did not start: see {place / 'node.log'}.")
            time.sleep(0.1)
        found = files.read_json(ports)
        yield found["dicom"], f"http://127.0.0.1:{found['web']}/"
    finally:
        running.terminate()
        running.wait()


def _send(pacs: Orthanc, films: list[Path]) -> set[str]:
    """Send films to the PACS as a modality does, and have the PACS send them on; returns their study UIDs."""
    studies: set[str] = set()
    with progress("Sending films", len(films), "films") as advance:
        for film in films:
            answer = pacs.rest("/instances", "POST", film.read_bytes())
            pacs.rest(f"/modalities/{AE_TITLE}/store", "POST", [answer["ID"]])
            studies.add(str(dcmread(film, stop_before_pixels=True).StudyInstanceUID))
            advance(1)
    return studies


def _wait(pacs: Orthanc, config: Path, studies: Collection[str]) -> None:
    """Wait until the PACS has a structured report of each study, and the node nothing more to send."""
    begun = time.monotonic()
    reports: set[str] = set()
    with (
        closing(open_database(NodeConfiguration.read(config))) as database,
        progress("Results in the PACS", len(studies), "studies") as advance,
    ):
        while not reports.issuperset(studies) or _to_send(database):
            if time.monotonic() - begun > READ_SECONDS:
                raise FreezeframeError(
                    f"Of {len(studies)} studies {len(reports)} have results in the PACS after {READ_SECONDS:.0f} s."
                )
            time.sleep(0.3)
            found = {uid for uid in pacs.studies_with("SR") if uid in studies}
            advance(len(found - reports))
            reports |= found


def _to_send(database: Database) -> int:
    """Return how many objects wait in the node's outbox."""
    with database.reading() as session:
        waiting = select(func.count()).select_from(Delivery).where(Delivery.state == DELIVERY_WAITING)
        return session.scalars(waiting).one()


def _count(config: Path) -> tuple[int, int]:
    """Return how many studies the node has read, and how many of them are positive."""
    with closing(open_database(NodeConfiguration.read(config))) as database, database.reading() as session:
        outcomes = session.scalars(select(Result.outcome).where(Result.current)).all()
    return len(outcomes), outcomes.count("positive")
