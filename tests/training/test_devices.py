"""One training in several processes: the same as in one, and it ends and goes on as one does."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.nn import functional as F

from freezeframe.errors import UserError
from freezeframe.recipe import Recipe
from freezeframe.training.devices import Team, share_of
from freezeframe.training.fit import train
from freezeframe.training.shares import AsWhole, Share


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "best.safetensors")


def predictions(run: Path) -> np.ndarray:
    table = pd.read_parquet(run / "predictions" / "test.parquet")
    return table.filter(like="logit_").to_numpy()


def assert_close(run: Path, other: Path) -> None:
    """Hold two runs against each other: equal up to the rounding of sums, and the same best epoch."""
    one, two = weights(run), weights(other)
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-5, atol=1e-5)
    curves, others = (pd.read_csv(path / "metrics.csv") for path in (run, other))
    for column in ("train_loss", "validation_loss"):
        np.testing.assert_allclose(curves[column], others[column], rtol=1e-5)
    best, other_best = (int(table["validation_loss"].to_numpy().argmin()) for table in (curves, others))
    assert best == other_best
    np.testing.assert_allclose(predictions(run), predictions(other), atol=1e-4)


@given(
    images=st.integers(1, 60),
    count=st.integers(1, 5),
    size=st.integers(1, 20),
)
def test_shares_of_each_part_of_a_batch_are_all_of_it_once(images, count, size):
    whole = list(range(images))
    for start in range(0, images, size):
        stop = min(start + size, images)
        own = [
            share.of(whole)[share.rows(start, stop)]
            for share in (Share(rank, count) for rank in range(count))
        ]
        assert sorted(image for images_of_one in own for image in images_of_one) == whole[start:stop]
        for rank, images_of_one in enumerate(own):
            assert whole[start:stop][Share(rank, count).within(start, stop)] == images_of_one


@pytest.mark.parametrize("shape", [(7, 5), (7, 4, 3, 3)])
def test_dropout_of_a_share_is_the_share_of_the_dropout(shape):
    layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    inputs = torch.randn(shape).contiguous(memory_format=layout)
    torch.manual_seed(3)
    whole = F.dropout(inputs, 0.4)
    for rank in range(3):
        own = Share(rank, 3).within(0, 7)
        torch.manual_seed(3)
        with AsWhole(7, own):
            assert torch.equal(F.dropout(inputs[own].contiguous(memory_format=layout), 0.4), whole[own])


def test_stochastic_depth_of_a_share_is_the_share_of_the_stochastic_depth():
    from timm.layers.drop import drop_path

    inputs = torch.randn(6, 2, 3, 3)
    torch.manual_seed(3)
    whole = drop_path(inputs, 0.5, training=True)
    own = Share(1, 2).within(0, 6)
    torch.manual_seed(3)
    with AsWhole(6, own):
        assert torch.equal(drop_path(inputs[own], 0.5, training=True), whole[own])


def test_inference_in_a_share_draws_nothing_and_keeps_the_statistics():
    norm = torch.nn.BatchNorm2d(3).eval()
    inputs = torch.randn(2, 3, 4, 4)
    before = torch.get_rng_state()
    with AsWhole(5, slice(0, 2)):
        assert torch.equal(norm(F.dropout(inputs, 0.5, training=False)), norm(inputs))
    assert torch.equal(torch.get_rng_state(), before)


def test_batch_norm_of_a_single_value_is_refused_as_in_one_process():
    norm = torch.nn.BatchNorm2d(3)
    with AsWhole(1, slice(0, 1)), pytest.raises(ValueError, match="more than 1 value per channel"):
        norm(torch.randn(1, 3, 1, 1))


def test_a_strategy_that_divides_the_network_is_refused(recipe):
    with pytest.raises(UserError, match="strategy: fsdp"):
        share_of(recipe.changed(devices=2, strategy="fsdp"))


def test_a_batch_smaller_than_the_devices_is_refused(recipe):
    with pytest.raises(UserError, match="at least one image for each device"):
        share_of(recipe.changed(devices=4, batch_size=3))


def test_several_machines_without_an_address_are_refused(recipe, monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="MASTER_ADDR, MASTER_PORT, NODE_RANK is not set"):
        share_of(recipe.changed(num_nodes=2))


def test_a_process_knows_its_place_by_the_machine_and_its_number_there(recipe, monkeypatch):
    for name, value in {
        "MASTER_ADDR": "host",
        "MASTER_PORT": "1",
        "NODE_RANK": "1",
        "LOCAL_RANK": "1",
    }.items():
        monkeypatch.setenv(name, value)
    assert share_of(recipe.changed(devices=2, num_nodes=2)) == Share(3, 4)


def test_a_training_in_one_process_starts_no_others(recipe, tmp_path):
    others = set(psutil.Process().children())
    with Team(recipe, tmp_path) as team:
        team.start()
        assert team.share == Share(0, 1)
        assert set(psutil.Process().children()) <= others


@pytest.fixture(scope="module")
def small(recipe) -> Recipe:
    """Batches that two processes can't halve, in parts of which some have one image; with BatchNorm and dropout."""
    return recipe.changed(threads=1, optimiser="sgd", batch_size=9, accumulate=4, clip_gradient=1.0)


