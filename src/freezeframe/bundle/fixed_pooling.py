"""Adaptive pooling as products of matrices, for the sizes at which ONNX does not have it."""

import torch
from torch import Tensor, nn


class FixedPooling(nn.Module):
    """`nn.AdaptiveAvgPool2d` for inputs of one size: a mean over rows, then over columns.

    Parameters
    ----------
    inputs, outputs : (int, int)
        Height and width.
    """

    def __init__(self, inputs: tuple[int, int], outputs: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("rows", _means(inputs[0], outputs[0]))
        self.register_buffer("columns", _means(inputs[1], outputs[1]).T.contiguous())

    def forward(self, inputs: Tensor) -> Tensor:
        """Pool maps (N, K, h, w)."""
        return self.rows @ inputs @ self.columns  # type: ignore[operator]


def fix_pooling(network: nn.Module, example: Tensor) -> None:
    """Replace the adaptive poolings of a network whose input is no multiple of their output (VGG and AlexNet)."""
    pooling = {name: part for name, part in network.named_modules() if isinstance(part, nn.AdaptiveAvgPool2d)}
    sizes: dict[nn.Module, tuple[int, int]] = {}

    def note(part: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sizes[part] = (inputs[0].shape[2], inputs[0].shape[3])

    handles = [part.register_forward_pre_hook(note) for part in pooling.values()]
    try:
        with torch.no_grad():
            network(example)
    finally:
        for handle in handles:
            handle.remove()
    for name, part in pooling.items():
        wanted = part.output_size
        outputs = wanted if isinstance(wanted, tuple) else (wanted, wanted)
        height, width = (
            size if size is not None else own for size, own in zip(outputs, sizes[part], strict=True)
        )
        if sizes[part][0] % height or sizes[part][1] % width:
            network.set_submodule(name, FixedPooling(sizes[part], (height, width)))


def _means(size: int, reduced: int) -> Tensor:
    """Return the matrix (reduced, size) whose row i is the mean from floor(i s / r) to ceil((i + 1) s / r)."""
    matrix = torch.zeros(reduced, size)
    for index in range(reduced):
        start, stop = index * size // reduced, -(-(index + 1) * size // reduced)
        matrix[index, start:stop] = 1 / (stop - start)
    return matrix
