"""A job on Ray: the same rows as on one machine, also when a worker dies."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image

from bundle.making import make_bundle
from freezeframe.errors import UserError
from freezeframe.verbs.predict import predict

PROGRAM = """
import sys
from functools import partial
from freezeframe.bundle.runtime import job
job.run = partial(job.run, shard=4)
from freezeframe.cli.main import run
run()
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small")


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for number in range(50):
        Image.fromarray(generator.integers(0, 256, (40, 36), np.uint8)).save(folder / f"{number:03d}.png")
    (folder / "017.png").write_bytes(b"")
    return folder


def workers_of(driver: subprocess.Popen) -> list[psutil.Process]:
    """Return the processes of Ray that are at a shard."""
    found = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if " ".join(process.cmdline()).startswith("ray::_answer_shard"):
                found.append(process)
    return found


def until(true: Callable[[], object], what: str, seconds: float = 150.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.01)


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_part_s_repetition_and_nothing_comes_twice(bundle, images, tmp_path):
    out, parts = tmp_path / "answers.parquet", tmp_path / "answers.parquet.parts"
    command = [
        sys.executable, "-c", PROGRAM, "predict", str(bundle), str(images), "--out", str(out),
        "--cluster", "local", "--workers", "2", "--heat-maps", str(tmp_path / "maps"),
    ]  # fmt: skip
    driver = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    )  # fmt: skip
    try:
        until(
            lambda: len(list(parts.glob("0*.parquet"))) >= 2 or driver.poll() is not None,
            "two parts are done",
        )
        until(lambda: workers_of(driver), "a worker is at a part")
        workers_of(driver)[0].send_signal(signal.SIGKILL)
        said, _ = driver.communicate(timeout=240)
    finally:
        driver.kill()
    assert driver.returncode == 0, said
    predict(bundle, images, tmp_path / "here.parquet", heat_maps=tmp_path / "maps-here")
    there, here = pd.read_parquet(out), pd.read_parquet(tmp_path / "here.parquet")
    assert there["image"].tolist() == [str(path) for path in sorted(images.iterdir())]
    # The folders of the pictures are the parts', which are of another size here.
    pd.testing.assert_frame_equal(there.drop(columns="heat_map"), here.drop(columns="heat_map"), atol=1e-6)
    named = [tmp_path / "maps" / name for name in there["heat_map"].dropna()]
    assert [path for path in named if not path.is_file()] == []
    assert len(named) == 49


def test_without_a_cluster_the_message_says_what_to_do(bundle, images, tmp_path):
    with pytest.raises(UserError, match=r"no Ray cluster at 127\.0\.0\.1:1 .*ray start --head"):
        predict(bundle, images, tmp_path / "answers.csv", cluster="127.0.0.1:1")