@pytest.mark.slow
def test_two_processes_train_what_one_does(small, tmp_path):
    one = train(small, tmp_path / "one")
    before, others = dict(os.environ), set(psutil.Process().children())
    two = train(small.changed(devices=2), tmp_path / "two")
    assert_close(one, two)
    assert dict(os.environ) == before
    assert set(psutil.Process().children()) <= others


@pytest.mark.slow
def test_two_processes_train_what_one_does_when_more_trains_from_epoch_to_epoch(small, tmp_path):
    changed = small.changed(
        unfreeze=[{"blocks": 1}, {"epoch": 1, "blocks": 2}],
        accumulate=1,
        imbalance="mixup",
        schedule="plateau",
        label_smoothing=0.1,
        patience=1,
    )
    assert_close(train(changed, tmp_path / "one"), train(changed.changed(devices=2), tmp_path / "two"))


def command(recipe: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "freezeframe", "train", str(recipe), "--out", str(out)]


@pytest.mark.slow
def test_a_training_of_two_processes_that_is_killed_leaves_none_behind_and_goes_on_to_the_same_bits(
    small, tmp_path
):
    whole = small.changed(devices=2, epochs=6, checkpoint_seconds=0.01)
    whole.write(tmp_path / "recipe.yaml")
    unbroken = train(whole, tmp_path / "unbroken")

    out = tmp_path / "broken"
    process = subprocess.Popen(command(tmp_path / "recipe.yaml", out), start_new_session=True)
    checkpoint = out / "checkpoints" / "last.safetensors"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    others = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert others
    _, alive = psutil.wait_procs(others, timeout=20)
    assert not alive
    assert not (out / "predictions").exists()

    subprocess.run(command(tmp_path / "recipe.yaml", out), check=True, timeout=180)
    one, two = weights(unbroken), weights(out)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert np.array_equal(predictions(unbroken), predictions(out))


@pytest.mark.slow
def test_a_process_that_dies_ends_the_training_with_a_message_and_without_loss(small, tmp_path):
    small.changed(devices=2, epochs=200, patience=None, checkpoint_seconds=0.01).write(
        tmp_path / "recipe.yaml"
    )
    out = tmp_path / "run"
    process = subprocess.Popen(command(tmp_path / "recipe.yaml", out), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (out / "checkpoints" / "last.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    (other,) = [
        child
        for child in psutil.Process(process.pid).children()
        if "freezeframe.training.devices" in child.cmdline()
    ]
    other.kill()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "A process of the training ended with code -9" in said
    assert (out / "checkpoints" / "last.safetensors").exists()
