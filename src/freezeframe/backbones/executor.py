"""What computes the frozen prefix: ONNX Runtime or torch, whichever is fastest, with the same bits every time.

An image's activations must not depend on the images beside it, or a stored activation would differ from one computed
live. ONNX Runtime keeps to that for convolutions, eager torch chooses its algorithms by the batch. So every executor
computes in batches of one fixed size and fills the last one up.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from freezeframe import files, machine
from freezeframe.backbones.cut import Cut
from freezeframe.backbones.onnx_export import OPSET, export_module
from freezeframe.backbones.onnx_export import VERSION as EXPORT_VERSION
from freezeframe.errors import FreezeframeError
from freezeframe.progress import say

if TYPE_CHECKING:
    import onnxruntime

ONNXRUNTIME = "onnxruntime"
# Largest error of an activation relative to the largest activation. ONNX Runtime was measured at 2e-7 to 5e-6,
# half precision carries 11 bits.
TOLERANCE = 1e-4
HALF_TOLERANCE = 2e-2


@dataclass(frozen=True)
class Executor:
    """Runs a cut's prefix.

    Attributes
    ----------
    name : str
        What computes, with its version, device and batch: part of a store's key.
    cut : Cut
        Whose prefix it runs.
    batch : int
        Images that are computed at once, always.
    tolerance : float
        Largest relative error against eager torch in float32 that is accepted.
    compute : callable
        From (batch, 3, H, W) float32 to the tensors at the cut, each (batch, ...) float32.
    fallback : callable or None
        Makes the executor to use where this one is not exact enough.
    """

    name: str
    cut: Cut
    batch: int
    tolerance: float
    compute: Callable[[np.ndarray], list[np.ndarray]]
    fallback: Callable[[], Executor] | None = None

    def run(self, images: np.ndarray) -> np.ndarray:
        """Compute the activations at the cut.

        Parameters
        ----------
        images : np.ndarray
            (N, 3, H, W) float32, normalised.

        Returns
        -------
        np.ndarray
            (N, size) float32: the tensors at the cut of each image, flattened, one after the other. An image's row
            is the same to the bit whatever N is and whatever images are beside it.
        """
        rows = np.empty((len(images), self.cut.size), np.float32)
        for start in range(0, len(images), self.batch):
            part = images[start : start + self.batch]
            count = len(part)
            if count < self.batch:
                part = np.concatenate([part, np.zeros((self.batch - count, *part.shape[1:]), np.float32)])
            tensors = self.compute(np.ascontiguousarray(part, np.float32))
            np.concatenate(
                [tensor[:count].reshape(count, -1) for tensor in tensors],
                axis=1,
                out=rows[start : start + count],
            )
        return rows

    def error(self, images: np.ndarray) -> float:
        """Compute the largest error against eager torch in float32, relative to the largest activation.

        Parameters
        ----------
        images : np.ndarray
            (N, 3, H, W) float32; a few are enough.
        """
        if self.cut.prefix is None:
            return 0.0
        prefix = self.cut.prefix.eval()
        device = next(prefix.parameters()).device
        with torch.no_grad():
            expected = prefix(torch.from_numpy(np.ascontiguousarray(images)).to(device))
        ours = self.cut.split(torch.from_numpy(self.run(images)))
        errors = [
            (
                (one - other.cpu()).abs().max()
                / other.abs().max().cpu().clamp_min(torch.finfo(torch.float32).tiny)
            ).item()
            for one, other in zip(ours, expected, strict=True)
        ]
        return max(errors) if all(np.isfinite(errors)) else float("inf")

    def check(self, images: np.ndarray) -> Executor:
        """Return the executor to use: this one if it agrees with eager torch, else a slower one, and say so.

        Parameters
        ----------
        images : np.ndarray
            (N, 3, H, W) float32; a few are enough.

        Raises
        ------
        FreezeframeError
            If none agrees.
        """
        error = self.error(images)
        if error <= self.tolerance:
            return self
        if self.fallback is None:
            raise FreezeframeError(
                f"{self.name} and eager torch disagree about {self.cut.model} by {error:.1e} of the largest activation "
                f"(at most {self.tolerance:.0e} is accepted). Check the weights for values that are not finite."
            )
        other = self.fallback()
        say(f"{self.name} is off by {error:.1e} of the largest activation; {other.name} is used instead.")
        return other.check(images)


def make(
    cut: Cut,
    device: str | torch.device = "cpu",
    kind: Literal["auto", "onnxruntime", "torch"] = "auto",
    batch: int = 16,
    threads: int | None = None,
    cache: Path | None = None,
) -> Executor:
    """Make the executor of a cut's prefix.

    Parameters
    ----------
    cut : Cut
        From `cut.cut`.
    device : str or torch.device
        ``"cpu"`` or ``"cuda"``.
    kind : str
        ``"auto"``: ONNX Runtime on a CPU (torch where it can't be exported), torch in half precision on a GPU.
        ``"onnxruntime"``: on the CPU. ``"torch"``: in channels_last.
    batch : int
        Images that are computed at once.
    threads : int, optional
        Of ONNX Runtime; all cores that this process may use where left out.
    cache : Path, optional
        Folder in which exported prefixes are kept, by all that determines them.

    Raises
    ------
    FreezeframeError
        If ONNX Runtime was asked for by name and the prefix can't be exported.
    """
    device = torch.device(device)
    if cut.prefix is None:
        return Executor("input", cut, batch, TOLERANCE, lambda images: [images])
    if kind == "torch" or (kind == "auto" and device.type != "cpu"):
        return _torch_executor(cut, device, batch, half=device.type == "cuda")
    try:
        return _onnxruntime_executor(cut, batch, threads, cache)
    except _ExportError as error:
        if kind == "onnxruntime":
            raise FreezeframeError(f"{error} Use executor: torch instead.") from error
        say(f"{error} It runs in torch instead, which is slower.")
        return _torch_executor(cut, device, batch, half=False)


def _torch_executor(cut: Cut, device: torch.device, batch: int, half: bool) -> Executor:
    # A copy, so that the network's own weights keep their layout and device.
    prefix = copy.deepcopy(cut.prefix).eval().to(device, memory_format=torch.channels_last)  # type: ignore[union-attr]
    version = torch.__version__.partition("+")[0]

    def compute(images: np.ndarray) -> list[np.ndarray]:
        tensor = torch.from_numpy(images).to(device, memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast("cuda", torch.float16, enabled=half):
            return [part.float().contiguous().cpu().numpy() for part in prefix(tensor)]

    precision = "half" if half else "float32"
    return Executor(
        f"torch-{version}-{device.type}-channels_last-{precision}-batch{batch}",
        cut,
        batch,
        HALF_TOLERANCE if half else TOLERANCE,
        compute,
        (lambda: _torch_executor(cut, device, batch, half=False)) if half else None,
    )


class _ExportError(Exception):
    """The prefix can't be written as ONNX, or ONNX Runtime can't read it."""


def session(model: bytes, threads: int | None = None) -> onnxruntime.InferenceSession:
    """Load an exported prefix into ONNX Runtime, with all cores that this process may use where none are said."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or machine.available_cores()
    options.log_severity_level = 3
    # As fast on an idle machine, and a quarter faster on a busy one (docs/benchmarks.md).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _onnxruntime_executor(cut: Cut, batch: int, threads: int | None, cache: Path | None) -> Executor:
    import onnxruntime

    try:
        runtime = session(exported(cut, cache), threads)
    except Exception as error:  # the exporter and the reader raise many kinds
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise _ExportError(
            f"The frozen part of {cut.model} can't be exported to ONNX ({first_line[:160]})."
        ) from error

    def compute(images: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(tensor) for tensor in runtime.run(None, {"images": images})]

    return Executor(
        f"{ONNXRUNTIME}-{onnxruntime.__version__}-export{EXPORT_VERSION}-cpu-batch{batch}",
        cut,
        batch,
        TOLERANCE,
        compute,
        lambda: _torch_executor(cut, torch.device("cpu"), batch, half=False),
    )


def exported(cut: Cut, cache: Path | None) -> bytes:
    """Export a cut's prefix to ONNX, or read it from the folder of those that were exported before."""
    if cache is None:
        return _export(cut)
    # A new torch may export otherwise.
    key = files.sha256_json([cut.prefix_key, cut.input_size, torch.__version__, OPSET, EXPORT_VERSION])
    path = Path(cache) / f"{key}.onnx"
    if not path.is_file():
        files.write_bytes(path, _export(cut))
    return path.read_bytes()


def _export(cut: Cut) -> bytes:
    assert cut.prefix is not None
    outputs = [f"activation_{index}" for index in range(len(cut.shapes))]
    return export_module(cut.prefix, torch.zeros(2, 3, *cut.input_size), "images", outputs)
