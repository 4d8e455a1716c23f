"""Training end to end on real radiographs: equal either way it is computed, and at every place it is killed."""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from freezeframe.backbones import zoo
from freezeframe.data.manifest import Manifest
from freezeframe.errors import UserError
from freezeframe.recipe import Recipe
from freezeframe.training.fit import train
from freezeframe.training.module import SuffixTraining
from freezeframe.training.predict import predict_manifest

CURVES = [
    "epoch",
    "train_loss",
    "validation_loss",
    "validation_accuracy",
    "validation_roc_auc",
    "learning_rate",
]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / "best.safetensors")


def curves(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "metrics.csv")[CURVES]


def assert_same_bits(run: Path, other: Path) -> None:
    one, two = weights(run), weights(other)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    pd.testing.assert_frame_equal(curves(run), curves(other), check_exact=True)
    for split in ("validation", "test"):
        path = Path("predictions") / f"{split}.parquet"
        pd.testing.assert_frame_equal(
            pd.read_parquet(run / path), pd.read_parquet(other / path), check_exact=True
        )


@pytest.fixture(scope="module")
def unbroken(recipe, tmp_path_factory) -> Path:
    return train(recipe, tmp_path_factory.mktemp("runs") / "unbroken")


def test_a_run_folder_holds_all_that_it_takes_to_redo_it(unbroken):
    expected = {"recipe.yaml", "manifest.parquet", "environment.json", "metrics.csv", "run.json"}
    assert expected <= {path.name for path in unbroken.iterdir()}
    assert list((unbroken / "tensorboard").glob("events.*"))
    status = json.loads((unbroken / "run.json").read_text())
    assert status["status"] == "finished"
    assert status["epochs"] == 3
    assert 0 < status["parameters"]["trainable"] < status["parameters"]["total"]
    test = pd.read_parquet(unbroken / "predictions" / "test.parquet")
    manifest = Manifest.read(unbroken / "manifest.parquet")
    assert list(test["image"]) == list(manifest.subset("test").table["image"])
    assert np.isfinite(test[["logit_NORMAL", "logit_PNEUMONIA"]].to_numpy()).all()


def test_nobody_needs_pickle_to_read_a_run(unbroken):
    names = {
        path.suffix for path in unbroken.rglob("*") if path.is_file() and "tensorboard" not in path.parts
    }
    assert names <= {".yaml", ".parquet", ".json", ".csv", ".safetensors", ""}


def test_the_same_recipe_gives_the_same_bits(unbroken, recipe, tmp_path):
    assert_same_bits(unbroken, train(recipe, tmp_path / "again"))


def test_live_and_stored_training_are_the_same(unbroken, recipe, tmp_path):
    live = train(recipe.changed(activations="live"), tmp_path / "live")
    assert json.loads((live / "run.json").read_text())["activations"]["mode"] == "live"
    assert json.loads((unbroken / "run.json").read_text())["activations"]["mode"] == "store"
    assert_same_bits(unbroken, live)


def test_what_is_frozen_does_not_move_and_what_trains_does(unbroken, recipe):
    before = zoo.build(recipe.backbone, 2, dropout=recipe.dropout, seed=recipe.seed).module.state_dict()
    after = weights(unbroken)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    frozen = {
        name for name in before if name.startswith(("conv_stem", "bn1", *(f"blocks.{n}." for n in range(6))))
    }
    assert not moved & frozen
    assert {name.split(".")[0] for name in moved} == {"blocks", "conv_head", "bn2", "classifier"}


