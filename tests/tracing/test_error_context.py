"""What the model's own errors become: where, what, and what to do."""

import logging
import sys
from decimal import Decimal
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fxtransport.errors import TraceError
from fxtransport.tracing.error_context import describe_module, source_line
from tests.tracing.blocks import Adds, Apart, Function, assert_equal, net, program_of, x


def failure(function: Function, kind: Any = Apart, *inputs: Any) -> str:
    """What is said of a block that raises."""
    with pytest.raises(TraceError) as caught:
        program_of(net(function, kind), *inputs)
    return str(caught.value)


def test_an_error_of_the_example_says_so() -> None:
    """The remedy, an example that fits, works."""

    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        if x.shape[1] != 6:
            raise ValueError("six rows")
        return y.relu()

    message = failure(branch, Apart, x(2, 5, 8))
    assert "0.branch (Closed) raised ValueError at " in message
    assert "test_error_context.py:" in message
    assert "six rows. The model itself raises this" in message
    assert "give another one" in message
    model = net(branch, Apart)
    assert_equal(program_of(model, x(2, 6, 8)), model, x(5, 6, 8))


def test_decisions_on_data() -> None:
    """The remedies, torch.where and shapes, work."""

    def by_data(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return y.relu() if y.sum() > 0 else y

    def by_where(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return torch.where(y.sum() > 0, y.relu(), y)

    for kind, path in ((Apart, "0.branch (Closed)"), (None, "0 (Adds)")):
        kinds = (kind,) if kind else ()
        with pytest.raises(TraceError, match="has data-dependent control flow") as caught:
            program_of(net(by_data, *kinds))
        assert str(caught.value).startswith(f"{path} has data-dependent control flow at ")
        assert "choose with torch.where" in str(caught.value)
        model = net(by_where, *kinds)
        assert_equal(program_of(model), model, x(5))


def test_what_cannot_be_trained() -> None:
    """An operator without a backward for this device raises only where gradients are computed."""

    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        if y.requires_grad:
            raise NotImplementedError("no backward on this device")
        return y.relu()

    message = failure(branch, Apart)
    assert "no backward on this device. The model itself raises this where gradients" in message
    assert "cannot be trained" in message


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:torch.quantize_per:UserWarning")
def test_quantized_modules_are_named_so() -> None:
    """The remedy, the model before it is quantized, works."""
    model = net(lambda m, x, y: y.relu())
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(TraceError, match="before it is quantized") as caught:
        program_of(quantized)
    assert "quantized::linear_dynamic" in str(caught.value)
    assert "data-dependent" not in str(caught.value)
    assert_equal(program_of(model), model, x())


def test_torch_logs_nothing_of_what_is_tried(capfd: pytest.CaptureFixture[str]) -> None:
    """A number of rows that the code has gone through holds for no other batch size."""

    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([row * k for k, row in enumerate(y)])

    handler = logging.StreamHandler(sys.stderr)
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    logger.addHandler(handler)
    try:
        program_of(net(branch), x(3))
        logger.error("said of something else")
    finally:
        logger.removeHandler(handler)
    said = capfd.readouterr().err
    assert "said of something else" in said
    assert "failed while attempting to run meta" not in said


DATA: dict[str, Function] = {
    "item": lambda m, x, y: y * y.sum().item(),
    "float": lambda m, x, y: y * float(y.sum()),
    "int": lambda m, x, y: y * int(y.sum()),
    "tolist": lambda m, x, y: y * y.tolist()[0][0],
    "numpy": lambda m, x, y: y * y.detach().numpy().sum(),
    "in": lambda m, x, y: y if 0.5 in y else -y,
    "any": lambda m, x, y: y if (y > 0).any() else -y,
    "equal": lambda m, x, y: y if torch.equal(x, y) else -y,
    "allclose": lambda m, x, y: y if torch.allclose(x, y) else -y,
    "nonzero": lambda m, x, y: y + y[:, y.sum(0).nonzero().flatten()].sum(),
    "mask": lambda m, x, y: y + y[y > 0].sum(),
    "unique": lambda m, x, y: y + y.unique().sum(),
    "range": lambda m, x, y: y * len(range(y.sum().long())),
    "assert": lambda m, x, y: y if bool(torch.isfinite(y).all()) else -y,
}


@pytest.mark.parametrize("kind", ["opened", "closed"])
@pytest.mark.parametrize("name", DATA)
def test_looks_at_data_are_refused_with_the_place(name: str, kind: str) -> None:
    """Not by an error of torch's, and never frozen."""
    kinds = (Apart,) if kind == "closed" else ()
    with pytest.raises(TraceError) as caught:
        program_of(net(DATA[name], *kinds))
    message = str(caught.value)
    assert message.startswith("0.branch (Closed) " if kinds else "0 (Adds) ")
    assert "test_error_context.py:" in message
    assert "data-dependent" in message


def test_numbers_for_code_that_takes_no_proxies() -> None:
    """The remedy, a closed module, works."""

    def branch(m: Any, x: Tensor, y: Tensor) -> Tensor:
        return y * float(Decimal(x.shape[1]))

    message = failure(branch, Adds)
    assert message.startswith("0 (Adds) raised TypeError at ")
    assert "a number that depends on the input" in message
    model = net(branch, Apart)
    assert_equal(program_of(model), model, x(5))


def test_operators_without_a_kernel_for_meta_tensors() -> None:
    """The remedy, to register one, works."""

    @torch.library.custom_op("fxtransport_tests::double", mutates_args=())
    def double(x: Tensor) -> Tensor:
        return x * 2

    double.register_autograd(lambda ctx, grad: grad * 2)
    for kind, path in ((Apart, "0.branch (Closed)"), (Adds, "0 (Adds)")):
        message = failure(lambda m, x, y: double(y), kind)
        assert message.startswith(f"{path} raised ")
        assert "give each operator of your own a kernel for meta tensors" in message
    double.register_fake(torch.empty_like)
    for kind in (Apart, Adds):
        model = net(lambda m, x, y: double(y), kind)
        assert_equal(program_of(model), model, x(5))


def test_modules_in_words() -> None:
    model = nn.Sequential(nn.ReLU())
    assert describe_module(model, "0") == "0 (ReLU)"
    assert describe_module(model, "") == "the model (Sequential)"
    assert describe_module(model, None) == "Sequential"


def test_no_line_where_no_code_of_the_model_runs() -> None:
    assert source_line(None) is None
