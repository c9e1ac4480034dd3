"""What the pieces of the tracer ask of it."""

from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

import torch
from torch import fx, nn

from fxtransport.tracing.recorder import Recorder


class Tracer(Protocol):
    """A graph in the making."""

    graph: fx.Graph
    values: dict[fx.Node, Any]
    """The example value of every node."""
    root: nn.Module
    opened: frozenset[str]
    recorder: Recorder
    device: torch.device
    """Where the model's parameters are."""
    evaluating: bool
    """Whether the value of a node is being computed, so that nothing must be traced."""

    forced_gradients: bool
    """Whether traced code itself has switched gradients on, wherever the program runs."""
    gradients: bool
    """What traced code is told of whether gradients are computed."""
    is_returning: bool
    """Whether the model's forward is done, and what it returns is put together."""

    def create_node(
        self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> fx.Node:
        """A new node, evaluated."""

    def create_proxy(
        self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A new node, evaluated, and what traced code is given for it."""

    def node_of(self, value: Any) -> fx.Node | None:
        """The node that computes a tensor or another object; None if there is none."""

    def argument(self, value: Any) -> Any:
        """What a node is given for a value of traced code."""

    def decided(self, value: Any, node: fx.Node) -> None:
        """Code decides by a node's value: guard it, or see that it depends on the mode."""

    def expect_guard(self, value: Any, node: fx.Node, frame: FrameType) -> None:
        """A number was asked for: guard it, unless torch only looks at its type."""

    def drop_guards(self, frame: FrameType) -> None:
        """Forget the numbers that torch's parser asked for in this instruction."""

    def guard_count(self, node: fx.Node) -> None:
        """Refuse inputs for which a node computes another number of pieces."""

    def guard_missing(self, node: fx.Node, index: int) -> None:
        """Refuse inputs for which a piece is not None."""

    def rank(self, value: torch.Tensor) -> int:
        """The number of dimensions, which follows from those of the inputs."""

    def ask_gradients(self, what: str) -> bool:
        """The answer to a question whether gradients are computed."""

    def call_module(
        self, call: Callable[..., Any], module: nn.Module, args: Any, kwargs: dict[str, Any]
    ) -> Any:
        """Open a module, or make it a node."""

    def modes_set(self, module: nn.Module) -> None:
        """Code has set the mode of a module: its flags are what it set."""

    def refuse(self, what: str, remedy: str) -> Exception:
        """The error that refuses the code that runs now."""

    def refuse_data(self, what: str) -> Exception:
        """The error that refuses code that looks at the values of tensors."""

    def constant(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """The values of a tensor that follows from sizes alone, by which code decides."""
