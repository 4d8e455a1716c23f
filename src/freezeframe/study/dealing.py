"""Which node of a cluster does which training: where its frozen part is stored, unless waiting for that costs more.

Each node has a store of its own. Trainings that begin with the same frozen network form a group, and a group has its
home where the activations were computed; another node takes of it only when computing them again pays.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence


class Dealer:
    """Trainings that wait, are being done, and where their groups are at home.

    Parameters
    ----------
    groups : mapping of str to sequence of str
        Key of each frozen network -> names of the trainings that begin with it, in the order to be done.
    homes : mapping of str to iterable of str, optional
        Key -> nodes whose store is known to hold its activations.

    Examples
    --------
    >>> dealer = Dealer({"resnet": ["r1", "r2"], "densenet": ["d1"]})
    >>> dealer.deal(0, "one"), dealer.deal(1, "two"), dealer.deal(2, "one"), dealer.deal(3, "two")
    ('r1', 'd1', 'r2', None)
    >>> dealer.give_back(0)
    'r1'
    >>> dealer.deal(4, "one")
    'r1'
    """

    def __init__(
        self, groups: Mapping[str, Sequence[str]], homes: Mapping[str, Iterable[str]] | None = None
    ) -> None:
        self._waiting = {key: list(names) for key, names in groups.items()}
        self._group = {name: key for key, names in groups.items() for name in names}
        self.homes = {key: set((homes or {}).get(key, ())) for key in groups}
        self._held: dict[int, str] = {}
        self._seconds: dict[str, list[float]] = {key: [] for key in groups}
        self._preparation: dict[str, float] = {}

    @property
    def waiting(self) -> int:
        """Trainings that nobody is at."""
        return sum(map(len, self._waiting.values()))

    @property
    def held(self) -> dict[int, str]:
        """Worker -> training that it is at."""
        return dict(self._held)

    def add(self, groups: Mapping[str, Sequence[str]]) -> None:
        """Let trainings wait that are new, or are to be tried again."""
        for key, names in groups.items():
            waiting = self._waiting.setdefault(key, [])
            self.homes.setdefault(key, set())
            self._seconds.setdefault(key, [])
            known = {*waiting, *self._held.values()}
            waiting += [name for name in names if name not in known]
            self._group.update(dict.fromkeys(names, key))

    def group_of(self, name: str) -> str:
        """Return the group of a training."""
        return self._group[name]

    def companions(self, name: str) -> list[str]:
        """Return a training and those of its group that wait, which need the same frozen network."""
        return [name, *self._waiting[self._group[name]]]

    def choice(self, node: str, last: str | None = None) -> str | None:
        """Return the group that a node takes its next training from; None where it does better to wait.

        Parameters
        ----------
        node : str
            Name of the node.
        last : str, optional
            Group that the worker has in its memory.
        """
        open_groups = [key for key, names in self._waiting.items() if names]
        own = [key for key in open_groups if node in self.homes[key]]
        if own:
            return last if last in own else own[0]
        homeless = [key for key in open_groups if not self.homes[key]]
        if homeless:
            return max(homeless, key=lambda key: len(self._waiting[key]))
        gains = {key: self._gain(key) for key in open_groups}
        best = max(gains, key=lambda key: gains[key], default=None)
        return best if best is not None and gains[best] > 0 else None

    def deal(self, worker: int, node: str, last: str | None = None) -> str | None:
        """Give a worker on a node its next training; None where there is none for it now."""
        key = self.choice(node, last)
        if key is None:
            return None
        self.homes[key].add(node)
        self._held[worker] = self._waiting[key].pop(0)
        return self._held[worker]

    def prepared(self, key: str, seconds: float) -> None:
        """Note how long it took to compute a group's activations; the longest time tells what it costs elsewhere."""
        self._preparation[key] = max(seconds, self._preparation.get(key, 0.0))

    def finish(self, worker: int, seconds: float) -> None:
        """Note that a worker's training has ended, and how long it took."""
        self._seconds[self._group[self._held.pop(worker)]].append(seconds)

    def give_back(self, worker: int, last: bool = False) -> str | None:
        """Let a worker's training wait again, as the first of its group or the last; returns which it was."""
        name = self._held.pop(worker, None)
        if name is not None:
            waiting = self._waiting[self._group[name]]
            waiting.insert(len(waiting) if last else 0, name)
        return name

    def give_up(self, worker: int) -> str | None:
        """Take a worker's training out of the game; returns which it was."""
        return self._held.pop(worker, None)

    def keep_nodes(self, nodes: Iterable[str]) -> None:
        """Forget nodes that are gone, and the stores on them."""
        alive = set(nodes)
        for homes in self.homes.values():
            homes &= alive

    def _gain(self, key: str) -> float:
        """Seconds that a further node saves a group's homes, less what its first training costs there."""
        if key not in self._preparation or not self._seconds[key]:
            return 0.0
        each = sum(self._seconds[key]) / len(self._seconds[key])
        at_work = Counter(self._group[name] for name in self._held.values())[key]
        return len(self._waiting[key]) * each / max(1, at_work) - self._preparation[key] - each
