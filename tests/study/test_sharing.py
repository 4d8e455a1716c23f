"""One pass through the frozen part serves all depths, and gives what each training alone would compute."""

import numpy as np
import pytest

from freezeframe.study import sharing
from freezeframe.study.spec import Study
from freezeframe.training.shared import Shared


@pytest.fixture
def study(base, tmp_path) -> Study:
    return Study.parse(
        {
            "recipe": {**base, "store": str(tmp_path / "store")},
            "axes": [
                {"unfreeze": ["head", {"layers": 2}], "augment": ["none", "flip", "brightness"]},
                {"unfreeze": [{"blocks": 2}], "augment": ["none"]},
            ],
            "seeds": 2,
        }
    )


def test_each_picture_goes_through_the_frozen_part_once_for_all_depths(study):
    recipes = [cell.recipe for cell in study.cells()]
    shared = Shared()
    needs = sharing.wanted(recipes, shared)
    # Originals are one picture under every policy, seeds share their views, and each depth reads only its own.
    assert len(needs) == 3
    different = {key for one in needs for key in one.places}
    assert sharing.fill(recipes, shared) == len(different)
    assert sharing.fill(recipes, Shared()) == 0
    originals = len(shared.manifest(recipes[0]))
    assert [len(one.places) for one in needs][2] == originals
    assert originals < len(different) < 3 * originals


def test_what_a_joint_pass_stores_is_what_a_training_alone_computes(study):
    recipes = [cell.recipe for cell in study.cells()]
    shared = Shared()
    sharing.fill(recipes, shared)
    for one in sharing.wanted(recipes, Shared()):
        assert not one.missing()
        executor = one.parts.executor
        for key in list(one.places)[:: max(1, len(one.places) // 10)]:
            views, place = one.places[key]
            assert np.array_equal(executor.run(views.batch([place])), one.pack.read([key]))


def test_another_depth_later_computes_only_its_own_activations(study):
    recipes = [cell.recipe for cell in study.cells()]
    sharing.fill(recipes, Shared())
    deeper = recipes[0].changed(unfreeze={"layers": 5})
    needs = sharing.wanted([*recipes, deeper], Shared())
    assert [bool(one.missing()) for one in needs] == [False, False, False, True]
    assert sharing.fill([*recipes, deeper], Shared()) == len(needs[3].places)


def test_a_training_reads_what_the_study_stored(study, tmp_path):
    from freezeframe.training.fit import train
    from freezeframe.training.run import read_status

    cell = study.cells()[0]
    sharing.fill([one.recipe for one in study.cells()], Shared())
    run = train(cell.recipe, tmp_path / "run")
    assert read_status(run)["activations"]["mode"] == "store"
    assert "The store holds" in read_status(run)["activations"]["reason"]


def test_groups_are_trainings_of_one_frozen_network(base):
    study = Study.parse(
        {
            "recipe": base,
            "axes": {
                "unfreeze": ["head", {"layers": 2}],
                "preprocess": [[{"resize": {"size": 64}}], ["grey", {"resize": {"size": 64}}]],
            },
            "seeds": 2,
        }
    )
    groups = sharing.groups(study.cells())
    assert [len(group) for group in groups] == [4, 4]
    assert {cell.name for group in groups for cell in group} == {cell.name for cell in study.cells()}
    random = Study.parse({"recipe": {**base, "weights": "none"}, "seeds": 3})
    assert len(sharing.groups(random.cells())) == 3


def test_live_trainings_and_those_without_a_frozen_part_need_nothing_stored(base):
    study = Study.parse({"recipe": {**base, "activations": "live"}, "axes": {"unfreeze": ["head"]}})
    assert sharing.wanted([cell.recipe for cell in study.cells()], Shared()) == []
    study = Study.parse({"recipe": base, "axes": {"unfreeze": ["all"]}})
    assert sharing.fill([cell.recipe for cell in study.cells()], Shared()) == 0


def test_where_the_disk_is_too_small_the_largest_activations_are_left_out(study, monkeypatch, capsys):
    recipes = [cell.recipe for cell in study.cells()]
    shared = Shared()
    needs = sharing.wanted(recipes, shared)
    sizes = sorted(len(one.missing()) * one.pack.record_bytes for one in needs)
    monkeypatch.setattr(sharing, "fits_on_disk", lambda _, needed: needed < sum(sizes))
    sharing.fill(recipes, shared)
    left = [one for one in sharing.wanted(recipes, Shared()) if one.missing()]
    assert [len(one.missing()) * one.pack.record_bytes for one in left] == [sizes[-1]]
    assert "no room" in capsys.readouterr().err


def test_trainings_with_and_without_adapters_read_the_same_activations(base, tmp_path):
    study = Study.parse(
        {
            "recipe": {**base, "unfreeze": {"layers": 2}, "store": str(tmp_path / "store")},
            "axes": {"adapters": [None, {"rank": 4}, {"rank": 8}]},
        }
    )
    cells = study.cells()
    assert [cell.name for cell in cells] == ["default", "rank-4", "rank-8"]
    assert len(sharing.groups(cells)) == 1
    assert len(sharing.wanted([cell.recipe for cell in cells], Shared())) == 1
