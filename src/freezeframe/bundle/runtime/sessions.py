"""What computes a member's graph: ONNX Runtime, or OpenVINO where it is asked for."""

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

import numpy as np

from freezeframe import machine
from freezeframe.errors import FreezeframeError, UserError, did_you_mean

Engine = Literal["onnxruntime", "openvino"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
BATCH = 16
"""Images that are computed at once where there are several."""

_Compute = Callable[[np.ndarray, tuple[str, ...]], list[np.ndarray]]


@dataclass(frozen=True, eq=False)
class Session:
    """A graph that is ready to run.

    Attributes
    ----------
    engine : str
        What computes it, with its version.
    outputs : tuple of str
        Names of what it can give.
    compute : callable
        From (1 or `BATCH`, ...) float32 and names of outputs to the outputs, each (1 or `BATCH`, ...) float32.
    many : callable
        The same for several batches, in order.
    """

    engine: str
    outputs: tuple[str, ...]
    compute: _Compute
    many: Callable[[list[np.ndarray], tuple[str, ...]], Iterator[list[np.ndarray]]]

    def run(self, images: np.ndarray, outputs: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Compute the outputs that are asked for, and what they need.

        Several images go through in batches of one fixed size, of which the last is filled up, so that an answer
        does not depend on the images beside it. One image alone does not wait for 15 that are not there; its answer
        may differ from the one in a batch by the rounding of the last layer's sums (some 1e-7).

        Parameters
        ----------
        images : ndarray of float32 (N, ...)
            The graph's one input: (N, 3, H, W) normalised images, or (N, K, h, w) for a heat graph.
        outputs : tuple of str
            Some of the session's.

        Returns
        -------
        dict of str to ndarray of float32 (N, ...)
            By the names of the outputs.

        Raises
        ------
        FreezeframeError
            If the graph has no such output, or does not take such images.
        """
        if unknown := set(outputs) - set(self.outputs):
            raise FreezeframeError(
                f"The graph gives {', '.join(self.outputs)}, not {', '.join(sorted(unknown))}."
            )
        images = np.ascontiguousarray(images, np.float32)
        try:
            alone = len(images) == 1
            parts = [self.compute(images, outputs)] if alone else [*self.many(_batches(images), outputs)]
        except Exception as error:  # the engines raise kinds of their own
            raise FreezeframeError(
                f"{self.engine} can't compute the graph for images of shape {images.shape[1:]}: {error}"
            ) from error
        return {
            name: np.concatenate([part[place] for part in parts])[: len(images)]
            for place, name in enumerate(outputs)
        }


def _batches(images: np.ndarray) -> list[np.ndarray]:
    # No image at all is a batch as well, so that the outputs have their shapes.
    batches = [images[start : start + BATCH] for start in range(0, max(len(images), 1), BATCH)]
    if missing := BATCH - len(batches[-1]):
        empty = np.zeros((missing, *images.shape[1:]), np.float32)
        batches[-1] = np.concatenate([batches[-1], empty])
    return batches


def open_session(model: bytes, engine: Engine = "onnxruntime", threads: int | None = None) -> Session:
    """Load a graph into an engine.

    Parameters
    ----------
    model : bytes
        ONNX, with its weights inside; one input, float32, whose first axis is the images.
    engine : str
        ``"onnxruntime"`` or ``"openvino"``. OpenVINO computes in float32 as well (on processors with bfloat16 it
        would not by itself), one image for the shortest time and several for the most images a second.
    threads : int, optional
        All cores that this process may use where left out.

    Raises
    ------
    UserError
        If there is no such engine, or its package is not installed.
    FreezeframeError
        If the engine can't read the graph.
    """
    if engine not in ENGINES:
        raise UserError(f"'{engine}' is no engine;", action=did_you_mean(engine, ENGINES))
    threads = threads or machine.available_cores()
    runtime = import_engine(engine)
    try:
        if engine == "onnxruntime":
            return _onnxruntime(runtime, model, threads)
        return _openvino(runtime, model, threads)
    except Exception as error:  # the engines raise kinds of their own
        raise FreezeframeError(f"{engine} can't read the graph: {error}") from error


def import_engine(engine: Engine) -> Any:
    """Import an engine's package; OpenVINO without what would report its use over the network.

    Raises
    ------
    UserError
        If it is not installed.
    """
    if engine == "openvino":
        # OpenVINO sends word of every import unless this package is missing; None makes it missing.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return importlib.import_module(engine)
    except ImportError as error:
        extra = "node" if engine == "onnxruntime" else "openvino"
        raise UserError(
            f"The engine {engine} is not installed.",
            "its package.",
            f"pip install 'freezeframe[{extra}]'",
        ) from error


def _onnxruntime(runtime: Any, model: bytes, threads: int) -> Session:
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # As fast on an idle machine, and a quarter faster on a busy one (docs/benchmarks.md).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    run_options = runtime.RunOptions()
    run_options.only_execute_path_to_fetches = True

    def compute(images: np.ndarray, outputs: tuple[str, ...]) -> list[np.ndarray]:
        return [np.asarray(found) for found in session.run(outputs, {entry.name: images}, run_options)]

    def many(batches: list[np.ndarray], outputs: tuple[str, ...]) -> Iterator[list[np.ndarray]]:
        return (compute(batch, outputs) for batch in batches)

    names = tuple(output.name for output in session.get_outputs())
    return Session(f"onnxruntime-{runtime.__version__}", names, compute, many)


def _openvino(runtime: Any, model: bytes, threads: int) -> Session:
    core = runtime.Core()
    whole = core.read_model(model)
    (entry,) = whole.inputs
    shape = entry.partial_shape

    @cache
    def requests(batch: int, outputs: tuple[str, ...]) -> list[Any]:
        # Only what is asked for is part of the graph; a fixed batch lets the compiler choose its kernels for it.
        part = runtime.Model([whole.output(name) for name in outputs], whole.get_parameters()).clone()
        part.reshape([batch, *list(shape)[1:]])
        hint = "LATENCY" if batch == 1 else "THROUGHPUT"
        settings = {
            "PERFORMANCE_HINT": hint,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        compiled = core.compile_model(part, "CPU", settings)
        count = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        return [compiled.create_infer_request() for _ in range(count)]

    def finished(request: Any, outputs: tuple[str, ...]) -> list[np.ndarray]:
        request.wait()
        return [np.array(request.get_output_tensor(place).data) for place in range(len(outputs))]

    def many(batches: list[np.ndarray], outputs: tuple[str, ...]) -> Iterator[list[np.ndarray]]:
        # Several batches at once, each on some of the cores: what the hint for throughput is about. OpenVINO's own
        # queue calls back into Python, and was seen to wait for ever when it is taken down while it does.
        ring = requests(len(batches[0]), outputs)
        for place, batch in enumerate(batches):
            if place >= len(ring):
                yield finished(ring[place % len(ring)], outputs)
            ring[place % len(ring)].start_async({0: batch})
        for place in range(max(0, len(batches) - len(ring)), len(batches)):
            yield finished(ring[place % len(ring)], outputs)

    def compute(images: np.ndarray, outputs: tuple[str, ...]) -> list[np.ndarray]:
        return next(many([images], outputs))

    names = tuple(output.any_name for output in whole.outputs)
    return Session(f"openvino-{runtime.__version__.partition('-')[0]}", names, compute, many)
