"""Features are what hooks on the plain model give, in whatever way they are run."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxtransport import transportify
from fxtransport.detection import TransportFeatures
from fxtransport.detection.features import Moments
from fxtransport.errors import UsageError
from fxtransport.input_size import InputSize
from fxtransport.ir import Kind
from fxtransport.models import build, resolve, size_options
from fxtransport.residue import Residue
from tests.networks import Neither, Net, Plain

quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@dataclass
class Hooked:
    """The features of residues that hooks on a plain model see, in float64."""

    model: nn.Module
    rows: list[Tensor] = field(default_factory=list)
    started: dict[str, Tensor] = field(default_factory=dict)

    def take(self, residue: Tensor) -> None:
        """The two numbers, at once: models overwrite their residues."""
        flat = residue.detach().flatten(1).double()
        d = flat.shape[1]
        # torch's cosine_similarity takes a norm below 1e-8 for 1e-8
        pair = flat.square().sum(1) / d, flat.sum(1) / (flat.norm(dim=1) * math.sqrt(d))
        self.rows.append(torch.stack(pair, dim=1))

    def branch(self, path: str) -> None:
        """What a module returns is a residue."""
        self.model.get_submodule(path).register_forward_hook(lambda _, __, out: self.take(out))

    def layer(self, first: str, last: str) -> None:
        """What the last of some modules returns, minus what the first is given, is a residue."""

        def start(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self.started[first] = inputs[0].clone()

        def end(_: nn.Module, __: Any, output: Tensor) -> None:
            self.take(output - self.started[first])

        self.model.get_submodule(first).register_forward_pre_hook(start)
        self.model.get_submodule(last).register_forward_hook(end)

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.rows.clear()
        with torch.no_grad():
            logits = self.model(images)
        return logits, torch.cat(self.rows, dim=1)


def branches(model: nn.Module) -> Iterator[str]:
    """The modules whose outputs are the residues, by the code of timm and torchvision."""
    for path, module in model.named_modules():
        kind = type(module).__name__
        if kind == "BasicBlock":
            yield f"{path}.bn2"
        elif kind == "Bottleneck":
            yield f"{path}.bn3"
        elif kind in ("Block", "SwinTransformerBlock"):
            yield from (f"{path}.drop_path1", f"{path}.drop_path2")
        elif kind == "MBConv" and module.use_res_connect:
            yield f"{path}.stochastic_depth"


def hooked(model: nn.Module, name: str) -> Hooked:
    found = Hooked(model)
    for path in branches(model):
        found.branch(path)
    if "vgg" in name:
        units = [i for i, m in enumerate(model.features) if isinstance(m, nn.Conv2d)]
        for i in units:
            if model.features[i].in_channels == model.features[i].out_channels:
                found.layer(f"features.{i}", f"features.{i + 2}")
    return found


MODELS = {
    "torchvision:resnet18": 8,
    "torchvision:resnext50_32x4d": 16,
    "timm:vit_tiny_patch16_224": 24,
    "timm:swin_tiny_patch4_window7_224": 24,
    "torchvision:efficientnet_b0": 9,
    "torchvision:vgg11_bn": 4,
}
FAST = ("torchvision:resnet18",)


def images_of(size: int, batch: int = 3) -> Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in MODELS]
)
def test_features_are_those_that_hooks_give(name: str, dtype: torch.dtype) -> None:
    """Of every tapped block, projections included, and of layers where there are no blocks."""
    spec = resolve(name)
    model = build(spec, **size_options(spec, InputSize.parse(64), {})).eval().to(dtype)
    images = images_of(64).to(dtype)
    program = transportify(copy.deepcopy(model), images, verify=False)
    logits, features = TransportFeatures(program)(images)
    plain, expected = hooked(model, name).features(images)
    assert torch.equal(logits, plain)
    assert features.dtype == torch.float32
    assert features.shape == (3, 2 * MODELS[name])
    torch.testing.assert_close(features.double(), expected, rtol=2e-5, atol=2e-6)


class Steps(nn.Module):
    """Blocks that add what they are told to, so that the residues are known."""

    def __init__(self, *factors: float) -> None:
        super().__init__()
        self.scales = nn.ParameterList(nn.Parameter(torch.tensor(f)) for f in factors)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        for scale in self.scales:
            x = x + self.drop(F.leaky_relu(x, 1.0) * scale)
        return x.flatten(1)


def extractor_of(
    model: nn.Module, images: Tensor, kinds: Any = None, **options: Any
) -> TransportFeatures:
    return TransportFeatures(transportify(model, images), kinds, **options)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_residue_of_zeros_has_the_cosine_zero_and_a_gradient(compiled: bool) -> None:
    images = torch.randn(2, 4, 4, 4)
    extract: Any = extractor_of(Steps(0.0, 1.0), images, differentiable=True).eval()
    if compiled:
        torch.compiler.reset()
        extract = torch.compile(extract, fullgraph=True, backend="eager")
    images.requires_grad_()
    _, features = extract(images)
    assert torch.equal(features[:, :2], torch.zeros(2, 2))
    assert (features[:, 2] > 0).all()
    (gradient,) = torch.autograd.grad(features.sum(), images)
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sums_of_half_precision_are_in_single(dtype: torch.dtype) -> None:
    """Squares of 300 overflow float16, and a sum of 65536 ones stops growing in bfloat16."""
    images = torch.full((2, 1, 256, 256), 300.0, dtype=dtype)
    model = Steps(1.0).to(dtype)
    _, features = extractor_of(model, images)(images)
    torch.testing.assert_close(features, torch.tensor([[90000.0, 1.0]] * 2))


def test_sums_of_long_rows_are_exact() -> None:
    """torch's norm of 2²⁰ equal numbers is wrong in the fourth digit."""
    for shape in ((2, 1, 1024, 1024), (2, 64, 128, 128), (2, 1 << 20)):
        images = torch.full(shape, 3.0)
        images[1] = torch.randn(shape[1:])
        for layout in (torch.contiguous_format, torch.channels_last):
            if len(shape) == 4:
                images = images.to(memory_format=layout)
            residue = Residue(Kind.IDENTITY, (images,), images, images)
            extract = extractor_of(Steps(1.0), images[:, ..., :2])
            moments = Moments(extract)
            moments(residue)
            flat = images.double().flatten(1)
            energies, means = flat.square().mean(1), flat.mean(1)
            expected = torch.stack([energies, means / energies.sqrt()], dim=1)
            found = moments.features(images).double()
            torch.testing.assert_close(found, expected, rtol=2e-5, atol=1e-6)


