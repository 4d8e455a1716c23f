"""`freezeframe predict`: a bundle's answers for files, whatever happens to the process that writes them."""

import io
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from bundle.making import make_bundle, make_contents
from freezeframe.bundle.runtime import job
from freezeframe.bundle.runtime.folder import open_bundle
from freezeframe.bundle.runtime.predictor import Predictor
from freezeframe.bundle.runtime.preparing import prepare
from freezeframe.cli.main import app
from freezeframe.errors import UserError
from freezeframe.imaging.worker_process import Reference
from freezeframe.verbs.predict import predict


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    """90 images in three folders, of which one is empty and one is no image."""
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for number in range(90):
        path = folder / f"{number % 3}" / f"{number:03d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (40, 36), np.uint8)).save(path)
    (folder / "0/000.png").write_bytes(b"")
    (folder / "2/089.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return folder


def command(bundle: Path, *more: object) -> list[str]:
    return [sys.executable, "-m", "freezeframe", "predict", *map(str, (bundle, *more))]


SMALL_PARTS = """
import sys
from functools import partial
from freezeframe.bundle.runtime import job
job.run = partial(job.run, shard=int(sys.argv.pop(1)))
from freezeframe.cli.main import run
run()
"""


def in_parts_of(size: int, bundle: Path, *more: object) -> list[str]:
    """The same command, with smaller parts."""
    return [sys.executable, "-c", SMALL_PARTS, str(size), "predict", *map(str, (bundle, *more))]


def test_the_answers_are_those_of_the_predictor_in_the_order_of_the_images(bundle, images, tmp_path):
    done = predict(bundle, images, tmp_path / "answers.parquet")
    table = pd.read_parquet(tmp_path / "answers.parquet")
    assert table["image"].tolist() == [str(path) for path in sorted(images.rglob("*.png"))]
    assert (done.summary.images, done.summary.unreadable) == (90, 2)
    predictor = Predictor(open_bundle(bundle))
    good = table[table["error"].isna()].reset_index(drop=True)
    prepared = [prepare(Reference(Path(path), 0), predictor.preprocessings) for path in good["image"]]
    answers = predictor.answer(prepared)
    assert np.array_equal(good[["probability_NORMAL", "probability_PNEUMONIA"]], answers.probabilities)
    assert np.array_equal(good[["calibrated_NORMAL", "calibrated_PNEUMONIA"]], answers.calibrated)
    assert np.array_equal(good["spread"], answers.spread)
    assert good["decision"].tolist() == [("NORMAL", "PNEUMONIA")[index] for index in answers.decisions]


def test_an_unreadable_image_keeps_its_row_and_its_reason(bundle, images, tmp_path):
    done = predict(bundle, images, tmp_path / "answers.csv")
    table = pd.read_csv(tmp_path / "answers.csv")
    assert table["error"].dropna().tolist() == [
        "it is empty (zero bytes).",
        "it is no JPEG, PNG, TIFF, WEBP, BMP or DICOM image.",
    ]
    assert done.summary.examples[0].endswith("0/000.png: it is empty (zero bytes).")


def test_nothing_but_the_results_is_left(bundle, images, tmp_path):
    predict(bundle, images / "1", tmp_path / "answers.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["answers.jsonl"]


def test_a_list_on_standard_input_is_read(bundle, images, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{images / '1/004.png'}\n{images / '1/001.png'}\n"))
    predict(bundle, "-", tmp_path / "answers.csv")
    assert pd.read_csv(tmp_path / "answers.csv")["image"].str[-7:].tolist() == ["004.png", "001.png"]


def test_heat_maps_are_pictures_of_the_prepared_images(bundle, images, tmp_path):
    predict(bundle, images / "0", tmp_path / "answers.csv", heat_maps=tmp_path / "maps")
    names = pd.read_csv(tmp_path / "answers.csv")["heat_map"]
    assert names.count() == len(names) - 1
    assert sorted(names.dropna()) == sorted(
        path.relative_to(tmp_path / "maps").as_posix() for path in (tmp_path / "maps").rglob("*.png")
    )
    with Image.open(tmp_path / "maps" / names.dropna().iloc[0]) as picture:
        assert (picture.size, picture.mode) == ((32, 32), "RGB")
        assert np.ptp(np.asarray(picture).astype(int), axis=2).any()


def test_a_bundle_without_maps_says_so_before_anything_is_read(images, tmp_path):
    members = [
        {key: value for key, value in member.items() if key != "heat"}
        for member in make_contents()["members"]
    ]
    plain = make_bundle(tmp_path / "plain", changes={"members": members})
    with pytest.raises(UserError, match="no heat maps"):
        predict(plain, images, tmp_path / "answers.csv", heat_maps=tmp_path / "maps")
    assert not (tmp_path / "answers.csv.parts").exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"operating_point": "best"}, "no operating point 'best'"),
        ({"lang": "fr"}, "no language 'fr'"),
        ({"engine": "tensorrt"}, "is no engine"),
        ({"workers": 0}, "--workers is 0"),
        ({"public_key": "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"}, "is not signed"),
    ],
)
def test_a_wrong_word_is_refused_and_leaves_nothing(bundle, images, tmp_path, wrong, said):
    with pytest.raises(UserError, match=said):
        predict(bundle, images, tmp_path / "answers.csv", **wrong)
    assert not list(tmp_path.iterdir())


