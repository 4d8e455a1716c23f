"""The order of images: a pure function, from any clock on."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.training.batches import Clock, TrainingBatches, divide, order


class PlainViews:
    """Views of which none is mixed."""

    def __init__(self):
        self.keys = [str(number) for number in range(37)]

    def partner(self, place):
        return None


class Recorded:
    """Activations that say which place they are of."""

    def __init__(self):
        self.views = PlainViews()

    def batch(self, places):
        return np.array(places, np.float32)


def make_batches(**changes) -> TrainingBatches:
    labels = np.arange(37) % 3 // 2
    options = {"views": 3, "batch_size": 5, "seed": 1, "oversample": False, **changes}
    return TrainingBatches(Recorded(), labels, 2, **options)


@given(st.integers(1, 500), st.integers(2, 40))
def test_batches_divide_an_epoch_without_gap_and_none_is_alone(count, size):
    parts = divide(count, size)
    assert [index for part in parts for index in range(count)[part]] == list(range(count))
    lengths = [part.stop - part.start for part in parts]
    assert count == 1 or min(lengths) > 1
    assert max(lengths) <= size + 1


@given(st.integers(0, 3), st.integers(0, 20))
def test_an_epochs_order_holds_every_image_once(seed, epoch):
    turns = order(np.zeros(20, np.int64), seed, epoch, oversample=False)
    assert sorted(turns) == [(index, 0) for index in range(20)]
    assert turns == order(np.zeros(20, np.int64), seed, epoch, oversample=False)


def test_epochs_are_shuffled_differently():
    labels = np.zeros(50, np.int64)
    assert order(labels, 0, 0, oversample=False) != order(labels, 0, 1, oversample=False)


@given(st.lists(st.integers(0, 2), min_size=3, max_size=60))
def test_oversampling_makes_classes_equal_and_copies_differ_in_view(labels):
    array = np.array(labels)
    turns = order(array, 0, 0, oversample=True)
    counts = np.bincount(array[[index for index, _ in turns]])
    assert set(counts[counts > 0]) == {np.bincount(array).max()}
    assert len(set(turns)) == len(turns)


def test_training_can_begin_at_any_batch_and_sees_the_same_batches():
    whole = make_batches()
    expected = [batch for _ in range(3) for batch in whole]
    for position, start in enumerate(batch.clock for batch in expected):
        resumed = make_batches()
        resumed.next = start
        rest = list(resumed)
        while len(rest) < len(expected) - position:
            rest += list(resumed)
        for one, other in zip(expected[position:], rest, strict=True):
            assert one.clock == other.clock
            assert (one.activations == other.activations).all()
            assert (one.targets == other.targets).all()


def test_an_image_takes_its_views_in_turn():
    batches = make_batches()
    views = {epoch: {view for _, view in batches.places(epoch)} for epoch in range(6)}
    assert views == {0: {0}, 1: {1}, 2: {2}, 3: {0}, 4: {1}, 5: {2}}


def test_the_clock_counts_epochs_and_batches():
    batches = make_batches()
    clocks = [batch.clock for batch in batches] + [batch.clock for batch in batches]
    assert clocks == [Clock(epoch, number) for epoch in range(2) for number in range(8)]
