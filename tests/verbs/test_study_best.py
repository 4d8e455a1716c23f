import numpy as np
import pytest

from freezeframe.errors import UserError
from freezeframe.recipe import Recipe
from freezeframe.study import results
from freezeframe.verbs.study_best import study_best, study_ensemble
from freezeframe.verbs.study_report import study_report
from studies import make_study


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("studies") / "skin", seeds=(0, 1), n=480)


def validation(study, metric="roc_auc"):
    return {
        name: float(np.mean([cell.scores["validation"][metric] for cell in cells]))
        for name, cells in results.read(study).settings.items()
    }


def test_the_best_is_that_of_the_mean_validation_score_and_its_recipe_is_written(study, tmp_path):
    scores = validation(study)
    best = study_best(study, out=tmp_path / "best.yaml")
    assert best.setting == max(scores, key=scores.__getitem__)
    assert best.validation == best.best_validation == pytest.approx(max(scores.values()))
    assert best.cost is None
    assert Recipe.read(tmp_path / "best.yaml") == best.recipe
    assert best.recipe.unfreeze == {"layers": int(best.values["unfreeze"].split()[1])}


def test_the_cheapest_within_a_tolerance_costs_least_of_those_that_are_good_enough(study):
    scores = validation(study)
    chosen = study_best(study, cheapest_within=1.0)
    assert chosen.values["unfreeze"] == "head"
    assert chosen.cost == 2_562 < chosen.best_cost
    close = study_best(study, cheapest_within=0.05, cost="seconds")
    assert scores[close.setting] >= max(scores.values()) - 0.05
    exact = study_best(study, cheapest_within=0.0)
    assert exact.setting == study_best(study).setting


def test_another_metric_may_choose_also_one_that_is_better_where_it_is_lower(study):
    losses = validation(study, "log_loss")
    assert study_best(study, metric="log_loss").setting == min(losses, key=losses.__getitem__)
    assert study_best(study, metric="log_loss", cheapest_within=10.0).values["unfreeze"] == "head"


def test_the_recipe_of_a_cross_validation_goes_on_with_an_ordinary_split(tmp_path):
    study = make_study(tmp_path / "s", {"unfreeze": ("head",)}, folds=3, extras=False)
    path = study / "runs" / "head-seed0-fold0" / "recipe.yaml"
    recipe = Recipe.read(path)
    recipe.changed(split={"folds": 3, "fold": 0, "validation": 0.25}).write(path)
    split = study_best(study).recipe.split
    assert (split.folds, split.validation) == (None, 0.25)


def test_unknown_metrics_and_costs_and_a_study_without_results_are_refused(study, tmp_path):
    with pytest.raises(UserError, match="roc_auc"):
        study_best(study, metric="rocauc")
    with pytest.raises(UserError, match="seconds"):
        study_best(study, cost="second")  # type: ignore[arg-type]
    new = make_study(tmp_path / "new", {"unfreeze": ("head",)}, waiting=["head-seed0"], extras=False)
    with pytest.raises(UserError, match="freezeframe study run"):
        study_best(new)


def test_the_runs_of_the_best_settings_become_an_ensemble_that_the_report_shows(study):
    folder = study_ensemble(study, top=2)
    assert folder == study / "ensembles" / "top2"
    extra = next(one for one in results.read(study).extras if one.kind == "ensemble")
    scores = validation(study)
    best = sorted(scores, key=scores.__getitem__)[-2:]
    assert {name.rsplit("-seed", 1)[0] for name in extra.details["members"]} == set(best)
    assert len(extra.details["members"]) == 4
    assert "ensemble of 4 networks: mean of probabilities" in study_report(study).read_text()


def test_an_ensemble_of_folds_or_of_more_settings_than_there_are_is_refused(study, tmp_path):
    with pytest.raises(UserError, match="from 1 to 12"):
        study_ensemble(study, top=13)
    folds = make_study(tmp_path / "s", {"unfreeze": ("head",)}, folds=2, extras=False)
    with pytest.raises(UserError, match="cross-validation"):
        study_ensemble(folds, top=1)
