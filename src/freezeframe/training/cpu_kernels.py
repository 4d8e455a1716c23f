"""Faster equivalents, for training on a CPU, of what torch does slowly there.

A suffix of a convolutional network spends most of its time in matrix products, which reach what the machine gives.
Three other things take far longer than what they compute needs (torch 2.15, oneDNN 3.13, channels last; figures from
`benchmarks/suffix.py`'s machine, one thread, 16 x 1152 x 7 x 7 numbers):

- the gradient of a depthwise kernel wider than three columns: 8.4 ms for 5 x 5 where 5 x 3 takes 0.4,
- the gradient through BatchNorm, 1.8 ms where reading the numbers takes 0.1,
- the gradient of a global average, which comes out in another memory layout than its neighbours', so that they too
  fall back to slow code (BatchNorm's gradient: 8.5 ms).

The mode below replaces these three while the suffix runs forward. Modules, parameters, buffers and the forward
computation stay torch's own; the gradients are the same but for the order of float32 sums, and deterministic.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

# The widest depthwise kernel, in columns, whose weight gradient oneDNN vectorises in this layout.
WIDEST_QUICK_KERNEL = 3


def faster_gradients(activations: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which the forward pass prepares faster gradients, where that is of use.

    Parameters
    ----------
    activations : Tensor
        What the suffix is about to read. The context does nothing without gradients, on another device than the CPU,
        for other numbers than float32, or in mixed precision.
    """
    useful = (
        torch.is_grad_enabled()
        and activations.device.type == "cpu"
        and activations.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
    )
    return _FasterGradients() if useful else contextlib.nullcontext()


class _FasterGradients(TorchFunctionMode):
    """Hands the calls that have a faster equivalent to it."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the equivalent if there is one and it takes these arguments, else the function itself."""
        kwargs = kwargs or {}
        equivalent = _EQUIVALENTS.get(func)
        result = None if equivalent is None else equivalent(*args, **kwargs)
        return func(*args, **kwargs) if result is None else result


def _is_suited(images: Tensor) -> bool:
    return (
        images.ndim == 4
        and images.numel() > 0
        and images.dtype == torch.float32
        and images.is_contiguous(memory_format=torch.channels_last)
    )


