"""What the commands of a study print."""

import re

import pytest

from freezeframe.cli.study import SHOWN, print_best
from freezeframe.study import results, search
from searches import make_search
from studies import make_study

AXES = {
    "backbone": ("lite0", "lite1"),
    "unfreeze": ("head", "layers 2", "layers 4"),
    "augment": ("none", "flip"),
}


def test_a_study_ends_with_its_best_settings_and_their_test_intervals(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    folder = make_study(tmp_path / "s", AXES, failed=["lite0-head-none-seed0"])
    print_best(folder)
    said = capsys.readouterr().out
    assert "best on validation, of 12 settings" in said
    assert len(re.findall(r"\(0\.\d{3} to \d\.\d{3}\)", said)) == SHOWN
    assert "lite0-head-none-seed0 failed: The loss is not a number." in said


@pytest.mark.parametrize("trials", [3, 24])
def test_a_search_ends_with_its_best_trials_and_the_base_recipe(trials, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    folder = make_search(tmp_path / "s", trials, pruning=False)
    print_best(folder)
    said = capsys.readouterr().out
    best = search.summarise(folder).best
    assert f"best on validation, of {trials} trials" in said
    assert said.count("trial-0000, the base recipe") == 1
    assert len(re.findall(r"^trial-\d{4}.*\d to \d", said, re.MULTILINE)) == min(trials, SHOWN + 1)
    cell = next(cell for cell in results.read(folder).cells if cell.name == best)
    assert f"{best}: unfreeze {cell.values['unfreeze']}, learning_rate {cell.values['learning_rate']}" in said
