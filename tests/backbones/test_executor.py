"""The executor: the same bits whatever is beside an image, and the same numbers as eager torch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from freezeframe.backbones import executor, unfreeze, zoo
from freezeframe.backbones.cut import Cut, cut
from freezeframe.errors import FreezeframeError


def divide(name: str, spec: object, size: tuple[int, int] = (64, 64)) -> Cut:
    network = zoo.build(name, 2, "none", announce=False)
    return cut(network, unfreeze.resolve(spec, network), size)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def divided() -> Cut:
    return divide("resnet18", {"layers": 4})


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(11, 3, 64, 64)).astype(np.float32)


@pytest.mark.parametrize("kind", ["onnxruntime", "torch"])
def test_an_activation_does_not_depend_on_the_batch_or_the_images_beside_it(
    divided: Cut, images: np.ndarray, kind: str
) -> None:
    runner = executor.make(divided, kind=kind, batch=4)  # type: ignore[arg-type]
    together = runner.run(images)
    assert together.shape == (11, divided.size)
    assert together.dtype == np.float32
    order = np.random.default_rng(1).permutation(11)
    assert np.array_equal(runner.run(images[order]), together[order])
    assert all(np.array_equal(runner.run(images[i : i + 1])[0], together[i]) for i in range(11))


@pytest.mark.parametrize("kind", ["onnxruntime", "torch"])
@pytest.mark.parametrize(
    ("name", "spec"),
    [("efficientnet-lite0", {"blocks": 1}), ("mobilenet-v3", "head"), ("resnet18", {"layers": 4})],
)
def test_it_agrees_with_eager_torch(name: str, spec: object, kind: str, images: np.ndarray) -> None:
    runner = executor.make(divide(name, spec), kind=kind, batch=4)  # type: ignore[arg-type]
    assert runner.error(images[:4]) < 1e-4
    assert runner.check(images[:4]) is runner


def test_split_gives_back_the_tensors_of_the_prefix(divided: Cut, images: np.ndarray) -> None:
    parts = divided.split(torch.from_numpy(executor.make(divided, kind="torch").run(images[:2])))
    assert divided.prefix is not None
    with torch.no_grad():
        expected = divided.prefix(torch.from_numpy(images[:2]))
    assert all(
        torch.allclose(one, other, rtol=1e-4, atol=1e-4) for one, other in zip(parts, expected, strict=True)
    )


def test_without_a_frozen_part_the_images_pass_through(images: np.ndarray) -> None:
    assert np.array_equal(executor.make(divide("resnet18", "all")).run(images), images.reshape(11, -1))


def test_an_export_is_kept_and_used_again(divided: Cut, images: np.ndarray, tmp_path: Path) -> None:
    first = executor.make(divided, kind="onnxruntime", cache=tmp_path).run(images)
    (kept,) = tmp_path.iterdir()
    time = kept.stat().st_mtime_ns
    assert np.array_equal(executor.make(divided, kind="onnxruntime", cache=tmp_path).run(images), first)
    assert kept.stat().st_mtime_ns == time


def test_a_prefix_that_cannot_be_exported_runs_in_torch_and_says_so(
    capfd: pytest.CaptureFixture[str],
) -> None:
    alexnet = divide(
        "alexnet", {"blocks": 1}
    )  # pooled from 1 x 1 to 6 x 6 at this size, which ONNX has no word for
    runner = executor.make(alexnet)
    shown = capfd.readouterr()
    assert runner.name.startswith("torch-")
    assert "runs in torch instead" in shown.err
    assert "graph(" not in shown.out + shown.err
    with pytest.raises(FreezeframeError, match="executor: torch"):
        executor.make(alexnet, kind="onnxruntime")


def test_an_executor_that_is_not_exact_enough_gives_way(
    divided: Cut, images: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    runner = executor.make(divided, kind="onnxruntime", batch=4)
    wrong = replace(runner, compute=lambda batch: [tensor * 1.01 for tensor in runner.compute(batch)])
    assert wrong.check(images[:2]).name.startswith("torch-")
    assert "is used instead" in capsys.readouterr().err


def test_weights_that_are_not_finite_are_refused(images: np.ndarray) -> None:
    network = zoo.build("resnet18", 2, "none", announce=False)
    divided = cut(network, unfreeze.resolve("head", network), (64, 64))
    network.module.get_parameter("conv1.weight").data[0] = float("nan")
    with pytest.raises(FreezeframeError, match="not finite"):
        executor.make(divided, kind="torch").check(images[:2])