def _rows(images: Tensor) -> Tensor:
    """See (N, C, H, W) as a matrix (N x H x W, C), without a copy where channels come last in memory."""
    return images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _convolution(
    input: Tensor,  # noqa: A002 - torch's own names: callers may use them
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    depthwise = groups == input.shape[1] == weight.shape[0] and groups > 1
    if not depthwise or isinstance(padding, str) or not _is_suited(input):
        return None
    return _Depthwise.apply(input, weight, bias, _pair(stride), _pair(padding), _pair(dilation))  # pyright: ignore[reportReturnType]


class _Depthwise(torch.autograd.Function):
    """A convolution of each channel with a kernel of its own."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.geometry = stride, padding, dilation
        return torch.conv2d(images, weight, bias, stride, padding, dilation, images.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        of_images = (
            _images_gradient(gradient, images, weight, *ctx.geometry) if ctx.needs_input_grad[0] else None
        )
        of_weight = (
            _weight_gradient(gradient, images, weight, *ctx.geometry) if ctx.needs_input_grad[1] else None
        )
        of_bias = gradient.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return of_images, of_weight, of_bias, None, None, None


def _images_gradient(
    gradient: Tensor,
    images: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    kernel = weight.shape[2:]
    rest = [step * (size - 1) - border for step, size, border in zip(dilation, kernel, padding, strict=True)]
    if stride == (1, 1) and min(rest) >= 0:
        # The gradient of a correlation is one with the kernel turned around, for which oneDNN has faster code.
        return torch.conv2d(gradient, weight.flip(2, 3), None, 1, rest, dilation, images.shape[1])
    return _torch_gradient(gradient, images, weight, stride, padding, dilation, (True, False, False))


def _weight_gradient(
    gradient: Tensor,
    images: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor:
    """Compute a wide kernel's gradient a few columns at a time, each as a narrow kernel over shifted images."""
    parts = weight.split(WIDEST_QUICK_KERNEL, dim=3)
    if len(parts) == 1:
        return _torch_gradient(gradient, images, weight, stride, padding, dilation, (False, True, False))
    found, first = [], 0
    for part in parts:
        columns = part.shape[3]
        left = padding[1] - first * dilation[1]
        read = (gradient.shape[3] - 1) * stride[1] + (columns - 1) * dilation[1] + 1
        shifted = F.pad(images, (left, read - images.shape[3] - left))  # a negative border is cut off
        found.append(
            _torch_gradient(gradient, shifted, part, stride, (padding[0], 0), dilation, (False, True, False))
        )
        first += columns
    return torch.cat(found, dim=3)


def _torch_gradient(
    gradient: Tensor,
    images: Tensor,
    weight: Tensor,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    wanted: tuple[bool, bool, bool],
) -> Tensor:
    found = torch.ops.aten.convolution_backward(
        gradient, images, weight, None, stride, padding, dilation, False, (0, 0), images.shape[1], wanted
    )
    return found[wanted.index(True)]


def _batch_norm(
    input: Tensor,  # noqa: A002
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    if not training or weight is None or bias is None or not _is_suited(input):
        return None
    if input.numel() == input.shape[1]:
        return None  # one number a channel has no variance: torch says so
    return _BatchNorm.apply(input, weight, bias, running_mean, running_var, momentum, eps)  # pyright: ignore[reportReturnType]


class _BatchNorm(torch.autograd.Function):
    """BatchNorm in training mode: torch's own forward pass, the gradient in few passes over memory.

    With x' = (x - mean) / std over the n numbers of a channel, the gradient of x is
    weight / std * (g - mean(g) - x' * mean(g x')): Ioffe and Szegedy 2015, section 3.
    """

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor | None,
        running_variance: Tensor | None,
        momentum: float,
        epsilon: float,
    ) -> Tensor:
        result, mean, inverse_deviation = torch.native_batch_norm(
            images, weight, bias, running_mean, running_variance, True, momentum, epsilon
        )
        ctx.save_for_backward(images, weight, mean, inverse_deviation)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, mean, inverse_deviation = ctx.saved_tensors
        gradient = _rows(gradients[0])
        # Centred first: where the mean is large, the difference of two large sums would lose digits.
        centred = _rows(images) - mean
        of_bias = gradient.sum(0)
        of_weight = (centred * gradient).sum(0) * inverse_deviation
        of_images = None
        if ctx.needs_input_grad[0]:
            scale = weight * inverse_deviation
            share = scale / len(gradient)
            torch.addcmul(-share * of_bias, centred, -share * inverse_deviation * of_weight, out=centred)
            centred.addcmul_(gradient, scale)
            count, channels, height, width = images.shape
            of_images = centred.view(count, height, width, channels).permute(0, 3, 1, 2)
        return of_images, of_weight, of_bias, None, None, None, None


def _adaptive_average(input: Tensor, output_size: Any) -> Tensor | None:  # noqa: A002
    if _pair(output_size) != (1, 1) or not _is_suited(input):
        return None
    return _GlobalAverage.apply(input)  # pyright: ignore[reportReturnType]


def _mean(
    input: Tensor,  # noqa: A002
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor | None:
    if dtype is not None or not isinstance(dim, list | tuple) or not _is_suited(input):
        return None
    if sorted(axis % 4 for axis in dim) != [2, 3]:
        return None
    average = _GlobalAverage.apply(input)
    return average if keepdim else average.flatten(1)  # pyright: ignore[reportOptionalMemberAccess]


class _GlobalAverage(torch.autograd.Function):
    """The mean over height and width, with a gradient that lies in memory as the images do."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        ctx.shape = images.shape
        return images.mean((2, 3), keepdim=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        _, _, height, width = ctx.shape
        spread = (gradients[0] / (height * width)).expand(ctx.shape)
        return spread.contiguous(memory_format=torch.channels_last)


_EQUIVALENTS: dict[Any, Callable[..., Tensor | None]] = {
    torch.conv2d: _convolution,
    F.batch_norm: _batch_norm,
    F.adaptive_avg_pool2d: _adaptive_average,
    torch.Tensor.mean: _mean,
    torch.mean: _mean,
}
"""From a function of torch to its equivalent, which returns None for arguments that it is not made for."""
