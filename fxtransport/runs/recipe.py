"""The model, the data and the program of a run, built from its configuration."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from fxtransport import nets
from fxtransport.analysis.bottleneck import most_parts
from fxtransport.analysis.hidden import find_logits_node
from fxtransport.analysis.line import legal_line
from fxtransport.compiler import compile_passes
from fxtransport.data import Splits, load
from fxtransport.data.checked import Checked
from fxtransport.data.embedded import EMBEDDED
from fxtransport.data.splits import POINTS
from fxtransport.errors import MODEL_ERRORS, FxTransportError, TraceError, UsageError, first_line
from fxtransport.ir import Balance
from fxtransport.models import resolve, takes_argument
from fxtransport.objectives.transfer_terms import ON_LAYERS
from fxtransport.origin import Origin
from fxtransport.pairing.sites import Pairing, parse_layers, wanted_names
from fxtransport.passes.pipeline import run_passes
from fxtransport.program import Program
from fxtransport.program_options import configure_passes
from fxtransport.randomness import seed_all
from fxtransport.runs.config import Config
from fxtransport.runs.counting import settle_data
from fxtransport.runs.inputs import Inputs
from fxtransport.runs.keys.program import SET_ELSEWHERE, setting_keys
from fxtransport.runs.returns import refuse_boxes
from fxtransport.runs.settings import choose_device, settle
from fxtransport.runs.starting import start_from
from fxtransport.submodule import Target
from fxtransport.targets import compile_target, open_target
from fxtransport.unit import Unit

PREPARED = ("mean", "std", "interpolation", "crop_pct", "crop_mode")
"""What timm says of the images that weights were trained on."""


@dataclass(frozen=True)
class Recipe:
    """What a run's program is built from, and the data that it is for.

    Args:
        config: The run's.
        origin: The model's name with what its constructor is given.
        shape: The shape of one input.
        inputs: How inputs are prepared, and what the classes are called.
        load_data: Loads the splits, once.
        checked: Which of their images were decoded to check them.
    """

    config: Config
    origin: Origin
    shape: tuple[int, ...]
    inputs: Inputs
    load_data: Callable[[], Splits] = field(repr=False, compare=False)
    checked: Checked = field(default_factory=Checked, repr=False, compare=False)

    @property
    def data(self) -> Splits:
        """The splits; those of a run that was loaded are read now.

        Raises:
            UsageError: they cannot be loaded.
        """
        return self.load_data()

    def program(
        self, *, new: bool = True, tell: Callable[[str], object] = lambda _: None
    ) -> Program:
        """Build the model, and compile it.

        Args:
            new: For a new run: weights are fetched or initialized as the configuration says, and
                numbers are compared with the model's. Otherwise weights are about to be loaded.
            tell: Is told in words which weights came from ``model.initial_checkpoint``.

        Raises:
            FxTransportError: the model cannot be built, compiled or cut, or its logits are not
                for as many classes as the data has.
        """
        config = self.config
        seed_all(config["trainer.seed"])
        target = self.target(pretrained=new and config["model.pretrained"])
        if new and config.get("model.init"):
            nets.initialize(target.model, config["model.init"], config["model.gain"])
        if new and config.get("model.initial_checkpoint"):
            source = Path(config["model.initial_checkpoint"])
            tell(start_from(target.model, source, self.data.num_classes))
        with _report_failures():
            settings = self.settings(target)
            passes = compile_passes(**settings, verify=new and config["program.verify"])
            try:
                program = compile_target(target, passes)
            except TraceError as error:
                refuse_boxes(target, error)
                raise
        self._check_logits(program)
        return program

    def target(self, *, pretrained: bool = False, with_data: bool = True) -> Target:
        """The model, with an example of its input.

        Args:
            pretrained: Fetch weights.
            with_data: Allocate weights. A factory in a file always does.
        """
        on_meta = not with_data and resolve(self.origin.model).library != "file"
        return open_target(
            self.origin.model,
            options=self.origin.options,
            pretrained=pretrained,
            input_size=self.config.get("model.input_size"),
            device="meta" if on_meta else None,
        )

    def settings(self, target: Target) -> dict[str, Any]:
        """The options of the program."""
        found = self.config.section("program")
        settings = {
            name: found[name]
            for name in setting_keys()
            if name in found and name not in SET_ELSEWHERE
        }
        settings["batch_size"] = self.config["data.batch_size"]
        settings["num_classes"] = self.inputs.num_classes
        settings["projection_inputs"] = self.config.get("objective.projections") is not None
        settings["optimizer"] = self.config["optimizer.name"]
        settings["amp"] = self.config.get("trainer.amp") or "none"
        layers = student_layers(self.config)
        if layers is not None:
            settings["activations"] = wanted_names(
                layers, 0, target.model, target.example, configure_passes(settings)
            )
        if found["blockwise"]:
            settings["modules"] = _most_modules(target, settings)
        return settings

    def _check_logits(self, program: Program) -> None:
        """Check that the model is a classifier of as many classes as there are."""
        facts, classes = program.facts, self.inputs.num_classes
        node = find_logits_node(facts.graph, facts.shapes)
        # some return something else in train mode, such as Inception
        nodes = facts.graph.output_node().all_input_nodes if node is None else [node]
        specs = facts.shapes.specs
        shapes = [tuple(specs[n.name].shape[1:]) for n in nodes if n.name in specs]
        if (classes,) in shapes:
            return
        model = self.origin.model
        if any(len(shape) > 1 for shape in shapes):
            found = " and ".join("×".join(map(str, shape)) for shape in shapes)
            raise UsageError(
                f"{model} returns {found} for each image, as models do that segment or describe "
                f"places, and not one number for each of {classes} classes: choose a classifier"
            )
        raise UsageError(
            f"{model} returns {shapes}, and {self.config['data.name']} has {classes} classes; "
            "choose a classifier, or set their number in model.options"
        )


def student_layers(config: Config) -> Pairing | None:
    """Which layers a run pairs with a teacher's; None where it compares none."""
    terms = config.get("transfer.regularizer") or {}
    return parse_layers(config["transfer.layers"]) if set(terms) & set(ON_LAYERS) else None