def test_a_table_is_not_overwritten_with_its_own_results(bundle, images, tmp_path):
    (tmp_path / "list.csv").write_text(f"image\n{images / '1/001.png'}\n")
    with pytest.raises(UserError, match="also a table to read"):
        predict(bundle, tmp_path / "list.csv", tmp_path / "list.csv")


def begun(bundle: Path, images: Path, out: Path, monkeypatch) -> None:
    """Begin a job and have it stop after its first part."""
    with monkeypatch.context() as patched:
        patched.setattr(job, "join", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            predict(bundle, images / "1", out)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"paths": "2"}, "the paths"),
        ({"lang": "es"}, "--lang"),
        ({"members": True}, "--members"),
        ({"bundle": True}, "the bundle"),
    ],
)
def test_an_unfinished_job_is_not_mixed_with_another_one(bundle, images, tmp_path, monkeypatch, other, said):
    begun(bundle, images, tmp_path / "answers.csv", monkeypatch)
    wanted = {"bundle": bundle, "paths": images / "1", "out": tmp_path / "answers.csv"}
    if "paths" in other:
        other = {"paths": images / other["paths"]}
    if "bundle" in other:
        other = {"bundle": make_bundle(tmp_path / "other", changes={"name": "other"})}
    with pytest.raises(UserError, match=f"unfinished job for other words: {said} was not the same"):
        predict(**{**wanted, **other})
    predict(**wanted)
    assert len(pd.read_csv(tmp_path / "answers.csv")) == 30


def test_two_processes_do_not_write_one_file(bundle, images, tmp_path):
    from freezeframe import files

    with (
        files.claimed(tmp_path / "answers.csv.parts/lock"),
        pytest.raises(UserError, match="Another process"),
    ):
        predict(bundle, images, tmp_path / "answers.csv")


def test_the_command_says_what_it_found(bundle, images, tmp_path):
    result = CliRunner().invoke(app, ["predict", str(bundle), str(images), "--out", str(tmp_path / "a.csv")])
    assert result.exit_code == 0, result.output
    assert "2 could not be read, such as" in result.output
    assert "90 images:" in result.output
    assert "decided: " in result.output


@pytest.mark.slow
def test_a_job_that_is_killed_three_times_gives_the_same_bytes(bundle, images, tmp_path):
    whole, broken = tmp_path / "whole.csv", tmp_path / "broken.csv"
    subprocess.run(in_parts_of(4, bundle, images, "--out", whole), check=True, capture_output=True)
    generator = random.Random(4)
    parts = tmp_path / "broken.csv.parts"
    finished = 0
    for _ in range(3):
        process = subprocess.Popen(
            in_parts_of(4, bundle, images, "--out", broken), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        wanted = finished + generator.randint(1, 5)
        deadline = time.monotonic() + 120
        while len(list(parts.glob("0*.parquet"))) < wanted and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        before, finished = finished, len(list(parts.glob("0*.parquet")))
        assert before < finished < 23, "it was killed in the middle of the work"
    last = subprocess.run(
        in_parts_of(4, bundle, images, "--out", broken), check=True, capture_output=True, text=True
    )
    assert f"{4 * finished} of 90 images are done already" in last.stderr
    assert broken.read_bytes() == whole.read_bytes()
    assert not parts.exists()
    assert pd.read_csv(broken)["image"].tolist() == [str(path) for path in sorted(images.rglob("*.png"))]


@pytest.mark.slow
def test_a_full_disk_stops_the_job_and_the_same_line_goes_on(bundle, images, tmp_path):
    program = " ".join(f"'{word}'" for word in in_parts_of(8, bundle, images, "--out", "full/answers.csv"))
    # A real small file system, in a mount namespace of its own, with a file that takes most of it.
    script = f"""
    mount -t tmpfs -o size=160k none full
    head -c 90000 /dev/zero > full/ballast
    {program}; echo "code $?"
    ls full/answers.csv.parts | grep -c '^0' > finished
    rm full/ballast
    {program}; echo "code $?"
    cp full/answers.csv answers.csv
    """
    (tmp_path / "full").mkdir()
    result = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert "The disk is full" in result.stderr
    assert [line for line in result.stdout.splitlines() if line.startswith("code")] == ["code 2", "code 0"]
    finished = int((tmp_path / "finished").read_text())
    assert 0 < finished < 12
    assert f"{8 * finished} of 90 images are done already" in result.stderr
    predict(bundle, images, tmp_path / "whole.csv")
    whole, resumed = (pd.read_csv(tmp_path / name) for name in ("whole.csv", "answers.csv"))
    assert whole["image"].tolist() == resumed["image"].tolist()
    assert np.allclose(whole["probability_NORMAL"], resumed["probability_NORMAL"], atol=1e-6, equal_nan=True)