def test_features_of_double_precision_are_single() -> None:
    images = torch.randn(2, 1, 3, 3, dtype=torch.float64)
    logits, features = extractor_of(Steps(1.0).double(), images)(images)
    assert (logits.dtype, features.dtype) == (torch.float64, torch.float32)


def test_the_order_in_memory_does_not_matter(net: nn.Module, images: Tensor) -> None:
    extract = extractor_of(net.eval(), images)
    expected = extract(images)
    for found, value in zip(
        extract(images.to(memory_format=torch.channels_last)), expected, strict=True
    ):
        torch.testing.assert_close(found, value)


def test_infinities_and_nan_are_not_hidden() -> None:
    images = torch.ones(3, 1, 2, 2)
    images[0, 0, 0, 0] = math.nan
    images[1, 0, 0, 0] = math.inf
    _, features = extractor_of(Steps(1.0), images)(images)
    assert features.isfinite().all(1).tolist() == [False, False, True]


def test_kinds_are_those_of_the_blocks() -> None:
    model = build(resolve("torchvision:resnet18")).eval()
    images = images_of(32)
    program = transportify(model, images, verify=False)
    every = TransportFeatures(program)
    assert [str(block.kind) for block in every.blocks].count("projection") == 3
    for kind, count in (("identity", 5), ("projection", 3)):
        extract = TransportFeatures(program, [kind])
        columns = [i for i, c in enumerate(every.columns) if c in extract.columns]
        assert len(columns) == 2 * count
        assert torch.equal(extract(images)[1], every(images)[1][:, columns])
    taps_fewer = transportify(model, images, verify=False, kinds=["identity"])
    assert len(TransportFeatures(taps_fewer).blocks) == 5
    with pytest.raises(UsageError, match=r"of kind projection is tapped.*of kind identity$"):
        TransportFeatures(taps_fewer, ["projection"])
    for wrong in ("inner", ["nonsense"]):
        with pytest.raises(UsageError, match="kinds are identity, projection, identity_bn, not"):
            TransportFeatures(program, wrong)


def test_further_directions_are_orthogonal_and_come_last() -> None:
    """A residue that is one of them has the cosine 1 with it, and 0 with all others."""
    n = 6
    position = torch.arange(n) + 0.5
    waves = torch.stack([torch.cos(math.pi * j * position / n) for j in range(4)])
    images = waves[:, :, None, None].expand(4, n, 2, 3).clone()

    model = Steps(1.0, 1.0)
    extract = extractor_of(model, images, directions=4)
    _, features = extract(images)
    cosines = torch.cat([features[:, 1:4:2], features[:, 4:]], dim=1)
    assert features.shape == (4, 2 * 2 + 3 * 2)
    assert extract.columns[4:] == tuple(f" cosine {j}" for j in (1, 2, 3)) * 2
    for block in range(2):
        own = cosines[:, [block, *range(2 + 3 * block, 5 + 3 * block)]]
        torch.testing.assert_close(own, torch.eye(4), rtol=0, atol=1e-6)
    one = extractor_of(model, images)
    torch.testing.assert_close(features[:, :4], one(images)[1])
    with pytest.raises(UsageError, match=r"has 6 channels, which have as many directions, not 7$"):
        TransportFeatures(extract.program, directions=7)
    with pytest.raises(UsageError, match="1 or more, not 0"):
        TransportFeatures(extract.program, directions=0)


