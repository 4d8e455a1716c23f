"""The order of images in an epoch: a pure function of (seed, epoch), so training can begin anywhere."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from freezeframe.seeds import generator
from freezeframe.training.activations import Activations, prefetch
from freezeframe.training.views import Place


@dataclass(frozen=True)
class Clock:
    """Where training stands: the next batch to be trained on."""

    epoch: int = 0
    batch: int = 0


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
    """

    clock: Clock
    activations: torch.Tensor
    targets: torch.Tensor


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
    ) -> None:
        self._activations, self._labels, self._n_classes = activations, labels, n_classes
        self._views, self._batch_size, self._seed, self._oversample = views, batch_size, seed, oversample
        self.next = Clock()
        self._class_of = dict(zip(activations.views.keys, labels.tolist(), strict=False))

    def places(self, epoch: int) -> list[Place]:
        """Return image and view of each turn of an epoch, in its order."""
        turns = order(self._labels, self._seed, epoch, self._oversample)
        return [(index, (epoch + copy) % self._views) for index, copy in turns]

    def batches_in(self, epoch: int) -> int:
        """Return the number of batches of an epoch."""
        return len(divide(len(self.places(epoch)), self._batch_size))

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self.next.epoch, self.next.batch
        places = self.places(epoch)
        parts = [places[part] for part in divide(len(places), self._batch_size)]
        # The epoch is begun: whoever iterates again gets the next one.
        self.next = Clock(epoch + 1)
        work = prefetch(iter(parts[first:]), self._activations.batch, ahead=2, threads=1)
        for number, (part, activations) in enumerate(work, start=first):
            yield Batch(Clock(epoch, number), torch.from_numpy(activations), self._targets(part))

    def _targets(self, places: list[Place]) -> torch.Tensor:
        labels = torch.from_numpy(self._labels[[index for index, _ in places]])
        partners = [self._activations.views.partner(place) for place in places]
        if not any(partners):
            return labels
        shares = torch.nn.functional.one_hot(labels, self._n_classes).float()
        for row, partner in enumerate(partners):
            if partner is not None:
                key, share = partner
                shares[row] *= 1 - share
                shares[row, self._class_of[key]] += share
        return shares


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
    """

    def __init__(
        self, activations: Activations, indices: list[int], labels: np.ndarray, batch_size: int
    ) -> None:
        self._activations, self._indices, self._labels = activations, indices, labels
        self._batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self._indices) // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        starts = iter(range(0, len(self._indices), self._batch_size))

        def activations(start: int) -> np.ndarray:
            places = [(index, 0) for index in self._indices[start : start + self._batch_size]]
            return self._activations.batch(places)

        for number, (start, values) in enumerate(prefetch(starts, activations, ahead=2, threads=1)):
            labels = torch.from_numpy(self._labels[start : start + self._batch_size])
            yield Batch(Clock(0, number), torch.from_numpy(values), labels)