@pytest.mark.parametrize("mode", ["store", "live"])
def test_a_run_killed_again_and_again_ends_with_the_same_bits(unbroken, recipe, tmp_path, mode):
    recipe.changed(activations=mode, checkpoint_seconds=0.05).write(tmp_path / "recipe.yaml")
    run = tmp_path / "run"
    command = [sys.executable, "-m", "freezeframe", "train", str(tmp_path / "recipe.yaml"), "--out", str(run)]
    log = tmp_path / "log.txt"
    random = np.random.default_rng(0)
    seen: set[tuple[int, ...]] = set()
    for _ in range(3):
        with log.open("ab") as handle:
            process = subprocess.Popen(command, stdout=handle, stderr=handle)
        last = run / "checkpoints" / "last.safetensors"
        before = last.stat().st_mtime_ns if last.exists() else 0
        deadline = time.monotonic() + 90
        # Wait until it has made some progress of its own, so that the test ends, then kill it at any moment.
        while process.poll() is None and time.monotonic() < deadline:
            if last.exists() and last.stat().st_mtime_ns != before:
                time.sleep(random.uniform(0, 0.5))
                break
            time.sleep(0.01)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        seen.add(tuple(json.loads(_metadata(last))["clock"]))
    assert len(seen) > 1, log.read_text()
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert_same_bits(unbroken, run)
    seconds = json.loads((run / "run.json").read_text())["seconds"]
    assert seconds["total"] >= seconds["training"] > 0, "what was trained before the kills counts"


def _metadata(path: Path) -> str:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as handle:
        return handle.metadata()["freezeframe"]


def test_a_fresh_machine_goes_on_from_the_mirror_alone(recipe, tmp_path):
    mirrored = recipe.changed(mirror=str(tmp_path / "mirror"), checkpoint_seconds=0.01, schedule="constant")
    first = train(mirrored.changed(epochs=1), tmp_path / "first" / "run")
    shutil.rmtree(first)
    resumed = train(mirrored, tmp_path / "second" / "run")
    assert_same_bits(resumed, train(recipe.changed(schedule="constant"), tmp_path / "unbroken"))


def test_a_finished_run_is_extended_and_equals_one_that_was_long_from_the_start(recipe, tmp_path):
    constant = recipe.changed(schedule="constant", epochs=2)
    run = train(constant, tmp_path / "extended")
    train(constant.changed(epochs=4), run)
    assert_same_bits(run, train(constant.changed(epochs=4), tmp_path / "long"))


def test_another_recipe_in_the_same_folder_is_refused_and_named(unbroken, recipe):
    with pytest.raises(UserError, match=r"learning_rate: 0\.001 there, 0\.1 now"):
        train(recipe.changed(learning_rate=0.1), unbroken)


def test_a_checkpoint_of_another_network_is_refused(unbroken, recipe, tmp_path):
    other = recipe.changed(unfreeze="head", epochs=1)
    run = train(other, tmp_path / "run")
    shutil.copy(unbroken / "checkpoints" / "last.safetensors", run / "checkpoints")
    with pytest.raises(UserError, match="another network"):
        train(other.changed(epochs=2), run)


def test_a_broken_checkpoint_is_named(recipe, tmp_path):
    other = recipe.changed(unfreeze="head", epochs=1)
    run = train(other, tmp_path / "run")
    (run / "checkpoints" / "last.safetensors").write_bytes(b"half a file")
    with pytest.raises(UserError, match=r"last\.safetensors is not a checkpoint"):
        train(other.changed(epochs=2), run)