def test_modes_are_as_they_were(net: nn.Module, images: Tensor) -> None:
    """Features are those of eval mode, in whatever mode the modules are."""
    extract = extractor_of(net, images)
    net.eval()
    expected = extract(images)
    for mode in (True, False):
        net.train(mode)
        net.blocks[0].train(not mode)
        before = [module.training for module in net.modules()]
        buffers = [buffer.clone() for buffer in net.buffers()]
        for found, value in zip(extract(images), expected, strict=True):
            assert torch.equal(found, value)
        assert before == [module.training for module in net.modules()]
        assert all(map(torch.equal, net.buffers(), buffers))


def test_gradients_are_kept_only_where_wanted(net: nn.Module, images: Tensor) -> None:
    images.requires_grad_()
    program = transportify(net.eval(), images)
    assert not any(value.requires_grad for value in TransportFeatures(program)(images))
    _, features = TransportFeatures(program, differentiable=True)(images)
    expected = net.residues(images)
    by_hand = torch.autograd.grad(
        sum(e.square().flatten(1).mean(1).sum() for e in expected), images
    )
    found = torch.autograd.grad(features[:, ::2].sum(), images)
    torch.testing.assert_close(found, by_hand)
    assert torch.is_grad_enabled()
    with torch.no_grad():
        assert not TransportFeatures(program, differentiable=True)(images)[1].requires_grad


def test_what_has_no_trajectory_is_refused() -> None:
    with pytest.raises(UsageError, match="no residual block and no layer that keeps its shape"):
        extractor_of(Neither(), torch.randn(2, 8))


def test_rows_that_are_not_images_are_refused() -> None:
    """A model that adds within windows has several rows for each image."""

    class Windows(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            windows = x.reshape(-1, 2, 4)
            return (windows + super().forward(windows)).reshape(x.shape).mean(1)

    images = torch.randn(3, 6, 4)
    with pytest.raises(UsageError, match=r"has 9 rows for 3 images: its first dimension is not"):
        extractor_of(Windows(4, 4), images)(images)


def test_logits_are_found_in_what_the_model_returns() -> None:
    class Returns(nn.Linear):
        def __init__(self, key: str) -> None:
            super().__init__(4, 4)
            self.key = key

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            y = x + super().forward(x)
            return {self.key: y, "hidden": x}

    images = torch.randn(2, 4)
    model = Returns("logits")
    logits, _ = extractor_of(model, images)(images)
    assert torch.equal(logits, model(images)["logits"])
    with pytest.raises(UsageError, match="cannot take logits from a dict"):
        extractor_of(Returns("other"), images)(images)


SMALL = [Net, Plain]


def small(kind: type[nn.Module]) -> tuple[TransportFeatures, Tensor, Tensor]:
    """An extractor, and images of two batch sizes."""
    model = kind().eval()
    images, more = torch.randn(3, *model.input_size), torch.randn(5, *model.input_size)
    return extractor_of(model, images, directions=3).eval(), images, more


def assert_close(found: Any, expected: Any) -> None:
    for value, other in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.as_tensor(value), other, rtol=1e-4, atol=1e-5)


@quiet
@pytest.mark.parametrize("kind", SMALL)
def test_compiled(kind: type[nn.Module]) -> None:
    """As one graph, also for another batch size."""
    extract, images, more = small(kind)
    torch.compiler.reset()
    compiled = torch.compile(extract, fullgraph=True)
    for batch in (images, more):
        assert_close(compiled(batch), extract(batch))


@quiet
def test_a_program_in_train_mode_is_not_compiled(net: nn.Module, images: Tensor) -> None:
    extract = extractor_of(net.train(), images)
    with pytest.raises(UsageError, match=r"call eval\(\) before it is compiled"):
        torch.export.export(extract, (images,))


DYNAMIC = ({0: torch.export.Dim.DYNAMIC},)


@quiet
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("kind", SMALL)
def test_exported(kind: type[nn.Module], strict: bool) -> None:
    extract, images, more = small(kind)
    torch.compiler.reset()
    exported = torch.export.export(extract, (images,), dynamic_shapes=DYNAMIC, strict=strict)
    for batch in (images, more):
        assert_close(exported.module()(batch), extract(batch))


@quiet
@pytest.mark.slow
@pytest.mark.parametrize("kind", SMALL)
def test_onnx(kind: type[nn.Module], tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    extract, images, more = small(kind)
    file = tmp_path / "features.onnx"
    torch.onnx.export(extract, (images,), file, dynamo=True, dynamic_shapes=DYNAMIC, verbose=False)
    session = onnxruntime.InferenceSession(file)
    assert [entry.name for entry in session.get_inputs()] == ["images"]
    assert_close(session.run(None, {"images": more.numpy()}), extract(more))


def test_compiled_extractors_name_their_columns() -> None:
    extract, _, _ = small(Plain)
    assert len(extract.columns) == 4 * len(extract.blocks)
    assert len(extract.blocks) == 4
