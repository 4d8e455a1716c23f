"""Runs a study on a Ray cluster: starts its coordinator there or finds it, and shows what it knows."""

import contextlib
import hashlib
import importlib
import time
from pathlib import Path
from typing import Any

from freezeframe.cluster import AUTO, connected
from freezeframe.errors import FreezeframeError
from freezeframe.progress import say
from freezeframe.study.board import Board
from freezeframe.study.engine import shown
from freezeframe.study.folder import StudyFolder

NAMESPACE = "freezeframe"
ASKED = "The study says engine: ray"
SECONDS_BETWEEN_LOOKS = 0.5
# How long a coordinator may be out of reach before its study is given up: Ray moves it when its node is lost.
SECONDS_OUT_OF_REACH = 300.0


def run(folder: StudyFolder, board: Board, workers: int | None = None) -> None:
    """Have a cluster do what is left of a study, and follow it to its end; called again, it follows what goes on.

    Parameters
    ----------
    folder : StudyFolder
        The study's, on storage that all nodes see.
    board : Board
        As it stands; it is kept up to date.
    workers : int, optional
        In the whole cluster; where left out, one for each GPU of a node, or for each core where it has none.

    Raises
    ------
    UserError
        If Ray is not installed or there is no cluster.
    FreezeframeError
        If the cluster gives up.
    """
    with connected(AUTO, ASKED, NAMESPACE) as ray:
        coordinator = _coordinator(ray, folder, workers)
        try:
            with shown(board) as show:
                error = _follow(ray, coordinator, board, show)
        except KeyboardInterrupt:
            say(
                "The study goes on in the cluster; the same command shows it again. "
                f"To stop it: freezeframe study stop {folder.path}"
            )
            raise
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(coordinator)
    if error:
        raise FreezeframeError(error)


def stop(path: str) -> bool:
    """Stop a study that goes on in a cluster; what was done is kept, and `study run` goes on from there.

    Parameters
    ----------
    path : str
        The study's folder.

    Returns
    -------
    bool
        Whether there was one.
    """
    with connected(AUTO, ASKED, NAMESPACE) as ray:
        found = _find(ray, StudyFolder(Path(path)))
        if found is not None:
            ray.kill(found)
    return found is not None


def _name(folder: StudyFolder) -> str:
    return "study-" + hashlib.sha256(str(folder.path).encode()).hexdigest()[:16]


def _find(ray: Any, folder: StudyFolder) -> Any:
    try:
        return ray.get_actor(_name(folder), namespace=NAMESPACE)
    except ValueError:
        return None


def _coordinator(ray: Any, folder: StudyFolder, workers: int | None) -> Any:
    found = _find(ray, folder)
    if found is not None:
        with contextlib.suppress(ray.exceptions.RayError):
            if ray.get(found.look_again.remote()):
                say("The study goes on in the cluster already; this shows it.")
                return found
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(found)
        _wait_until_gone(ray, folder)
    # By its name, as a local worker is: what runs in the cluster loads torch, and a driver does not.
    inside = importlib.import_module("freezeframe.study.coordinator")
    return inside.start(_name(folder), NAMESPACE, str(folder.path), str(Path.cwd()), workers)


def _wait_until_gone(ray: Any, folder: StudyFolder) -> None:
    deadline = time.monotonic() + SECONDS_OUT_OF_REACH
    while _find(ray, folder) is not None and time.monotonic() < deadline:
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _follow(ray: Any, coordinator: Any, board: Board, show: Any) -> str:
    """Keep the board up to date until the coordinator has ended; returns why it gave up, if it did."""
    life, heard = "", 0
    reached = time.monotonic()
    while True:
        try:
            state = ray.get(coordinator.state.remote(heard), timeout=SECONDS_OUT_OF_REACH)
        except ray.exceptions.ActorDiedError as error:
            raise FreezeframeError(
                f"The study was stopped in the cluster, or could not begin there. {error}"
            ) from error
        except (ray.exceptions.RayActorError, ray.exceptions.GetTimeoutError) as error:
            if time.monotonic() - reached > SECONDS_OUT_OF_REACH:
                raise FreezeframeError(
                    f"The cluster no longer answers ({type(error).__name__}). The same command goes on."
                ) from error
            time.sleep(SECONDS_BETWEEN_LOOKS)
            continue
        reached = time.monotonic()
        if state["life"] != life and life:
            life, heard = state["life"], 0  # it was started again, and its lines begin anew
            continue
        life, heard = state["life"], heard + len(state["lines"])
        board.take_over(state["board"], state["elapsed"])
        for line in state["lines"]:
            show(line)
        if state["ended"]:
            return state["error"]
        time.sleep(SECONDS_BETWEEN_LOOKS)