def make_recipe(
    config: Config, inputs: Inputs | None = None, checked: Checked | None = None
) -> Recipe:
    """Find the model, and load the data unless all that a model must know of it is known.

    Args:
        config: The run's.
        inputs: What the run noted of its data when it began; None: the data is loaded.
        checked: What it noted of its images, which need not be decoded once more.

    Raises:
        UsageError: there is no such model or data, or they do not fit together.
    """
    config = settle(config)
    spec = resolve(config["model.name"])
    options = config.get("model.options") or {}
    # a factory in a file may need real tensors
    probe = open_target(
        spec,
        options=options,
        input_size=config.get("model.input_size"),
        device=None if spec.library == "file" else "meta",
    )
    assert probe.origin is not None
    shape = tuple(probe.example.tensors[0].shape[1:])
    transform = _normalization(config, probe.model)
    checked = Checked() if checked is None else checked
    load_data = functools.cache(functools.partial(_load_data, config, shape, transform, checked))
    if inputs is None:
        data = load_data()
        config, inputs = settle_data(config, data), Inputs.of(data)
    classes = {"num_classes": inputs.num_classes} if takes_argument(spec, "num_classes") else {}
    origin = Origin(spec.canonical, {**classes, **probe.origin.options})
    return Recipe(config, origin, shape, inputs, load_data, checked)


def _load_data(
    config: Config, shape: tuple[int, ...], transform: dict[str, Any], checked: Checked
) -> Splits:
    """The data in the shape that a model takes."""
    found = config.section("data")
    name, options = found.pop("name"), found.pop("options", {})
    transform = {**transform, **found.pop("transform", {})}
    for argument in inspect.signature(load).parameters:
        if argument in options:
            raise UsageError(f"{argument} is not an option of one set: data.options cannot set it")
    try:
        return load(
            name,
            seed=config["trainer.seed"],
            input_size=shape,
            transform=transform,
            checked=checked,
            pin_memory=choose_device(config).startswith("cuda"),
            **found,
            **options,
        )
    except FxTransportError:
        raise
    except MODEL_ERRORS as error:
        raise UsageError(
            f"cannot load the data {name}: {type(error).__name__}: {first_line(error)}"
        ) from error


def _normalization(config: Config, model: nn.Module) -> dict[str, Any]:
    """How the images were prepared that pretrained weights were trained on."""
    described: Any = getattr(model, "pretrained_cfg", None)
    if not (config["model.pretrained"] and described) or config["data.name"] in (
        *EMBEDDED,
        *POINTS,
    ):
        return {}
    return {name: described[name] for name in PREPARED if described.get(name)}


def _most_modules(target: Target, settings: Mapping[str, Any]) -> int:
    """The largest number of parts that a model can be cut into, each with a head."""
    unit = run_passes(Unit(target.model, target.example), configure_passes(settings))
    return most_parts(legal_line(unit).steps(Balance.DEPTH))


@contextmanager
def _report_failures() -> Iterator[None]:
    """Turn an error of the compiler itself into one line."""
    try:
        yield
    except FxTransportError:
        raise
    except MODEL_ERRORS as error:
        reason = f"the compiler failed: {type(error).__name__}: {first_line(error)}"
        raise TraceError(reason) from error
