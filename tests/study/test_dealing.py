"""Which node does which training."""

from hypothesis import given
from hypothesis import strategies as st

from freezeframe.study.coordinator import slots
from freezeframe.study.dealing import Dealer


def test_trainings_of_one_frozen_network_go_to_one_node():
    dealer = Dealer({"a": ["a1", "a2", "a3"], "b": ["b1", "b2", "b3"]})
    assert dealer.deal(0, "one") == "a1"
    assert dealer.deal(1, "two") == "b1"
    dealer.finish(0, 1.0)
    dealer.finish(1, 1.0)
    assert [dealer.deal(2, "two"), dealer.deal(3, "one"), dealer.deal(4, "two")] == ["b2", "a2", "b3"]
    assert dealer.homes == {"a": {"one"}, "b": {"two"}}


def test_the_largest_group_that_nobody_holds_is_begun_first():
    dealer = Dealer({"small": ["s1"], "large": ["l1", "l2"]})
    assert dealer.deal(0, "one") == "l1"


def test_a_node_whose_store_holds_a_group_from_an_earlier_time_is_its_home():
    dealer = Dealer({"a": ["a1", "a2"], "b": ["b1"]}, {"b": ["one"]})
    assert dealer.deal(0, "one") == "b1"


def test_a_worker_stays_at_the_network_that_it_has_in_its_memory():
    dealer = Dealer({"a": ["a1", "a2"], "b": ["b1", "b2"]}, {"a": ["one"], "b": ["one"]})
    assert dealer.deal(0, "one", last="b") == "b1"


def at_work(preparation: float, each: float) -> Dealer:
    """One node at a group of twelve, of which two are done."""
    dealer = Dealer({"a": [f"a{number}" for number in range(12)]})
    for _ in range(2):
        dealer.deal(0, "one")
        dealer.prepared("a", preparation)
        dealer.finish(0, each)
    dealer.deal(0, "one")
    return dealer


def test_an_idle_node_takes_of_another_ones_group_when_computing_its_activations_again_pays():
    assert at_work(preparation=60.0, each=10.0).deal(1, "two") == "a3"


def test_an_idle_node_waits_when_computing_the_activations_again_costs_more_than_is_left():
    assert at_work(preparation=300.0, each=10.0).deal(1, "two") is None


def test_an_idle_node_waits_until_it_is_known_what_a_group_costs():
    dealer = Dealer({"a": [f"a{number}" for number in range(100)]})
    dealer.deal(0, "one")
    assert dealer.deal(1, "two") is None


def test_what_a_lost_node_held_is_done_elsewhere():
    dealer = Dealer({"a": ["a1", "a2"]})
    assert dealer.deal(0, "one") == "a1"
    assert dealer.give_back(0) == "a1"
    dealer.keep_nodes(["two"])
    assert [dealer.deal(1, "two"), dealer.deal(2, "two"), dealer.deal(3, "two")] == ["a1", "a2", None]


def test_trainings_that_a_study_has_grown_by_are_dealt_too_and_none_twice():
    dealer = Dealer({"a": ["a1", "a2"]})
    dealer.deal(0, "one")
    dealer.add({"a": ["a1", "a2", "a3"], "b": ["b1"]})
    dealt = [dealer.deal(number, "one") for number in range(1, 5)]
    assert dealt == ["a2", "a3", "b1", None]


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=60),
)
def test_whatever_dies_every_training_is_done_once(sizes, turns):
    groups = {f"g{one}": [f"g{one}-{number}" for number in range(size)] for one, size in enumerate(sizes)}
    dealer, done = Dealer(groups), []
    for worker, (node, dies) in enumerate([*turns, *[(0, False), (1, False), (2, False)] * 20]):
        name = dealer.deal(worker, str(node))
        if name is None:
            continue
        dealer.prepared(dealer.group_of(name), 0.1)
        if dies:
            assert dealer.give_back(worker) == name
        else:
            dealer.finish(worker, 1.0)
            done.append(name)
    assert sorted(done) == sorted(name for names in groups.values() for name in names)
    assert not dealer.waiting
    assert not dealer.held


def test_a_node_has_room_for_a_worker_a_gpu():
    assert slots({"CPU": 32.0, "GPU": 4.0}) == 4
    assert slots({"CPU": 32.0}) == 32
