"""`freezeframe export`, from the command line to a bundle."""

import pytest
import typer
from typer.testing import CliRunner

import freezeframe
from freezeframe.bundle.runtime.folder import open_bundle
from freezeframe.bundle.runtime.signature import make_keys
from freezeframe.cli.export import command
from freezeframe.errors import UserError


def test_the_command_exports_a_signed_file_and_says_where_it_is(trained_ensemble, tmp_path, monkeypatch):
    secret, public = make_keys(tmp_path / "keys", "a password")
    monkeypatch.setenv("FREEZEFRAME_KEY_PASSWORD", "a password")
    (tmp_path / "LICENCE").write_text("\nCC0 1.0\n\nAll of it.\n")
    (tmp_path / "use.yaml").write_text("use: A test.\nbody_parts: [CHEST]\n")
    app = typer.Typer()
    app.command()(command)
    out = tmp_path / "lungs.ffb"
    arguments = [
        str(trained_ensemble), "--out", str(out), "--licence", str(tmp_path / "LICENCE"), "--intended",
        str(tmp_path / "use.yaml"), "--specificity", "0.9", "--specificity", "0.95", "--secret-key", str(secret),
        "--no-screening",
    ]  # fmt: skip
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert f"Bundle: {out}" in result.output
    opened = open_bundle(out, public)
    assert opened.contents.name == "lungs"
    assert opened.contents.licence == "CC0 1.0"
    assert opened.read("LICENSE.txt").decode() == "CC0 1.0\n\nAll of it.\n"
    assert opened.contents.intended.body_parts == ("CHEST",)
    names = [point.name for point in opened.contents.operating_points]
    assert names == ["default", "specificity-0.9", "specificity-0.95"]


def test_mistakes_are_refused_before_anything_is_exported(trained_ensemble, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(UserError, match="1 to 64"):
        freezeframe.export(trained_ensemble, out, name="x" * 65)
    with pytest.raises(UserError, match="no file"):
        freezeframe.export(trained_ensemble, out, licence=tmp_path / "missing.txt")
    with pytest.raises(UserError, match="holds neither"):
        freezeframe.export(tmp_path, out)
    with pytest.raises(UserError, match=r"target sensitivity is 1\.5"):
        freezeframe.export(trained_ensemble, out, sensitivity=[1.5])
    (tmp_path / "codes.csv").write_text("label,scheme,value,meaning\nnormal,SCT,17621005,Normal\n")
    with pytest.raises(UserError, match="lacks 'pneumonia'"):
        freezeframe.export(trained_ensemble, out, codes=tmp_path / "codes.csv")
    assert not out.exists()