HOLDER = """
import sys
from pathlib import Path
from freezeframe.files import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_in_the_same_folder_is_refused(recipe, tmp_path):
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            HOLDER,
            str(tmp_path / ".lock"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(UserError, match="Another process is training"):
        train(recipe, tmp_path)
    holder.communicate()


def test_out_of_memory_halves_the_batch_and_trains_the_same(recipe, tmp_path, monkeypatch, capsys):
    # Head only, where no BatchNorm sees the smaller parts.
    head = recipe.changed(unfreeze="head", dropout=0.0)
    whole = train(head, tmp_path / "whole")
    forward = SuffixTraining.forward

    def small_memory(self, activations):
        if self.training and len(activations) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, activations)

    monkeypatch.setattr(SuffixTraining, "forward", small_memory)
    halved = train(head, tmp_path / "halved")
    assert "Out of memory: batches of 8 are now computed in 4 parts" in capsys.readouterr().err
    assert np.allclose(curves(whole), curves(halved), atol=1e-5, equal_nan=True)


def test_gradual_unfreezing_leaves_a_block_alone_until_its_epoch(recipe, tmp_path):
    gradual = recipe.changed(unfreeze=[{"blocks": 0}, {"epoch": 2, "blocks": 1}], schedule="constant")
    before = zoo.build(recipe.backbone, 2, dropout=recipe.dropout, seed=recipe.seed).module.state_dict()
    early = train(gradual.changed(epochs=2), tmp_path / "run")
    name = "conv_head.weight"
    assert torch.equal(weights(early)[name], before[name])
    train(gradual, early)
    from freezeframe.training.checkpoints import Checkpoint

    last = Checkpoint.read(early / "checkpoints" / "last.safetensors").under("model/")
    assert not torch.equal(last[name], before[name])


def test_a_schedule_that_freezes_again_is_refused(recipe, tmp_path):
    with pytest.raises(UserError, match="freezes again"):
        train(recipe.changed(unfreeze=[{"blocks": 1}, {"epoch": 2, "blocks": 0}]), tmp_path / "run")


def test_the_plateau_schedule_reaches_the_full_rate_after_the_warm_up(recipe, tmp_path):
    plateau = recipe.changed(unfreeze="head", schedule="plateau", warmup_epochs=1)
    assert curves(train(plateau, tmp_path / "run"))["learning_rate"].tolist()[1:] == [1e-3, 1e-3]


def test_members_of_one_recipe_have_folders_of_their_own_in_the_mirror(recipe, tmp_path):
    mirrored = recipe.changed(unfreeze="head", epochs=1, mirror=str(tmp_path / "mirror"))
    train(mirrored, tmp_path / "one")
    train(mirrored.changed(seed=1), tmp_path / "two")
    best = [
        (tmp_path / "mirror" / name / "checkpoints" / "best.safetensors").read_bytes()
        for name in ("one", "two")
    ]
    assert best[0] != best[1]


def test_a_finished_run_that_lost_its_weights_writes_them_again(recipe, tmp_path):
    run = train(recipe.changed(unfreeze="head", epochs=1), tmp_path / "run")
    best = run / "checkpoints" / "best.safetensors"
    before = best.read_bytes()
    best.unlink()
    train(recipe.changed(unfreeze="head", epochs=1), run)
    assert best.read_bytes() == before


def test_images_that_changed_since_the_run_began_stop_it(recipe, radiographs, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(radiographs, root)
    short = recipe.changed(data=str(root), unfreeze="head", epochs=1)
    run = train(short, tmp_path / "run")
    first, second = sorted((root / "NORMAL").iterdir())[:2]
    shutil.copy(first, second)
    with pytest.raises(UserError, match=f"1 image in .* changed .*{second.name}"):
        train(short.changed(epochs=2), run)


def test_no_validation_images_are_refused_before_training(recipe, tmp_path):
    with pytest.raises(UserError, match="The validation split has no readable image"):
        train(recipe.changed(split={"validation": 0.0, "minimum_images": 1}), tmp_path / "run")


def test_memory_of_one_member_is_let_go_before_the_next(recipe, tmp_path):
    train(recipe.changed(unfreeze="head", epochs=1), tmp_path / "run")
    assert not [one for one in gc.get_objects() if isinstance(one, SuffixTraining)]


def test_ctrl_c_says_how_to_go_on_and_keeps_what_was_done(recipe, tmp_path):
    recipe.changed(checkpoint_seconds=0.05, epochs=500, patience=None).write(tmp_path / "recipe.yaml")
    run = tmp_path / "run"
    command = [sys.executable, "-m", "freezeframe", "train", str(tmp_path / "recipe.yaml"), "--out", str(run)]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has its children ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    last = run / "checkpoints" / "last.safetensors"
    while process.poll() is None and not last.exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "The same command goes on where it was" in errors
    assert json.loads(_metadata(last))["clock"] != [0, 0]


def test_training_stops_early_when_nothing_improves(recipe, tmp_path):
    run = train(recipe.changed(unfreeze="head", epochs=30, learning_rate=2.0, patience=2), tmp_path / "run")
    status = json.loads((run / "run.json").read_text())
    assert status["epochs"] == status["best_epoch"] + 3 < 30
    # Run again, it is finished and stays so.
    assert json.loads((train(Recipe.read(run / "recipe.yaml"), run) / "run.json").read_text()) == status


def test_a_loss_that_is_no_number_is_met_with_advice(recipe, tmp_path):
    with pytest.raises(UserError, match="Lower learning_rate"):
        train(recipe.changed(learning_rate=1e38, optimiser="sgd", unfreeze="head"), tmp_path / "run")


@pytest.mark.parametrize(
    "fields",
    [
        {"unfreeze": "all", "epochs": 1},
        {"augment": "mixup", "unfreeze": "head"},
        {"imbalance": "oversample", "views": 5, "epochs": 2, "unfreeze": "head"},
        {
            "imbalance": "weights",
            "optimiser": "sgd",
            "schedule": "plateau",
            "clip_gradient": 1.0,
            "unfreeze": "head",
        },
        {"imbalance": "focal", "label_smoothing": 0.1, "warmup_epochs": 1, "unfreeze": "head"},
        {"activation_dtype": "float16", "unfreeze": {"layers": 2}, "learning_rate_decay": 0.5},
        {"executor": "torch", "unfreeze": "head"},
        {"activations": "live", "activation_dtype": "float16", "unfreeze": "head", "epochs": 1},
    ],
    ids=lambda fields: "-".join(str(value) for value in fields.values())[:40],
)
def test_recipes_of_all_kinds_train(recipe, tmp_path, fields):
    run = train(recipe.changed(**fields), tmp_path / "run")
    assert np.isfinite(curves(run)["validation_loss"]).all()


def test_a_finished_run_predicts_what_it_predicted(unbroken, recipe):
    manifest = Manifest.read(unbroken / "manifest.parquet").subset("test")
    table, unreadable = predict_manifest(unbroken, manifest)
    stored = pd.read_parquet(unbroken / "predictions" / "test.parquet")
    assert unreadable == []
    pd.testing.assert_frame_equal(table, stored, check_exact=False, atol=1e-5)


def test_unreadable_images_are_listed_and_left_out(recipe, radiographs, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(radiographs, root)
    broken = sorted((root / "NORMAL").iterdir())[3]
    broken.write_bytes(broken.read_bytes()[:500])
    run = train(recipe.changed(data=str(root), unfreeze="head", epochs=1), tmp_path / "run")
    manifest = Manifest.read(run / "manifest.parquet")
    assert broken.name not in "".join(manifest.table["image"])
    assert any(broken.name in note for note in manifest.notes)


def test_two_empty_files_are_left_out_by_name(recipe, radiographs, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(radiographs, root)
    for path in sorted((root / "NORMAL").iterdir())[:2]:
        path.write_bytes(b"")
    run = train(recipe.changed(data=str(root), unfreeze="head", epochs=1), tmp_path / "run")
    assert len(Manifest.read(run / "manifest.parquet")) == 78


def test_too_many_unreadable_images_end_the_job(recipe, radiographs, tmp_path):
    root = tmp_path / "data"
    shutil.copytree(radiographs, root)
    for path in sorted((root / "NORMAL").iterdir())[:10]:
        path.write_bytes(b"\xff\xd8\xff" + os.urandom(50))
    with pytest.raises(UserError, match="max_unreadable"):
        train(recipe.changed(data=str(root)), tmp_path / "run")
