"""A search with real trainings and real worker processes."""

import signal
import time

import pandas as pd
import pytest

from freezeframe import files
from freezeframe.study import engine, search
from freezeframe.study.folder import StudyFolder
from freezeframe.study.results import read
from freezeframe.study.spec import Study
from processes import start_study


def make_study(base: dict, trials: int | None, sampler: str, **space) -> Study:
    return Study.parse(
        {
            "name": "search",
            "recipe": {**base, "epochs": 5, "patience": None},
            "search": {"space": space, "sampler": sampler, "trials": trials},
            # A head that does not learn may rank well by chance, but its loss stays where it began.
            "metric": "log_loss",
        }
    )


@pytest.fixture(scope="module")
def searched(base, tmp_path_factory) -> StudyFolder:
    """Six trials, the last of which can't learn anything, and one worker."""
    rates = [1e-3, 2e-3, 4e-3, 6e-3, 8e-3, 1e-9]
    folder = StudyFolder(tmp_path_factory.mktemp("search"))
    board = engine.run(make_study(base, None, "grid", learning_rate=rates), folder, workers=1)
    assert (len(board.finished), len(board.pruned), len(board.failed), board.left) == (5, 1, 0, 0)
    return folder


def test_a_trial_that_learns_nothing_is_stopped_and_keeps_its_curves(searched):
    history = search.history(searched.path)
    assert history["state"].tolist() == ["finished"] * 5 + ["pruned"]
    assert searched.state("trial-0005") == "pruned"
    # One epoch of five passes before a trial may be stopped.
    assert pd.read_csv(searched.run("trial-0005") / "metrics.csv")["epoch"].tolist() == [0, 1]
    assert files.read_json(searched.run("trial-0005") / "run.json")["epochs"] == 2
    assert not (searched.run("trial-0005") / "predictions").exists()


def test_the_value_of_a_trial_is_the_validation_score_of_its_best_epoch(searched):
    history = search.history(searched.path)
    for trial in range(5):
        run = files.read_json(searched.run(f"trial-{trial:04d}") / "run.json")
        assert history["value"][trial] == pytest.approx(run["best_validation_loss"], rel=1e-4)
    summary = search.summarise(searched.path)
    assert summary.best_value == history["value"].iloc[:5].min()
    assert summary.default == history["value"][0]


def test_a_search_carries_its_baselines_which_are_not_done_again(searched, base):
    results = read(searched.path)
    assert [extra.details["method"] for extra in results.extras] == [
        "linear probe",
        "PCA + logistic regression",
    ]
    assert all(extra.scores["test"]["roc_auc"] > 0.6 for extra in results.extras)
    before = {path: path.stat().st_mtime_ns for path in searched.path.rglob("run.json")}
    board = engine.run(searched.read(), searched, workers=1)
    assert board.left == 0
    assert {path: path.stat().st_mtime_ns for path in searched.path.rglob("run.json")} == before


@pytest.mark.slow
def test_a_search_killed_in_the_middle_ends_with_its_exact_budget_and_trains_nothing_twice(base, tmp_path):
    study = make_study(base, 8, "tpe", learning_rate={"low": 1e-4, "high": 1e-2, "log": True})
    study.write(tmp_path / "search.yaml")
    folder = StudyFolder(tmp_path / "out")
    process = start_study(tmp_path / "search.yaml", folder.path, workers=2)
    end = time.monotonic() + 150
    while len(list(folder.path.glob("runs/*/predictions/validation.parquet"))) < 2:
        assert time.monotonic() < end, "it took too long"
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    begun = files.read_json(folder.path / "trials.json")["trials"]
    assert 2 <= len(begun) < 8
    printed, _ = start_study(tmp_path / "search.yaml", folder.path, workers=2).communicate(timeout=200)
    history = search.history(folder.path)
    assert history["state"].isin(["finished", "pruned"]).all(), printed
    assert history["trial"].tolist() == list(range(8))
    # What was begun before the kill is what it was.
    after = files.read_json(folder.path / "trials.json")["trials"]
    assert [row["point"] for row in after[: len(begun)]] == [row["point"] for row in begun]
    ended = [
        line.partition(": best epoch")[0]
        for log in folder.path.glob("logs/*.log")
        for line in log.read_text().splitlines()
        if "best epoch" in line
    ]
    assert len(ended) == len(set(ended))
