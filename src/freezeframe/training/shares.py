"""One training in several processes: each takes a share of every batch, and together they compute what one would.

The gradient of a batch is the sum of the shares' gradients. What in a suffix depends on the other images of the batch,
or on their number, is made to see the whole batch: the draws of dropout and stochastic depth, and the statistics of
BatchNorm where it trains. So a training in several processes differs from one in a single process by the rounding of
sums, and by nothing else.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

Item = TypeVar("Item")


@dataclass(frozen=True)
class Share:
    """Which images of every batch one of several processes takes: each `count`-th, from `rank` on.

    Attributes
    ----------
    rank : int
        Of the process, from 0.
    count : int
        Processes.

    Examples
    --------
    >>> share = Share(rank=1, count=2)
    >>> share.of("abcdefg")
    'bdf'
    >>> share.of("abcdefg")[share.rows(2, 6)]
    'df'
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the process's own images of a whole batch."""
        return items[self.rank :: self.count]

    def rows(self, start: int, stop: int) -> slice:
        """Return which of the process's own images are those from `start` to `stop` of the whole batch."""
        return slice(*(max(0, -(-(place - self.rank) // self.count)) for place in (start, stop)))

    def within(self, start: int, stop: int) -> slice:
        """Return where, among the images from `start` to `stop` of the whole batch, the process's own are."""
        return slice((self.rank - start) % self.count, stop - start, self.count)


ALONE = Share()


class AsWhole(TorchFunctionMode):
    """Lets a share of some images compute what it would compute beside the others.

    Dropout and stochastic depth draw for all images, in every process the same, and keep the rows of their own.
    BatchNorm that trains takes its mean and variance over all images.

    Parameters
    ----------
    images : int
        All images, those of the other processes included.
    own : slice
        Which of them this process has.
    """

    def __init__(self, images: int, own: slice) -> None:
        super().__init__()
        self.images, self.own = images, own

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Take the place of the functions that look beyond their own image."""
        kwargs = kwargs or {}
        if func is F.dropout:
            return self._dropout(*args, **kwargs)
        if func is F.batch_norm:
            return self._batch_norm(*args, **kwargs)
        if func is torch.Tensor.bernoulli_ and len(args[0]) == self._rows:
            return args[0].copy_(self._ones(args[0]).bernoulli_(*args[1:], **kwargs)[self.own])
        return func(*args, **kwargs)

    @property
    def _rows(self) -> int:
        return len(range(*self.own.indices(self.images)))

    def _ones(self, like: torch.Tensor) -> torch.Tensor:
        # In the memory format of the input, in whose order random numbers are drawn.
        ones = torch.ones((self.images, *like.shape[1:]), dtype=like.dtype, device=like.device)
        last = like.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last)
        return ones.contiguous(memory_format=torch.channels_last) if last else ones

    def _dropout(
        self, inputs: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> torch.Tensor:
        if not training or p == 0:
            return inputs
        return inputs * F.dropout(self._ones(inputs), p)[self.own]

    def _batch_norm(
        self,
        inputs: torch.Tensor,
        running_mean: torch.Tensor | None,
        running_var: torch.Tensor | None,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> torch.Tensor:
        if not training:
            return F.batch_norm(inputs, running_mean, running_var, weight, bias, False, momentum, eps)
        # As `torch.nn.SyncBatchNorm`, which has no processor version. Two passes, since the difference of two large
        # sums would lose digits.
        axes = [axis for axis in range(inputs.ndim) if axis != 1]
        shape = [1, -1] + [1] * (inputs.ndim - 2)
        count = self.images * inputs[0:1].shape[2:].numel()
        if count == 1:  # as torch has it
            raise ValueError("Expected more than 1 value per channel when training.")
        values = inputs.float()
        mean = _SumOverProcesses.apply(values.sum(axes)) / count
        centred = values - mean.view(shape)
        variance = _SumOverProcesses.apply((centred * centred).sum(axes)) / count
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                running_var.lerp_((variance * (count / (count - 1))).to(running_var.dtype), momentum)
        result = centred * (variance + eps).rsqrt().view(shape)
        if weight is not None:
            result = result * weight.view(shape)
        if bias is not None:
            result = result + bias.view(shape)
        return result.to(inputs.dtype)


class _SumOverProcesses(torch.autograd.Function):
    """A sum over processes; each process's loss depends on each summand, so the gradient is summed too."""

    @staticmethod
    def forward(ctx: Any, own: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        total = own.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        total = gradients[0].contiguous().clone()
        torch.distributed.all_reduce(total)
        return total


def sum_gradients(parameters: Iterable[torch.nn.Parameter], loss: float) -> float:
    """Replace the gradients of all processes by their sum; returns the sum of their losses.

    All processes get the same bits, so their weights stay equal.

    Parameters
    ----------
    parameters : iterable of Parameter
        Those that have a gradient take part; they must be the same everywhere.
    loss : float
        The process's share.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    # One message instead of one for each tensor.
    flat = torch.cat([gradient.reshape(-1).float() for gradient in gradients])
    flat = torch.cat([flat, flat.new_tensor([loss])])
    torch.distributed.all_reduce(flat)
    *summed, total = flat.split([*(gradient.numel() for gradient in gradients), 1])
    for gradient, values in zip(gradients, summed, strict=True):
        gradient.copy_(values.view_as(gradient))
    return total.item()


def anybody(yes: bool, device: torch.device) -> bool:
    """Tell whether any of the processes says yes."""
    votes = torch.tensor(float(yes), device=device)
    torch.distributed.all_reduce(votes)
    return bool(votes > 0)


def gathered(own: dict[int, Item]) -> dict[int, Item]:
    """Put together what all processes have, by number and in the order of the numbers."""
    everybodys: list[dict[int, Item]] = [{} for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather_object(everybodys, own)
    merged = {number: item for one in everybodys for number, item in one.items()}
    return dict(sorted(merged.items()))


def trains_batch_norm(module: torch.nn.Module) -> bool:
    """Tell whether a BatchNorm in a module computes statistics of the batch."""
    return any(isinstance(part, _BatchNorm) and part.training for part in module.modules())
