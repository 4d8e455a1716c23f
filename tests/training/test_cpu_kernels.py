"""The faster gradients are torch's own gradients."""

import contextlib
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from freezeframe.backbones import unfreeze, zoo
from freezeframe.backbones.cut import Cut, cut
from freezeframe.training.cpu_kernels import faster_gradients
from freezeframe.training.module import run_suffix


def images(*shape: int, offset: float = 0.0, seed: int = 0) -> Tensor:
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + offset
    return numbers.contiguous(memory_format=torch.channels_last)


def gradients(
    function: Callable[..., Tensor], arguments: list[Tensor], faster: bool = False
) -> tuple[Tensor, list[Tensor], Tensor]:
    """Return what a function gives, the gradients of a weighted sum of that, and the result with its graph."""
    leaves = [argument.detach().requires_grad_() for argument in arguments]
    with faster_gradients(leaves[0]) if faster else contextlib.nullcontext():
        result = function(*leaves)
    weights = images(*result.shape, seed=9) if result.ndim == 4 else torch.linspace(0, 1, result.shape[1])
    (result * weights.to(result.dtype)).sum().backward()
    return result.detach(), [leaf.grad for leaf in leaves if leaf.grad is not None], result


def assert_same_gradients(function: Callable[..., Tensor], arguments: list[Tensor], node: str) -> None:
    """Compare with torch's own gradients in double precision; `node` is the equivalent that must have run."""
    result, found, graph = gradients(function, arguments, faster=True)
    plain, _, _ = gradients(function, arguments)
    _, exact, _ = gradients(function, [argument.double() for argument in arguments])
    assert torch.equal(result, plain), "the forward pass is torch's own"
    names = {type(graph.grad_fn).__name__}
    if graph.grad_fn is not None:
        names |= {type(before).__name__ for before, _ in graph.grad_fn.next_functions}
    assert node in names
    for one, other in zip(found, exact, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= 1e-5 * other.abs().max()


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    with_bias=st.booleans(),
)
def test_a_depthwise_convolution_of_any_geometry_has_its_gradients(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    with_bias: bool,
) -> None:
    arguments = [images(2, 8, 13, 14), images(8, 1, *kernel, seed=1)]
    arguments += [torch.linspace(-1, 1, 8)] if with_bias else []

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(x, weight, bias, stride, padding, dilation, 8)

    assert_same_gradients(convolve, arguments, "_DepthwiseBackward")


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_batch_norm_has_its_gradients_also_far_from_zero(offset: float) -> None:
    arguments = [images(4, 6, 5, 3), torch.linspace(0.5, 2, 6), torch.linspace(-1, 1, 6)]
    if offset:
        # Whole numbers are exact in both precisions, so that the comparison sees the gradient's own error alone.
        arguments[0] = (arguments[0] * 4).round() + offset

    def normalise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, weight, bias, training=True, eps=1e-3)

    assert_same_gradients(normalise, arguments, "_BatchNormBackward")


@pytest.mark.parametrize(
    "average",
    [
        nn.AdaptiveAvgPool2d(1),
        lambda x: x.mean((2, 3)),
        lambda x: x.mean([-1, -2], keepdim=True),
        lambda x: torch.mean(x, dim=(2, 3), keepdim=True),
    ],
)
def test_a_global_average_has_its_gradient(average: Callable[[Tensor], Tensor]) -> None:
    assert_same_gradients(average, [images(2, 6, 5, 3)], "_GlobalAverageBackward")


def test_the_gradient_of_a_global_average_lies_in_memory_as_the_images_do() -> None:
    given_images = images(2, 6, 5, 3).requires_grad_()
    with faster_gradients(given_images):
        average = F.adaptive_avg_pool2d(given_images, 1)
    (gradient,) = torch.autograd.grad(average.sum(), given_images)
    assert gradient.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.mean(),
        lambda x: x.mean((0, 2, 3), keepdim=True),
        lambda x: F.adaptive_avg_pool2d(x, 2),
        lambda x: F.adaptive_avg_pool2d(x, (1, None)),
        lambda x: F.conv2d(x, torch.ones(6, 3, 3, 3), padding="same", groups=2),
        lambda x: F.conv2d(x, torch.ones(12, 1, 3, 3), groups=6),
        lambda x: F.batch_norm(x, torch.zeros(6), torch.ones(6), training=False),
        lambda x: F.batch_norm(x.flatten(2), None, None, torch.ones(6), torch.ones(6), training=True),
        lambda x: F.conv2d(x.contiguous(), torch.ones(6, 1, 3, 3), groups=6),
    ],
)
def test_what_has_no_equivalent_is_left_to_torch(function: Callable[[Tensor], Tensor]) -> None:
    given_images = images(2, 6, 5, 4).requires_grad_()
    plain = function(given_images)
    with faster_gradients(given_images):
        found = function(given_images)
    assert torch.equal(found, plain)
    assert type(found.grad_fn) is type(plain.grad_fn)


