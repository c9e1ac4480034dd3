"""The model, the data and the program of a run, built from its configuration."""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fxtransport import nets
from fxtransport.analysis.bottleneck import most_parts
from fxtransport.analysis.line import legal_line
from fxtransport.compiler import example_of, transportify
from fxtransport.data import Splits, load
from fxtransport.errors import MODEL_ERRORS, FxTransportError, UsageError, first_line
from fxtransport.ir import HeadKind
from fxtransport.models import ModelSpec, build, input_spec, resolve
from fxtransport.passes.heads import PlanHeads
from fxtransport.passes.partition import Partition
from fxtransport.passes.pipeline import run_passes
from fxtransport.program import Program
from fxtransport.randomness import seed_all
from fxtransport.runs.config import Config
from fxtransport.runs.settings import device_of
from fxtransport.unit import Example, Unit

EMBEDDED = ("digits", "circles", "moons")
"""The sets that prepare themselves."""
PREPARED = ("mean", "std", "interpolation", "crop_pct", "crop_mode")
"""What timm says of the images that weights were trained on."""


@dataclass(frozen=True)
class Recipe:
    """A model's name with what its constructor is given, and the data that it is for.

    Args:
        config: The run's.
        spec: The model.
        options: For its constructor.
        shape: Of one input.
        splits: The data.
    """

    config: Config
    spec: ModelSpec
    options: dict[str, Any]
    shape: tuple[int, ...]
    splits: Splits

    def program(self, *, new: bool = True) -> Program:
        """Build the model, and compile it.

        Args:
            new: For a new run: with weights fetched or drawn as the configuration says, and
                compared with the model's numbers. Otherwise weights are about to be loaded.

        Raises:
            FxTransportError: the model cannot be built, compiled or cut, or its logits are not
                for as many classes as the data has.
        """
        config = self.config
        seed_all(config["trainer.seed"])
        pretrained = new and config["model.pretrained"]
        model = _build(self.spec, self.options, pretrained=pretrained)
        if new and config.get("model.init"):
            nets.initialize(model, config["model.init"], config["model.gain"])
        example = example_of(model, torch.empty(2, *self.shape, device="meta"))
        cuts = tuple(config.get("program.cuts") or ())
        modules = config.get("program.modules") or 1
        if config["program.blockwise"]:
            head = PlanHeads(HeadKind(config["program.head"]), self.splits.num_classes)
            modules = _most_modules(model, example, head)
        program = transportify(
            model,
            example.inputs,
            modules=modules,
            balance=config.get("program.weight") or config["program.balance"],
            batch_size=config["data.batch_size"],
            cuts=cuts,
            head=config["program.head"],
            num_classes=self.splits.num_classes,
            verify=new and config["program.verify"],
        )
        self._check_logits(program)
        return program

    def _check_logits(self, program: Program) -> None:
        """See that the model is a classifier of as many classes as there are."""
        facts, classes = program.facts, self.splits.num_classes
        found = [facts.shapes.specs[n.name] for n in facts.graph.output_node().all_input_nodes]
        shapes = [tuple(spec.shape[1:]) for spec in found]
        # some return auxiliary logits besides, such as Inception
        if (classes,) not in shapes:
            raise UsageError(
                f"{self.spec.canonical} returns {shapes}, and {self.config['data.name']} has "
                f"{classes} classes; choose a classifier, or say with --model-arg how many it has"
            )


def recipe_of(config: Config) -> Recipe:
    """Find the model and load the data.

    Raises:
        UsageError: there is no such model or data, or they do not go together.
    """
    spec = resolve(config["model.name"])
    given = config.get("model.options") or {}
    probe = _build(spec, given, device=None if spec.library == "file" else "meta")
    sized, shape = _sized(spec, probe, config.get("model.image_size"), given)
    splits = _load(config, shape, _normalisation(config, probe))
    classes = {"num_classes": splits.num_classes} if _takes(spec, "num_classes") else {}
    return Recipe(config, spec, {**classes, **sized, **given}, shape, splits)


def _load(config: Config, shape: tuple[int, ...], transform: dict[str, Any]) -> Splits:
    """The data in the shape that a model takes."""
    found = config.section("data")
    options = found.pop("options", {})
    transform = {**transform, **found.pop("transform", {})}
    for name in inspect.signature(load).parameters:
        if name in options:
            raise UsageError(f"--data-arg {name}: what all sets have is no option of this one")
    return load(
        found.pop("name"),
        seed=config["trainer.seed"],
        input_size=shape,
        transform=transform,
        pin_memory=device_of(config).startswith("cuda"),
        **found,
        **options,
    )


def _normalisation(config: Config, probe: nn.Module) -> dict[str, Any]:
    """How the images were prepared that fetched weights were trained on."""
    described: Any = getattr(probe, "pretrained_cfg", None)
    if not (config["model.pretrained"] and described) or config["data.name"] in EMBEDDED:
        return {}
    return {name: described[name] for name in PREPARED if described.get(name)}


def _build(spec: ModelSpec, options: dict[str, Any], **how: Any) -> nn.Module:
    """Construct a model; what its constructor refuses is a line."""
    try:
        return build(spec, **how, **options)
    except FxTransportError:
        raise
    except MODEL_ERRORS as error:
        given = ", ".join(f"{name}={value}" for name, value in options.items()) or "no arguments"
        raise UsageError(
            f"{spec.canonical} cannot be built with {given}: {first_line(error)}"
        ) from error


def _sized(
    spec: ModelSpec, probe: nn.Module, size: int | None, given: dict[str, Any]
) -> tuple[dict[str, Any], tuple[int, ...]]:
    """What the constructor is given for a size of image, and the shape of the input.

    Convolutions take any size; transformers are built for one.
    """
    if size is None:
        return {}, input_spec(probe, spec, **given).shape
    options: dict[str, Any] = {}
    described: Any = getattr(probe, "pretrained_cfg", None) or {}
    if described.get("fixed_input_size"):
        options = {"img_size": size}
    elif hasattr(probe, "image_size") or _takes(spec, "image_size"):
        options = {"image_size": size}
    own = input_spec(probe, spec, **given).shape
    if len(own) != 3:
        raise UsageError(f"{spec.canonical} takes {own}, which is no image: leave out --image-size")
    return options, (own[0], size, size)


def _takes(spec: ModelSpec, argument: str) -> bool:
    """Whether a model's constructor takes an argument."""
    if spec.library == "nets":
        return argument in inspect.signature(getattr(nets, spec.name)).parameters
    return spec.library in ("timm", "torchvision") and argument == "num_classes"


def _most_modules(model: nn.Module, example: Example, heads: PlanHeads) -> int:
    """The largest number of modules that a model can be cut into."""
    unit = run_passes(Unit(model, example), (heads, Partition()))
    return most_parts(legal_line(unit).steps)
