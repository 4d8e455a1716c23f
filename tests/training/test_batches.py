"""The order of images: a pure function, from any clock on."""

import numpy as np
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from freezeframe.training.batches import Clock, TrainingBatches, divide, mixtures, order


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


def mixing(**changes) -> TrainingBatches:
    return make_batches(oversample=True, mix_added=True, **changes)


@given(st.lists(st.integers(0, 2), min_size=3, max_size=60), st.integers(0, 9))
def test_each_added_copy_is_mixed_with_another_image_of_its_class_and_keeps_the_larger_part(labels, epoch):
    array = np.array(labels)
    turns = order(array, 0, epoch, oversample=True)
    counts = np.bincount(array)
    for (index, copy), mixture in zip(turns, mixtures(turns, array, 0, epoch), strict=True):
        assert (mixture is not None) == (copy > 0 and counts[array[index]] > 1)
        if mixture is not None:
            assert mixture.index != index
            assert array[mixture.index] == array[index]
            assert 0.5 <= mixture.share <= 1


def test_what_is_mixed_in_is_drawn_evenly_and_the_shares_are_beta_distributed():
    labels = np.array([0] * 400 + [1] * 4)
    found = []
    for epoch in range(20):
        turns = order(labels, 0, epoch, oversample=True)
        drawn = mixtures(turns, labels, 0, epoch)
        found += [(index, one) for (index, _), one in zip(turns, drawn, strict=True) if one]
    pairs = np.zeros((4, 4), int)
    for index, one in found:
        pairs[index - 400, one.index - 400] += 1
    assert (np.diag(pairs) == 0).all()
    off = pairs[~np.eye(4, dtype=bool)]
    assert scipy.stats.chisquare(off).pvalue > 1e-4
    # The larger of a share and its rest, where the share is Beta(0.4, 0.4).
    shares = np.array([one.share for _, one in found])
    beta = scipy.stats.beta(0.4, 0.4)
    assert scipy.stats.kstest(shares, lambda x: beta.cdf(x) - beta.cdf(1 - x)).pvalue > 1e-4


def test_added_copies_are_mixtures_of_two_views_and_all_else_is_as_in_oversampling():
    labels = np.arange(37) % 3 // 2
    for epoch in range(3):
        batches, plain = mixing(), make_batches(oversample=True)
        batches.next = plain.next = Clock(epoch)
        turns = order(labels, 1, epoch, oversample=True)
        expected = []
        for (index, copy), one in zip(turns, mixtures(turns, labels, 1, epoch), strict=True):
            own = np.array([index, (epoch + copy) % 3], np.float32)
            other = own if one is None else np.array([one.index, epoch % 3], np.float32)
            share = np.float32(1 if one is None else one.share)
            expected.append(share * own + (1 - share) * other)
        mixed, unmixed = list(batches), list(plain)
        assert (torch.cat([batch.activations for batch in mixed]).numpy() == np.array(expected)).all()
        assert not (torch.cat([batch.activations for batch in unmixed]).numpy() == np.array(expected)).all()
        targets = torch.cat([batch.targets for batch in mixed])
        assert targets.dtype == torch.int64
        assert (targets == torch.cat([batch.targets for batch in unmixed])).all()
        assert [batch.clock for batch in mixed] == [batch.clock for batch in unmixed]
        assert batches.places(epoch) == plain.places(epoch)


def test_mixed_training_can_begin_at_any_batch_and_sees_the_same_batches():
    whole = mixing()
    expected = [*whole, *whole]
    for start in (expected[3].clock, expected[-2].clock):
        resumed = mixing()
        resumed.next = start
        rest = [one for one in expected if one.clock.epoch == start.epoch and one.clock.batch >= start.batch]
        for batch, other in zip(resumed, rest, strict=True):
            assert batch.clock == other.clock
            assert (batch.activations == other.activations).all()


def test_equal_classes_are_not_mixed():
    labels = np.arange(36) % 2
    options = {"views": 3, "batch_size": 5, "seed": 1, "oversample": True}
    plain = TrainingBatches(Recorded(), labels, 2, **options)
    mixed = TrainingBatches(Recorded(), labels, 2, **options, mix_added=True)
    for one, other in zip(plain, mixed, strict=True):
        assert (one.activations == other.activations).all()


class MixedViews(PlainViews):
    """Views into each of which image 0 is mixed by a quarter."""

    def partner(self, place):
        return "0", 0.25


def test_targets_of_views_that_are_mixed_already_are_mixed_too():
    batches = mixing()
    batches._activations.views = MixedViews()
    labels = np.arange(37) % 3 // 2
    first = next(iter(batches))
    own = labels[[index for index, _ in order(labels, 1, 0, oversample=True)[: len(first.targets)]]]
    expected = 0.75 * np.eye(2)[own] + 0.25 * np.eye(2)[[0] * len(own)]
    np.testing.assert_allclose(first.targets, expected, atol=1e-6)


class RecordedLessons:
    """A teacher that says of each view which it is."""

    def batch(self, places):
        return np.array(places, np.float32)


def test_a_teachers_answer_is_mixed_as_its_image_is_at_the_cut():
    labels = np.arange(37) % 3 // 2
    options = {"views": 3, "batch_size": 5, "seed": 1, "oversample": True, "mix_added": True}
    batches = TrainingBatches(Recorded(), labels, 2, **options, lessons=RecordedLessons())
    for batch in batches:
        assert batch.lessons is not None
        torch.testing.assert_close(batch.lessons, batch.activations, rtol=0, atol=0)


def test_without_a_teacher_there_are_no_lessons():
    assert next(iter(make_batches())).lessons is None