def test_a_channel_of_one_number_is_refused_as_torch_does() -> None:
    one = images(1, 6, 1, 1).requires_grad_()
    with faster_gradients(one), pytest.raises(ValueError, match="more than 1 value per channel"):
        F.batch_norm(one, None, None, torch.ones(6), torch.ones(6), training=True)


def test_without_gradients_in_mixed_precision_or_in_double_nothing_is_replaced() -> None:
    given_images = images(2, 6, 5, 3)

    def replaced(activations: Tensor) -> bool:
        return not isinstance(faster_gradients(activations), contextlib.nullcontext)

    assert replaced(given_images)
    assert not replaced(given_images.double())
    with torch.no_grad():
        assert not replaced(given_images)
    with torch.autocast("cpu", torch.bfloat16):
        assert not replaced(given_images)


def suffix_of(name: str, spec: dict) -> tuple[zoo.Network, Cut]:
    network = zoo.build(name, 3, "none", announce=False)
    unfrozen = unfreeze.resolve(spec, network)
    unfreeze.apply(network.module, unfrozen)
    divided = cut(network, unfrozen, (64, 64))
    network.module.train()
    unfreeze.set_training_mode(network.module, unfrozen)
    divided.suffix.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return network, divided


def step(
    network: zoo.Network, divided: Cut, faster: bool, double: bool = False
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Return logits, gradients and buffers after one step from the network's state, which is put back."""
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    if double:
        network.module.double()
    activations = torch.randn(6, divided.size, generator=torch.Generator().manual_seed(0))
    activations = activations.double() if double else activations
    network.module.zero_grad()
    with faster_gradients(activations) if faster else contextlib.nullcontext():
        logits = run_suffix(divided, activations)
    F.cross_entropy(logits, torch.tensor([0, 1, 2, 0, 1, 2])).backward()
    found = {
        name: parameter.grad.clone()
        for name, parameter in network.module.named_parameters()
        if parameter.grad is not None
    }
    buffers = {name: buffer.clone() for name, buffer in network.module.named_buffers()}
    network.module.float().load_state_dict(before)
    return logits.detach(), found, buffers


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("efficientnet-lite0", {"layers": 2}),
        ("efficientnet-lite0", {"layers": 10}),  # frozen BatchNorm in the suffix
        ("mobilenet-v3", {"blocks": 2}),  # squeeze and excitation, 5 x 5 with stride 2
        ("resnet18", {"blocks": 1}),
        ("densenet121", {"layers": 5}),
    ],
)
def test_a_step_of_a_suffix_has_the_gradients_and_statistics_of_plain_torch(name: str, spec: dict) -> None:
    network, divided = suffix_of(name, spec)
    logits, found, buffers = step(network, divided, faster=True)
    plain_logits, plain, plain_buffers = step(network, divided, faster=False)
    assert torch.equal(logits, plain_logits)
    assert buffers.keys() == plain_buffers.keys()
    assert all(torch.equal(buffer, plain_buffers[key]) for key, buffer in buffers.items())
    _, exact, _ = step(network, divided, faster=False, double=True)
    assert found.keys() == exact.keys()
    largest = max(gradient.abs().max() for gradient in exact.values())
    for key, gradient in found.items():
        error, error_of_plain = ((values - exact[key]).norm() for values in (gradient, plain[key]))
        # Rounding grows through the layers for both; neither may be far from the truth, nor ours further than torch.
        assert error <= 4 * error_of_plain + 1e-5 * exact[key].norm() + 1e-7 * largest, key


def test_a_step_gives_the_same_bits_again() -> None:
    network, divided = suffix_of("efficientnet-lite0", {"layers": 6})
    first, again = (step(network, divided, faster=True)[1] for _ in range(2))
    assert all(torch.equal(first[key], again[key]) for key in first)
