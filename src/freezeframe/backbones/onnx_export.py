"""Modules as ONNX, by torch's legacy exporter: ten times faster here than the newer one, and held against torch."""

import contextlib
import copy
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

OPSET = 17


def export_module(module: nn.Module, example: Tensor, source: str, outputs: Sequence[str]) -> bytes:
    """Write a module in inference mode as ONNX; a norm behind a convolution becomes part of it.

    Parameters
    ----------
    module : nn.Module
        Takes one tensor, gives one or several. It is copied, and stays as it is.
    example : Tensor (N, ...)
        Of the input; in the graph N may be any.
    source : str
        Name of the input.
    outputs : sequence of str
        Names of the outputs.

    Returns
    -------
    bytes
        The ONNX model.
    """
    still = copy.deepcopy(module).eval().cpu()
    still.requires_grad_(False)
    # On failure the exporter prints the whole graph, and it warns that it is the legacy one.
    with warnings.catch_warnings(), _silence(), torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        path = Path(folder) / "module.onnx"
        torch.onnx.export(
            still,
            (example,),
            path,
            dynamo=False,
            opset_version=OPSET,
            input_names=[source],
            output_names=list(outputs),
            dynamic_axes={name: {0: "batch"} for name in [source, *outputs]},
        )
        return path.read_bytes()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    # The exporter is C++ and writes to the descriptors themselves.
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for descriptor in (1, 2):
            os.dup2(nowhere, descriptor)
        yield
    finally:
        for descriptor, copy_of_it in zip((1, 2), kept, strict=True):
            os.dup2(copy_of_it, descriptor)
            os.close(copy_of_it)
        os.close(nowhere)
