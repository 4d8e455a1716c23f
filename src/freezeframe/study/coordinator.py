"""The coordinator of one study inside a Ray cluster.

The coordinator is a detached actor, so it goes on when the command that started it ends. It alone says who does which
training, so that nothing depends on locks between machines. A worker that dies, or whose node does, gives its training
back, and the next one goes on from its last checkpoint. When the coordinator itself is lost, Ray starts it again
elsewhere; what is done is in the study's folder.
"""

import copy
import threading
import time
import traceback
import uuid
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, cast

from freezeframe import files
from freezeframe.study import engine
from freezeframe.study.board import Board, Seat
from freezeframe.study.dealing import Dealer
from freezeframe.study.folder import StudyFolder
from freezeframe.study.ray_worker import ORDERED, Worker, enter
from freezeframe.study.trials import Trials

NODES = "nodes.json"
SCHEMA_VERSION = 1
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_TO_MISS_A_NODE = 5.0
# How long a finished coordinator waits for somebody to see its last board.
SECONDS_AFTER_THE_END = 60.0
# Workers that end without being at a training (a package is missing, the folder is not there): then it gives up.
FAULTS = 3
# Workers and drivers that may speak to the coordinator at the same time.
THREADS = 64


class State(TypedDict):
    """What a driver is told.

    Attributes
    ----------
    board : Board
        The study's.
    elapsed : float
        Seconds since the board began.
    lines : list of str
        What was said since the line that was asked about.
    life : str
        Changes when the coordinator was started again and its lines begin anew.
    ended : bool
        Whether it has nothing more to do.
    error : str
        Why it gave up; '' if it did not.
    """

    board: Board
    elapsed: float
    lines: list[str]
    life: str
    ended: bool
    error: str


@dataclass
class Hand:
    """A worker as the coordinator sees it."""

    actor: Any
    node: str
    node_id: str
    asked: bool = False
    group: str | None = None


