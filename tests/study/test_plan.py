"""The plan counts what will be computed, and its estimate is of the right size."""

import pytest

from freezeframe import files
from freezeframe.errors import UserError
from freezeframe.study import engine
from freezeframe.study.folder import StudyFolder
from freezeframe.study.plan import make_plan
from freezeframe.study.probe import step_key, steps
from freezeframe.study.spec import Study
from freezeframe.training.shared import Shared


@pytest.fixture(scope="module")
def planned(base, tmp_path_factory):
    root = tmp_path_factory.mktemp("planned")
    study = Study.parse(
        {
            "recipe": {**base, "store": str(root / "store")},
            "axes": {"unfreeze": ["head", {"layers": 2}], "augment": ["none", "flip"]},
            "seeds": 2,
            "baseline": False,
        }
    )
    folder = StudyFolder(root / "study")
    return study, folder, make_plan(study, folder, workers=1)


def test_a_plan_counts_trainings_pictures_and_disk_before_anything_is_trained(planned):
    study, folder, plan = planned
    assert (plan.trainings, plan.done) == (8, 0)
    assert not list(folder.path.glob("runs/*"))
    (group,) = plan.groups
    assert group.trainings == 8
    assert len(group.cuts) == 2
    # 80 originals, and the half of the training images whose second view is flipped.
    assert 80 < plan.prefix_images < 80 + 56
    assert group.images_to_decode == 80
    # Naively every epoch of every training computes the frozen part of every image again.
    assert plan.naive_images > 8 * 2 * 56
    assert plan.store_bytes == plan.prefix_images * 4 * (1280 + 1152 * 2 * 2)
    assert set(plan.cells) == {cell.name for cell in study.cells()}
    assert plan.naive_seconds > 0
    assert files.read_json(folder.path / "plan.json")["trainings"] == 8


def test_what_was_planned_is_what_is_done_and_nothing_is_left_to_plan(planned):
    study, folder, plan = planned
    board = engine.run(study, folder, workers=1)
    assert len(board.finished) == 8
    measured = files.read_json(folder.path / "progress.json")["seconds"]
    # Noisy machines: how near it comes is measured in benchmarks; here, that it is of the right size.
    assert plan.seconds / 8 < measured < 8 * plan.seconds
    again = make_plan(study, folder, workers=1)
    assert (again.done, again.prefix_images, again.store_bytes, again.seconds) == (8, 0, 0, 0.0)


def test_mistakes_in_the_data_are_told_by_the_plan(base, tmp_path):
    study = Study.parse({"recipe": {**base, "data": str(tmp_path / "nowhere")}})
    with pytest.raises(UserError, match="There is no folder or table"):
        make_plan(study, StudyFolder(tmp_path / "study"), workers=1)


def test_a_search_has_no_plan(base, tmp_path):
    search = {"space": {"learning_rate": [0.1, 0.01]}, "trials": 2}
    with pytest.raises(UserError, match="as it goes"):
        make_plan(Study.parse({"recipe": base, "search": search}), StudyFolder(tmp_path), workers=1)


def test_steps_with_adapters_are_timed_by_themselves(base, tmp_path):
    study = Study.parse(
        {
            "recipe": {**base, "unfreeze": {"layers": 2}, "store": str(tmp_path / "store")},
            "axes": {"adapters": [None, {"rank": 4}]},
            "baseline": False,
        }
    )
    plain, adapted = (cell.recipe for cell in study.cells())
    assert step_key(plain) != step_key(adapted)
    parts = Shared().assemble(adapted, 2)
    assert steps(adapted, parts, 2)["step"] > 0
    assert set(parts.network.module.state_dict()) == set(
        Shared().assemble(plain, 2).network.module.state_dict()
    )
