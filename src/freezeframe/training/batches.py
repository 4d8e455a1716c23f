"""The order of images in an epoch: a pure function of (seed, epoch), so training can begin anywhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from freezeframe.seeds import generator
from freezeframe.training.activations import Activations, prefetch
from freezeframe.training.shares import ALONE, Share
from freezeframe.training.views import Place

# Both parameters of the Beta distribution of mixed shares: most mixtures are near one of the two images. Zhang et al.
# 2018 (mixup) take 0.1 to 0.4 on ImageNet; Verma et al. 2019 mix at inner layers.
MIXUP_ALPHA = 0.4


@dataclass(frozen=True)
class Clock:
    """Where training stands: the next batch to be trained on."""

    epoch: int = 0
    batch: int = 0


class Lessons(Protocol):
    """What a teacher says of views."""

    def batch(self, places: Sequence[Place]) -> np.ndarray:
        """Return (N, C) float32 probabilities."""
        ...


@dataclass(frozen=True)
class Batch:
    """One step's images.

    Attributes
    ----------
    clock : Clock
        Which batch of which epoch this is.
    activations : (N, size) float32 tensor
        At the cut, flattened.
    targets : (N,) int64 or (N, C) float32 tensor
        Class indices, or shares of the classes where images are mixed.
    images : int
        Of the whole batch: N, or more where several processes have a share of it each.
    lessons : (N, C) float32 tensor or None
        What a teacher says of the same views, if there is one.
    """

    clock: Clock
    activations: torch.Tensor
    targets: torch.Tensor
    images: int
    lessons: torch.Tensor | None = None


def order(labels: np.ndarray, seed: int, epoch: int, oversample: bool) -> list[tuple[int, int]]:
    """Shuffle the images of an epoch.

    Parameters
    ----------
    labels : (N,) int64 array
        Class of each training image.
    seed, epoch : int
        What the order depends on.
    oversample : bool
        Repeat the images of smaller classes until all classes are as large as the largest.

    Returns
    -------
    list of (index, copy)
        Copy 0 is an image's first turn in the epoch; later copies take other views.
    """
    random = generator(seed, "order", epoch)
    turns = [(index, 0) for index in range(len(labels))]
    if oversample:
        counts = np.bincount(labels)
        for label, count in enumerate(counts):
            members = np.flatnonzero(labels == label)
            copy = 1
            wanted = counts.max() - count if count else 0
            while wanted > 0:
                chosen = random.permutation(members)[:wanted]
                turns += [(int(index), copy) for index in chosen]
                wanted -= len(chosen)
                copy += 1
    return [turns[position] for position in random.permutation(len(turns))]


@dataclass(frozen=True)
class Mixture:
    """What is mixed into an added copy.

    Attributes
    ----------
    index : int
        Another training image of the same class.
    share : float
        What the copy keeps of itself, in [0.5, 1].
    """

    index: int
    share: float


def mixtures(
    turns: Sequence[tuple[int, int]], labels: np.ndarray, seed: int, epoch: int
) -> list[Mixture | None]:
    """Choose what each added copy of an epoch is mixed with at the cut.

    Manifold mixup (Verma et al. 2019, https://proceedings.mlr.press/v97/verma19a.html) within the class, so the label
    stays. The share is Beta-distributed, and the larger part is the copy's own.

    Parameters
    ----------
    turns : sequence of (index, copy)
        As `order` returns them for this epoch.
    labels : (N,) int64 array
        Class of each training image.
    seed, epoch : int
        What the choice depends on.

    Returns
    -------
    list of Mixture or None
        None for an image's first turn, and for the only image of a class.
    """
    random = generator(seed, "mixup at the cut", epoch)
    chances = random.random(len(turns))
    shares = random.beta(MIXUP_ALPHA, MIXUP_ALPHA, len(turns))
    members = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
    chosen: list[Mixture | None] = []
    for (index, copy), chance, share in zip(turns, chances, shares, strict=True):
        own_class = members[labels[index]]
        if copy == 0 or len(own_class) < 2:
            chosen.append(None)
            continue
        rank = int(chance * (len(own_class) - 1))  # among the others
        rank += rank >= np.searchsorted(own_class, index)
        chosen.append(Mixture(int(own_class[rank]), float(max(share, 1 - share))))
    return chosen


def divide(count: int, size: int) -> list[slice]:
    """Divide an epoch into batches; a lone last image joins the batch before it (BatchNorm needs two).

    Examples
    --------
    >>> divide(33, 16)
    [slice(0, 16, None), slice(16, 33, None)]
    """
    starts = list(range(0, count, size))
    if len(starts) > 1 and count - starts[-1] == 1:
        starts.pop()
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], count], strict=True)]


class TrainingBatches:
    """The batches of one epoch after another, from any clock on.

    Parameters
    ----------
    activations : Activations
        Where they come from.
    labels : (N,) int64 array
        Class of each training image.
    n_classes : int
        Number of classes.
    views, batch_size, seed, oversample
        As in the recipe.
    mix_added : bool
        Mix each image that oversampling adds with another of its class, at the cut.
    share : Share
        What this process takes of each batch.
    lessons : Lessons, optional
        A teacher's answers to the training images' views. What is mixed at the cut nobody has seen as a picture: its
        answer is mixed alike.

    Attributes
    ----------
    next : Clock
        The batch that the next iteration begins with.
    """

    def __init__(
        self,
        activations: Activations,
        labels: np.ndarray,
        n_classes: int,
        *,
        views: int,
        batch_size: int,
        seed: int,
        oversample: bool,
        mix_added: bool = False,
        share: Share = ALONE,
        lessons: Lessons | None = None,
    ) -> None:
        self._activations, self._labels, self._n_classes = activations, labels, n_classes
        self._lessons = lessons
        self._views, self._batch_size, self._seed, self._oversample = views, batch_size, seed, oversample
        self._mix_added, self._share = mix_added, share
        self.next = Clock()
        self._class_of = dict(zip(activations.views.keys, labels.tolist(), strict=False))

    def places(self, epoch: int) -> list[Place]:
        """Return image and view of each turn of an epoch, in its order."""
        turns = order(self._labels, self._seed, epoch, self._oversample)
        return [(index, (epoch + copy) % self._views) for index, copy in turns]

    def _turns(self, epoch: int) -> list["_Turn"]:
        places = self.places(epoch)
        if not self._mix_added:
            return [_Turn(place) for place in places]
        turns = order(self._labels, self._seed, epoch, self._oversample)
        mixed = mixtures(turns, self._labels, self._seed, epoch)
        # The other image is mixed in as it looks at its own first turn in this epoch.
        view = epoch % self._views
        return [
            _Turn(place, (one.index, view), one.share) if one else _Turn(place)
            for place, one in zip(places, mixed, strict=True)
        ]

    def batches_in(self, epoch: int) -> int:
        """Return the number of batches of an epoch."""
        return len(divide(len(self.places(epoch)), self._batch_size))

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self.next.epoch, self.next.batch
        turns = self._turns(epoch)
        parts = [turns[part] for part in divide(len(turns), self._batch_size)]
        # The epoch is begun: whoever iterates again gets the next one.
        self.next = Clock(epoch + 1)
        own = (list(self._share.of(part)) for part in parts[first:])
        work = prefetch(own, self._load, ahead=2, threads=1)
        for number, (turns, activations) in enumerate(work, start=first):
            images = len(parts[number])
            inputs, targets = torch.from_numpy(activations), self._targets(turns)
            yield Batch(Clock(epoch, number), inputs, targets, images, self._taught(turns))

    def _load(self, turns: list["_Turn"]) -> np.ndarray:
        return _mix(self._activations.batch(_places(turns)), turns)

    def _taught(self, turns: list["_Turn"]) -> torch.Tensor | None:
        if self._lessons is None:
            return None
        return torch.from_numpy(_mix(self._lessons.batch(_places(turns)), turns))

    def _targets(self, turns: list["_Turn"]) -> torch.Tensor:
        places = _places(turns)
        labels = torch.from_numpy(self._labels[[index for index, _ in places]])
        partners = [self._activations.views.partner(place) for place in places]
        if not any(partners):
            return labels[: len(turns)]  # what is mixed at the cut is of one class
        shares = torch.nn.functional.one_hot(labels, self._n_classes).float()
        for row, partner in enumerate(partners):
            if partner is not None:
                key, share = partner
                shares[row] *= 1 - share
                shares[row, self._class_of[key]] += share
        return torch.from_numpy(_mix(shares.numpy(), turns))


@dataclass(frozen=True)
class _Turn:
    """An image's turn in an epoch: its view, and the view that is mixed into it, if any."""

    place: Place
    other: Place | None = None
    share: float = 1.0


def _places(turns: list[_Turn]) -> list[Place]:
    """Return the views of some turns, followed by those that are mixed into them."""
    return [turn.place for turn in turns] + [turn.other for turn in turns if turn.other is not None]


def _mix(values: np.ndarray, turns: list[_Turn]) -> np.ndarray:
    """Mix the values of `_places`; one row a turn is left."""
    rows = [row for row, turn in enumerate(turns) if turn.other is not None]
    if not rows:
        return values
    share = np.array([turns[row].share for row in rows], dtype=np.float32)[:, None]
    mixed = values[: len(turns)].copy()
    mixed[rows] = share * mixed[rows] + (1 - share) * values[len(turns) :]
    return mixed


class EvaluationBatches:
    """All images of a split once, in order, as they are.

    Parameters
    ----------
    activations : Activations
        Where they come from.
    indices : list of int
        Which images.
    labels : (N,) int64 array
        Their classes; -1 where unknown.
    batch_size : int
        Images at a time.
    share : Share
        Several processes take whole batches each, so that these are what they are in one process. A process for
        which there is none repeats the first one: Lightning leaves out a validation without batches.
    """

    def __init__(
        self,
        activations: Activations,
        indices: list[int],
        labels: np.ndarray,
        batch_size: int,
        share: Share = ALONE,
    ) -> None:
        self._activations, self._indices, self._labels = activations, indices, labels
        self._batch_size = batch_size
        numbers = range(-(-len(indices) // batch_size))
        self._numbers = share.of(numbers) or numbers[:1]

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Batch]:
        starts = (number * self._batch_size for number in self._numbers)

        def activations(start: int) -> np.ndarray:
            places = [(index, 0) for index in self._indices[start : start + self._batch_size]]
            return self._activations.batch(places)

        for start, values in prefetch(starts, activations, ahead=2, threads=1):
            labels = torch.from_numpy(self._labels[start : start + self._batch_size])
            clock = Clock(0, start // self._batch_size)
            yield Batch(clock, torch.from_numpy(values), labels, len(values))
