"""How fast networks answer on a CPU, engine by engine, and end to end from files.

    python benchmarks/inference.py ../shared/data/kermany                       # all, about an hour on two cores
    python benchmarks/inference.py --only resnet18 --repeats 2 --leave-out torch.compile
    python benchmarks/inference.py ../shared/data/kermany --only resnet18 --files-only

Random weights: the time is the same. The engines take turns within each repeat, so that a noisy machine is noisy for
all of them; rates are medians over the repeats with their range, latencies medians and 95th percentiles over all calls.
At batch 16 a call has 64 images for the rate and 16 for the latency; OpenVINO spreads batches over the cores and is
not quick with one alone. int8 is ONNX Runtime's plain static quantisation of every layer, for its time only: its
answers are not to be used (see docs/bundle.md for int8 that is held against the score).

End to end, one image at a time in this process (decode, prepare and measure, infer), and many with worker processes
that prepare while the network computes.
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from decode import make_cases
from freezeframe import machine
from freezeframe.backbones import zoo
from freezeframe.bundle.graphs import graph_of
from freezeframe.bundle.runtime.contents import INPUT, LOGITS
from freezeframe.bundle.runtime.preparing import prepare
from freezeframe.bundle.runtime.sessions import BATCH, Engine, Session, open_session
from freezeframe.data.manifest import ImageReference
from freezeframe.imaging.decode import decode
from freezeframe.imaging.preprocess import Preprocessing
from freezeframe.imaging.workers import UnreadableImage, map_images
from freezeframe.seeds import generator

NETWORKS = (
    "resnet18", "resnet50", "densenet121", "xception", "mobilenet-v3", "efficientnet-lite0", "efficientnet-lite1",
    "efficientnet-lite2",
)  # fmt: skip
ENGINES = ("torch eager", "torch.compile", "ONNX Runtime", "OpenVINO", "ONNX Runtime int8")
MANY = 4 * BATCH
Answer = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "kermany", type=Path, nargs="?", help="folder with compact_224 and compact_320_subset"
    )
    parser.add_argument("--only", nargs="*", default=NETWORKS, help="networks")
    parser.add_argument("--leave-out", nargs="*", default=(), choices=ENGINES, help="engines")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--calls", type=int, default=10, help="for a latency, in each repeat")
    parser.add_argument("--files-only", action="store_true", help="only end to end")
    arguments = parser.parse_args()
    print(f"{machine.available_cores()} cores of {platform.machine()}, torch {torch.__version__}\n")
    if not arguments.files_only:
        print(
            "| network | engine | images/s, batch 1 | ms, batch 1 (95 %) | images/s, batch 16 | ms, batch 16 (95 %) "
            f"| largest difference of a logit |\n{7 * '| --- '}|"
        )
        for name in arguments.only:
            networks(name, [entry for entry in ENGINES if entry not in arguments.leave_out], arguments)
    if arguments.kermany:
        print(
            "\n| network | files | decode, ms | prepare and measure, ms | infer, ms | all, ms (95 %) "
            f"| many, images/s |\n{7 * '| --- '}|"
        )
        with tempfile.TemporaryDirectory() as folder:
            cases = list(make_cases(arguments.kermany, Path(folder)))
            for name in arguments.only:
                end_to_end(name, cases, arguments.repeats)


def networks(name: str, engines: list[str], arguments: argparse.Namespace) -> None:
    network = zoo.build(name, 2, "none", announce=False)
    size = network.backbone.input_size
    images = generator(0, "images").normal(size=(MANY, 3, *size)).astype(np.float32)
    answers = dict(zip(engines, make(network, engines, images), strict=True))
    expected = answers[engines[0]](images[:BATCH])
    rates: dict[tuple[str, int], list[float]] = {}
    latencies: dict[tuple[str, int], list[float]] = {}
    for answer in answers.values():  # to compile, and to warm up
        for count in (1, BATCH, MANY):
            answer(images[:count])
    for _ in range(arguments.repeats):
        for engine, answer in answers.items():
            single = [_seconds(answer, images[:1]) for _ in range(arguments.calls)]
            latencies.setdefault((engine, 1), []).extend(single)
            rates.setdefault((engine, 1), []).append(len(single) / sum(single))
            batches = [_seconds(answer, images[:BATCH]) for _ in range(max(1, arguments.calls // 4))]
            latencies.setdefault((engine, BATCH), []).extend(batches)
            rates.setdefault((engine, BATCH), []).append(MANY / _seconds(answer, images))
    for engine, answer in answers.items():
        error = np.abs(answer(images[:BATCH]) - expected).max() / np.abs(expected).max()
        cells = [
            text
            for count in (1, BATCH)
            for text in (_rate(rates[engine, count]), _latency(latencies[engine, count]))
        ]
        print(f"| {name} | {engine} | {' | '.join(cells)} | {error:.0e} |", flush=True)


def make(network: zoo.Network, engines: list[str], images: np.ndarray) -> Iterator[Answer]:
    model = graph_of(network.module, network.head, network.backbone.input_size).model
    for engine in engines:
        if engine.startswith("torch"):
            torch.set_num_threads(machine.available_cores())
            module = network.module.eval()
            # Its parameters are the network's own, so that one copy serves both.
            yield partial(_torch, module if engine == "torch eager" else torch.compile(module, dynamic=False))
        else:
            kind: Engine = "openvino" if engine == "OpenVINO" else "onnxruntime"
            yield partial(
                _engine, open_session(quantised(model, images) if "int8" in engine else model, kind)
            )


def _torch(module: Callable, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        parts = [
            module(torch.from_numpy(images[start : start + BATCH])) for start in range(0, len(images), BATCH)
        ]
        return torch.cat(parts).numpy()


def _engine(session: Session, images: np.ndarray) -> np.ndarray:
    return session.run(images, (LOGITS,))[LOGITS]


class _Calibration(CalibrationDataReader):
    def __init__(self, images: np.ndarray) -> None:
        self.batches = iter([{INPUT: images[:BATCH]}])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def quantised(model: bytes, images: np.ndarray) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        plain, ready, small = (Path(folder) / name for name in ("plain.onnx", "ready.onnx", "small.onnx"))
        plain.write_bytes(model)
        quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
        quantize_static(
            str(ready),
            str(small),
            _Calibration(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return small.read_bytes()


def end_to_end(name: str, cases: list[tuple[str, list[ImageReference]]], repeats: int) -> None:
    network = zoo.build(name, 2, "none", announce=False)
    backbone = network.backbone
    preprocessing = Preprocessing.from_steps(None, backbone.input_size, backbone.mean, backbone.std)
    session = open_session(graph_of(network.module, network.head, backbone.input_size).model)

    def infer(images: list[np.ndarray]) -> None:
        _engine(session, np.concatenate([preprocessing.normalise(image[None]) for image in images]))

    for kind, references in cases:
        stages: list[tuple[float, float, float]] = []
        rates = []
        for repeat in range(repeats + 1):  # the first warms up
            for reference in references[:8]:
                start = time.perf_counter()
                decode(reference.path, reference.frame)
                decoded = time.perf_counter()
                prepared = prepare(reference, (preprocessing,))  # decodes once more
                ready = time.perf_counter()
                infer([prepared.images[0]])
                end = time.perf_counter()
                if repeat:
                    first, second = decoded - start, ready - decoded
                    stages.append((first, max(second - first, 0), end - ready))
            if repeat:
                rates.append(_many(references, preprocessing, infer))
        each = [f"{1000 * statistics.median(values):.1f}" for values in zip(*stages, strict=True)]
        whole = _latency([sum(stage) for stage in stages])
        print(f"| {name} | {kind} | {' | '.join(each)} | {whole} | {_rate(rates)} |", flush=True)


def _many(
    references: list[ImageReference], preprocessing: Preprocessing, infer: Callable[[list[np.ndarray]], None]
) -> float:
    """Return images a second with worker processes, without their start."""
    begun, count, waiting = 0.0, 0, []
    for _, prepared in map_images(
        partial(prepare, preprocessings=(preprocessing,)),
        references * (MANY // len(references) + 1),
        workers=machine.available_cores(),
    ):
        if isinstance(prepared, UnreadableImage):
            raise prepared
        begun = begun or time.perf_counter()
        waiting.append(prepared.images[0])
        if len(waiting) == BATCH:
            infer(waiting)
            count += len(waiting)
            waiting = []
    return count / (time.perf_counter() - begun)


def _seconds(answer: Answer, images: np.ndarray) -> float:
    start = time.perf_counter()
    answer(images)
    return time.perf_counter() - start


def _rate(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _latency(seconds: list[float]) -> str:
    return f"{1000 * statistics.median(seconds):.1f} ({1000 * np.quantile(seconds, 0.95):.1f})"


if __name__ == "__main__":
    main()