class Coordinator:
    """Gives a study's trainings to workers on the nodes of a cluster, and knows how far they are.

    Parameters
    ----------
    path : str
        The study's folder, on storage that all nodes see.
    working_folder : str
        Which paths in recipes are relative to.
    most_workers : int or None
        Workers in the whole cluster; one for each GPU, or each processor core where there is none, if left out.
    """

    def __init__(self, path: str, working_folder: str, most_workers: int | None) -> None:
        enter(working_folder)
        self.working_folder, self.most_workers = working_folder, most_workers
        self.folder = StudyFolder(Path(path))
        self.study = self.folder.read()
        self.board = engine.board_of(self.study, self.folder)
        known = self.folder.path / NODES
        homes = files.read_json(known)["homes"] if known.exists() else {}
        self.dealer = Dealer({}, None)
        self.dealer.add(self._groups())
        for key, nodes in homes.items():
            if key in self.dealer.homes:
                self.dealer.homes[key] |= set(nodes)
        self._lock = threading.RLock()
        self._life, self._lines, self._begun = uuid.uuid4().hex, [], time.monotonic()
        self._hands: dict[int, Hand] = {}
        self._tasks: dict[Any, int] = {}
        self._number, self._faults, self._deaths = 0, 0, Counter[str]()
        self._searching = self.study.search is not None
        self._ended, self._error = False, ""
        threading.Thread(target=self._run, daemon=True).start()

    def next(self, number: int) -> dict[str, Any]:
        """Tell a worker what to do: a training, a search, to wait, or to end."""
        with self._lock:
            hand = self._hands[number]
            if self.study.search is not None:
                again, hand.asked = hand.asked, True
                self._searching = self._searching and not again
                return {"do": "end" if again else "search"}
            hand.asked = True
            name = self.dealer.deal(number, hand.node, hand.group)
            if name is None:
                self.board.seats[number] = Seat("waiting")
                return {"do": "wait" if self.dealer.waiting else "end"}
            if self.dealer.group_of(name) != hand.group:
                hand.group = self.dealer.group_of(name)
                homes = {key: sorted(nodes) for key, nodes in self.dealer.homes.items() if nodes}
                files.write_json(self.folder.path / NODES, {"schema_version": SCHEMA_VERSION, "homes": homes})
            return {"do": "train", "cell": name, "group": hand.group, "with": self.dealer.companions(name)}

    def tell(self, number: int, event: dict[str, Any]) -> None:
        """Take in an event of a worker."""
        with self._lock:
            if number not in self._hands:
                return  # it has died; this is what it said before
            if event["event"] == "prepared":
                self.dealer.prepared(event["group"], event["seconds"])
            else:
                self._say(self.board.hear(number, event))

    def done(self, number: int, state: str, seconds: float) -> None:
        """Take in how a worker's training has ended; one that still waits is held by somebody beside this study."""
        with self._lock:
            if state == "waiting":
                self.dealer.give_back(number, last=True)
            else:
                self.dealer.finish(number, seconds)

    def state(self, since: int) -> State:
        """Tell a driver how far the study is, with the lines from number `since` on."""
        with self._lock:
            return {
                "board": copy.deepcopy(self.board),
                "elapsed": time.monotonic() - self._begun,
                "lines": self._lines[since:],
                "life": self._life,
                "ended": self._ended,
                "error": self._error,
            }

    def look_again(self) -> bool:
        """Read the study's folder again, as it may have grown; returns whether the coordinator can still take it on."""
        with self._lock:
            if self._ended:
                return False
            self.study = self.folder.read()
            fresh = engine.board_of(self.study, self.folder)
            self.board.total, self.board.failed = fresh.total, fresh.failed
            self.dealer.add(self._groups())
            return True

    def _groups(self) -> dict[str, list[str]]:
        """Return the names of what waits, by the frozen network that it begins with."""
        from freezeframe.study import (
            sharing,
        )  # not above: torch takes long to load, and a driver has no use for it

        found: dict[str, list[str]] = {}
        for group in sharing.groups(self.study.cells()):
            names = [
                cell.name
                for cell in group
                if cell.name not in self.board.finished and self.folder.state(cell.name) == "waiting"
            ]
            if names:
                found[sharing.group_key(group[0].recipe)] = names
        return found

    def _run(self) -> None:
        import ray

        try:
            with self.folder.timed():
                self._supervise()
        except Exception as error:
            self._error = f"The coordinator failed: {error}\n{traceback.format_exc()}"
        with self._lock:
            self._ended = True
        time.sleep(SECONDS_AFTER_THE_END)
        ray.kill(ray.get_runtime_context().current_actor)

    def _supervise(self) -> None:
        """Take on workers and part with them until nothing is left to do."""
        import ray

        self._settle()
        while not self._error:
            self._take_on()
            with self._lock:
                if not self._tasks and not self._open:
                    break
                tasks = list(self._tasks)
            if tasks:
                ready, _ = ray.wait(tasks, timeout=SECONDS_BETWEEN_LOOKS)
                for task in ready:
                    self._part_with(task)
            else:
                time.sleep(SECONDS_BETWEEN_LOOKS)
            if self.study.search is not None:
                with self._lock:
                    engine.look(
                        self.study, self.folder, self.board
                    )  # which says how many trials there will be
        self._settle()

    @property
    def _open(self) -> bool:
        return self._searching or self.dealer.waiting > 0

    def _settle(self) -> None:
        """Put in order what a search's processes have left, and see what is done."""
        with self._lock:
            if self.study.search is not None:
                Trials(self.study, self.folder).settle()
            engine.look(self.study, self.folder, self.board)

    def _take_on(self) -> None:
        """Start workers on nodes that have room, as long as there is something for them."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        with self._lock:
            self.dealer.keep_nodes(node["NodeName"] for node in nodes.values())
            room = {identity: slots(node["Resources"]) for identity, node in nodes.items()}
            most = sum(room.values()) if self.most_workers is None else self.most_workers
            for hand in self._hands.values():
                room[hand.node_id] = room.get(hand.node_id, 0) - 1
            while len(self._hands) < most:
                starting = sum(not hand.asked for hand in self._hands.values())
                fit = [
                    identity
                    for identity, free in room.items()
                    if free > 0
                    and (self._searching or self.dealer.choice(nodes[identity]["NodeName"]) is not None)
                ]
                if not fit or not (self._searching or self.dealer.waiting > starting):
                    return
                identity = max(fit, key=lambda one: room[one])
                room[identity] -= 1
                number, self._number = self._number, self._number + 1
                resources = nodes[identity]["Resources"]
                actor = (
                    ray.remote(Worker)
                    .options(
                        num_cpus=0 if resources.get("GPU") else 1,
                        num_gpus=1 if resources.get("GPU") else 0,
                        scheduling_strategy=NodeAffinitySchedulingStrategy(identity, soft=False),
                    )
                    .remote(
                        ray.get_runtime_context().current_actor,
                        number,
                        str(self.folder.path),
                        self.working_folder,
                        slots(resources),
                    )
                )
                self._hands[number] = Hand(actor, nodes[identity]["NodeName"], identity)
                self._tasks[cast(Any, actor).work.remote()] = number
                self.board.seats[number] = Seat()

    def _part_with(self, task: Any) -> None:
        """See how a worker has ended; what it was at is done again, but not for ever."""
        import ray
        from ray.exceptions import RayError

        error = None
        try:
            ray.get(task)
        except RayError as raised:
            error = raised
        with self._lock:
            number = self._tasks.pop(task)
            hand = self._hands[number]
        lost = error is not None and _is_lost(hand.node_id)
        with self._lock:
            self._hands.pop(number)
            seat = self.board.seats.pop(number, Seat())
            if error is not None:
                name = self.dealer.held.get(number) or seat.cell
                if lost:
                    self._say(
                        f"The node {hand.node} is lost{'; ' + name + ' is done elsewhere' if name else ''}."
                    )
                    self.dealer.give_back(number)
                elif name:
                    self._bury(number, name)
                else:
                    self._faults += 1
                    self._say(f"A worker on {hand.node} ended: {str(error).strip().splitlines()[-1]}")
                    if self._faults >= FAULTS:
                        self._error = f"Workers end before they begin. The last one: {error}"

    def _bury(self, number: int, name: str) -> None:
        self._deaths[name] += 1
        message = "its process was ended (the system does so when memory runs out)."
        if self._deaths[name] < engine.DEATHS:
            self.dealer.give_back(number)
            self._say(f"{name}: {message} It is tried again.")
            return
        self.dealer.give_up(number)
        self.folder.record_failure(name, "WorkerDied", message, "")
        self._say(self.board.hear(-1, {"event": "failed", "cell": name, "error": message}))
        self.board.seats.pop(-1, None)

    def _say(self, line: str | None) -> None:
        if line is not None:
            self._lines.append(line)


def _is_lost(node_id: str) -> bool:
    """Tell whether a node is gone, of which the cluster may hear a little later than of its worker."""
    import ray

    deadline = time.monotonic() + SECONDS_TO_MISS_A_NODE
    while time.monotonic() < deadline:
        if node_id not in {node["NodeID"] for node in ray.nodes() if node["Alive"]}:
            return True
        time.sleep(SECONDS_BETWEEN_LOOKS / 2)
    return False


def slots(resources: dict[str, float]) -> int:
    """Return how many workers a node has room for: one for each GPU, or for each core where there is none.

    Examples
    --------
    >>> slots({"CPU": 16.0, "GPU": 2.0}), slots({"CPU": 4.0}), slots({"memory": 1e9})
    (2, 4, 0)
    """
    return int(resources.get("GPU", 0)) or int(resources.get("CPU", 0))


def start(name: str, namespace: str, path: str, working_folder: str, most_workers: int | None) -> Any:
    """Start a study's coordinator in the cluster that this process is connected to; see `Coordinator`.

    It computes nothing, so it takes no core from a training.
    """
    import ray

    remote = cast(Any, ray.remote)(max_concurrency=THREADS, concurrency_groups={ORDERED: 1})
    actor = remote(Coordinator).options(
        num_cpus=0, max_restarts=-1, lifetime="detached", name=name, namespace=namespace
    )
    return actor.remote(path, working_folder, most_workers)
