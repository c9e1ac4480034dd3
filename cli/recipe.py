"""What a run is made of, built from its configuration."""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fxtransport import nets
from fxtransport.cli.config import Config
from fxtransport.compiler import example_of, transportify
from fxtransport.data import Splits, load
from fxtransport.errors import UsageError
from fxtransport.ir import Boundaries
from fxtransport.models import ModelSpec, build, input_spec, resolve
from fxtransport.objectives import (
    CrossEntropy,
    Fixed,
    Greedy,
    ModuleMultipliers,
    Multiplier,
    NoCost,
    Objective,
    ReverseCrossEntropy,
    TransportCost,
    Weighting,
)
from fxtransport.passes.base import Example, Unit
from fxtransport.passes.bottleneck import most_parts
from fxtransport.passes.partition import Line, Partition
from fxtransport.passes.pipeline import run_passes
from fxtransport.program import Program
from fxtransport.training import (
    EndToEnd,
    MultiLap,
    OptimizerSettings,
    Parallel,
    Schedule,
    Sequential,
    TrainerSettings,
)
from fxtransport.training.randomness import seed_all

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
        model = build(self.spec, pretrained=pretrained, **self.options)
        if new and config.get("model.init"):
            nets.initialize(model, config["model.init"], config["model.gain"])
        example = example_of(model, torch.empty(2, *self.shape, device="meta"))
        cuts = tuple(config.get("program.cuts") or ())
        modules = config.get("program.modules") or 1
        if config["program.blockwise"]:
            modules = _most_modules(model, example)
        program = transportify(
            model,
            example.inputs,
            modules=modules,
            balance=config["program.balance"],
            weight=config.get("program.weight") or "activations",
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
        if shapes != [(classes,)]:
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
    probe = build(spec, device=None if spec.library == "file" else "meta", **given)
    sized, shape = _sized(spec, probe, config.get("model.image_size"), given)
    splits = _load(config, shape, _normalisation(config, probe))
    classes = {"num_classes": splits.num_classes} if _takes(spec, "num_classes") else {}
    return Recipe(config, spec, {**classes, **sized, **given}, shape, splits)


def objective_of(config: Config) -> Objective:
    """The objective that is minimised.

    Raises:
        UsageError: a number is out of range.
    """
    found = config.section("objective")
    classification = (
        ReverseCrossEntropy() if found["reverse"] else CrossEntropy(found["label_smoothing"])
    )
    names = ("p", "reduction", "residue", "kinds")
    cost = TransportCost(**{name: found[name] for name in names if name in found})
    return Objective(classification, cost, _weighting(found))


def schedule_of(config: Config) -> Schedule:
    """Which modules train when."""
    found = config.section("schedule")
    kinds = {
        "end-to-end": EndToEnd,
        "parallel": Parallel,
        "sequential": Sequential,
        "multi-lap": MultiLap,
    }
    return kinds[found.pop("name")](**found)


def optimizer_of(config: Config) -> OptimizerSettings:
    """How each module is optimised."""
    return OptimizerSettings(**config.section("optimizer"))


def settings_of(config: Config) -> TrainerSettings:
    """How the trainer runs."""
    return TrainerSettings(**{**config.section("trainer"), "device": device_of(config)})


def device_of(config: Config) -> str:
    """Where to train, as torch names it."""
    return config.get("trainer.device") or ("cuda" if torch.cuda.is_available() else "cpu")


def _load(config: Config, shape: tuple[int, ...], transform: dict[str, Any]) -> Splits:
    """The data in the shape that a model takes."""
    found = config.section("data")
    options = found.pop("options", {})
    transform = {**transform, **found.pop("transform", {})}
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


def _weighting(found: dict[str, Any]) -> Weighting:
    if "lambda0" in found:
        kind = Multiplier if found["method"] == "lap" else ModuleMultipliers
        return kind(found["lambda0"], found["lambda_rate"], found["every"], found["order"])
    if "tau" in found:
        return Greedy(found["tau"], found["doubled"])
    return Fixed(found["fixed_weight"]) if "fixed_weight" in found else NoCost()


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


def _most_modules(model: nn.Module, example: Example) -> int:
    """The largest number of modules that a model can be cut into."""
    unit = run_passes(Unit(model, example), (Partition(),))
    boundaries = unit.fact(Boundaries)
    return most_parts(Line(unit, (*boundaries.found, *boundaries.wide)).steps)
