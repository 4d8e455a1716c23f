"""An ensemble in several variants, through the verb and the command line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from freezeframe.bundle.runtime.folder import open_bundle
from freezeframe.cli.main import app
from freezeframe.errors import UserError
from freezeframe.verbs.evaluate import evaluate
from freezeframe.verbs.optimise import optimise
from freezeframe.verbs.report import report


@pytest.fixture(scope="module")
def made(trained_ensemble: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("variants") / "all"
    return optimise(trained_ensemble, out, ["int8"], limit=0.5, licence="CC0-1.0", screening=False)


def test_each_variant_is_a_bundle_of_the_same_ensemble(made: Path) -> None:
    bundles = {name: open_bundle(made.parent / name) for name in ("float32", "int8")}
    assert [bundles[name].contents.members[0].kind for name in bundles] == ["float32", "int8"]
    assert bundles["int8"].contents.operating_points == bundles["float32"].contents.operating_points
    assert {bundle.contents.licence for bundle in bundles.values()} == {"CC0-1.0"}


def test_the_cards_of_an_int8_bundle_say_what_it_loses_in_both_languages(made: Path) -> None:
    assert "in int8: on" in (made.parent / "int8" / "card.md").read_text()
    assert "en int8: en" in (made.parent / "int8" / "card.es.md").read_text()
    assert "int8" not in (made.parent / "float32" / "card.md").read_text()


def test_an_unknown_variant_is_refused_with_the_nearest(trained_ensemble: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'int8'"):
        optimise(trained_ensemble, tmp_path / "out", ["int9"])
    assert not (tmp_path / "out").exists()


def test_a_report_shows_variants_of_its_networks_that_lie_beside(made: Path, trained_ensemble: Path) -> None:
    evaluation = evaluate(trained_ensemble, made.parent.parent / "evaluation", bootstrap=100)
    rows = json.loads(made.read_text())["variants"]
    english = report(evaluation, heat=False).read_text()
    assert "Smaller and faster variants" in english
    assert f"{rows[1]['images_per_second']:.0f}" in english.split('<section id="variants">')[1]
    spanish = report(evaluation, lang="es", heat=False, variants=made.parent).read_text()
    assert "Variantes más pequeñas y rápidas" in spanish
    assert (evaluation / "report_files" / "tables" / "variants.csv").is_file()


def test_a_report_without_variants_has_no_such_section(trained_ensemble: Path, tmp_path: Path) -> None:
    evaluation = evaluate(trained_ensemble, tmp_path / "evaluation", bootstrap=100)
    assert "Smaller and faster" not in report(evaluation, heat=False).read_text()


def test_variants_of_other_networks_are_not_shown(made: Path, trained_ensemble: Path, tmp_path: Path) -> None:
    evaluation = evaluate(trained_ensemble, tmp_path / "evaluation", bootstrap=100)
    other = tmp_path / "other"
    other.mkdir()
    content = json.loads(made.read_text()) | {"members": {"stranger": "0" * 64}}
    (other / "optimise.json").write_text(json.dumps(content))
    assert "Smaller and faster" not in report(evaluation, heat=False).read_text()
    with pytest.raises(UserError, match="about other networks"):
        report(evaluation, heat=False, variants=other)


def test_the_command_prints_the_table(trained_ensemble: Path, tmp_path: Path) -> None:
    found = CliRunner().invoke(
        app,
        ["export", str(trained_ensemble), "--out", str(tmp_path / "out"), "--optimise", "--variants", "float32",
         "--no-screening"],
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    assert "| float32 |" in found.output
    assert json.loads((tmp_path / "out" / "optimise.json").read_text())["images"]["test"] > 0


@pytest.mark.slow
def test_an_ensemble_is_distilled_and_pruned_and_each_is_measured(
    trained_ensemble: Path, tmp_path: Path
) -> None:
    table = optimise(
        trained_ensemble,
        tmp_path,
        ["distilled", "distilled-int8", "pruned"],
        epochs=1,
        limit=0.5,
        screening=False,
    )
    content = json.loads(table.read_text())
    done = [row["variant"] for row in content["variants"]] + list(content["not_made"])
    assert sorted(done) == ["distilled", "distilled-int8", "float32", "pruned"]
    assert {"distilled", "distilled-int8"} <= {row["variant"] for row in content["variants"]}
    sizes = {row["variant"]: row["graph_bytes"] for row in content["variants"]}
    assert sizes["distilled"] < sizes["float32"]
