"""One forward pass that gives the activations at several cuts of a network.

The prefixes of a study's depths begin alike. Exported, they are graphs of which one is, but for its end, a part of the
next. `merge` joins such graphs and keeps each computation once, by what it is and not by what it is called, so it
knows nothing of architectures. That each activation stays the same to the bit is checked, not assumed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from freezeframe.backbones.executor import ONNXRUNTIME, Executor, exported, session
from freezeframe.progress import say

Run = Callable[[np.ndarray], list[np.ndarray]]


def run_several(executors: Sequence[Executor], sample: np.ndarray, cache: Path | None = None) -> Run:
    """Return a function that computes the activations at several cuts in one pass.

    Where the executors are not all ONNX Runtime's, or the joint pass would not give the same bits, it computes one
    after another.

    Parameters
    ----------
    executors : sequence of Executor
        Of one network with one set of frozen weights, divided at different places.
    sample : np.ndarray
        (N, 3, H, W) float32, normalised: real images on which the joint pass is held against the single ones.
    cache : Path, optional
        Folder of exported prefixes.

    Returns
    -------
    callable
        From (N, 3, H, W) float32 to a list of (N, size) float32, one for each executor, in their order.
    """
    single: Run = lambda images: [executor.run(images) for executor in executors]  # noqa: E731
    if not all(executor.name.startswith(ONNXRUNTIME) for executor in executors):
        return single
    joint = _joint(executors, cache)
    alike = zip(single(sample), joint(sample), strict=True)
    if all(np.array_equal(one, other) for one, other in alike):
        return joint
    say(
        f"{executors[0].cut.model}: one pass for {len(executors)} cuts would round otherwise; each has its own."
    )
    return single


def _joint(executors: Sequence[Executor], cache: Path | None) -> Run:
    runtime = session(merge([exported(executor.cut, cache) for executor in executors]))
    batch = executors[0].batch
    counts = [len(executor.cut.shapes) for executor in executors]
    starts = np.cumsum([0, *counts])

    def run(images: np.ndarray) -> list[np.ndarray]:
        rows = [np.empty((len(images), executor.cut.size), np.float32) for executor in executors]
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            count = len(part)
            if count < batch:
                part = np.concatenate([part, np.zeros((batch - count, *part.shape[1:]), np.float32)])
            tensors = runtime.run(None, {"images": np.ascontiguousarray(part, np.float32)})
            flat = [np.asarray(tensor)[:count].reshape(count, -1) for tensor in tensors]
            for index, whole in enumerate(rows):
                np.concatenate(
                    flat[starts[index] : starts[index + 1]], axis=1, out=whole[start : start + count]
                )
        return rows

    return run


def merge(models: Sequence[bytes]) -> bytes:
    """Join ONNX graphs of one input into one graph with all their outputs, each computation once.

    Parameters
    ----------
    models : sequence of bytes
        Serialised models whose only input is called ``images``.

    Returns
    -------
    bytes
        A model with the outputs of the first, then those of the second, and so on.
    """
    import onnx

    loaded = [onnx.load_from_string(model) for model in models]
    result = onnx.ModelProto()
    result.CopyFrom(loaded[0])
    graph = result.graph
    for part in (graph.node, graph.initializer, graph.output, graph.value_info):
        del part[:]
    known: dict[str, str] = {}
    for index, model in enumerate(loaded):
        names = {"": "", "images": "images"}
        for tensor in model.graph.initializer:
            values = onnx.numpy_helper.to_array(tensor)
            key = f"{tensor.data_type} {values.shape} {hashlib.sha256(values.tobytes()).hexdigest()}"
            if key not in known:
                known[key] = f"{index}/{tensor.name}"
                graph.initializer.add().CopyFrom(tensor)
                graph.initializer[-1].name = known[key]
            names[tensor.name] = known[key]
        for node in model.graph.node:
            inputs = [names[name] for name in node.input]
            attributes = sorted(attribute.SerializeToString() for attribute in node.attribute)
            key = repr((node.domain, node.op_type, inputs, attributes, len(node.output)))
            for position, name in enumerate(node.output):
                names[name] = known.setdefault(f"{position} {key}", f"{index}/{name}")
            if names[node.output[0]] == f"{index}/{node.output[0]}":
                added = graph.node.add()
                added.CopyFrom(node)
                added.name = f"{index}/{node.name}"
                del added.input[:], added.output[:]
                added.input.extend(inputs)
                added.output.extend(names[name] for name in node.output)
        for output in model.graph.output:
            graph.output.add().CopyFrom(output)
            graph.output[-1].name = names[output.name]
    return result.SerializeToString()
