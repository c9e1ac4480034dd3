"""What is observed of images: the arrays, their hashes, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fxtransport import image_extractor
from fxtransport.detection import Extractor
from fxtransport.detection.extractor import default_layers
from fxtransport.detection.hashes import image_hashes
from fxtransport.errors import UsageError
from fxtransport.models import build, resolve
from tests.networks import DigitsNet, Net, Plain

quiet = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def images_of(count: int = 3, size: int = 8) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def small(**options: Any) -> Extractor:
    return image_extractor(Net(), torch.zeros(2, 3, 8, 8), **options).eval()


def averages(model: nn.Module, paths: list[str], images: Tensor, space: Any) -> list[Tensor]:
    """What hooks see leave some modules, averaged over space."""
    found: list[Tensor] = []
    handles = [
        model.get_submodule(path).register_forward_hook(
            lambda _, __, out: found.append(out.mean(space))
        )
        for path in paths
    ]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize(
    ("name", "size", "paths", "space", "before"),
    [
        ("torchvision:resnet18", 32, [f"layer{k}" for k in (1, 2, 3, 4)], (2, 3), "fc"),
        pytest.param(
            "timm:swin_tiny_patch4_window7_224",
            64,
            [f"layers.{k}.blocks.{last}" for k, last in enumerate((1, 1, 5, 1))],
            (1, 2),
            "head.fc",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "timm:vit_tiny_patch16_224",
            32,
            [f"blocks.{k}" for k in (2, 5, 8, 11)],
            1,
            "head",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_arrays_are_those_that_hooks_see(
    name: str, size: int, paths: list[str], space: Any, before: str
) -> None:
    options = {} if "resnet" in name else {"img_size": size}
    model = build(resolve(name), **options).eval()
    images = images_of(size=size)
    extract = image_extractor(model, images, mean=MEAN, std=STD, verify=False)
    observed = extract.observe([images[:2], (images[2:], torch.zeros(1))])
    entering: list[Tensor] = []
    model.get_submodule(before).register_forward_pre_hook(lambda _, a: entering.append(a[0]))
    normalized = (images - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    layers = averages(model, paths, normalized, space)
    logits, features = extract.features(normalized)
    expected = {"transport": features, "logits": logits, "penultimate": entering[0]}
    expected |= {f"layer.{k}": value for k, value in enumerate(layers)}
    assert list(observed.values) == list(expected)
    for key, value in expected.items():
        assert observed[key].dtype == np.float32
        torch.testing.assert_close(torch.from_numpy(observed[key]), value, rtol=1e-4, atol=1e-5)
    assert observed.hashes == image_hashes(images)


def test_layers_are_stages_or_chosen_evenly() -> None:
    twelve = image_extractor(DigitsNet(12), torch.zeros(2, 1, 8, 8)).blocks
    assert default_layers(twelve) == (2, 5, 8, 11)
    assert default_layers(twelve[:3]) == (0, 1, 2)
    three = image_extractor("nets:resnet110", input_size=32, verify=False, activations=())
    assert len(three.blocks) == 54
    assert default_layers(three.blocks) == (17, 35, 53)
    chosen = small(layers=[3, 1])
    assert chosen.layers == (1, 3)
    with pytest.raises(UsageError, match="there are blocks 0 to 3, and no 4"):
        small(layers=[4])


def test_equal_dimension_layers_are_read() -> None:
    images = torch.randn(2, 4, 8, 8)
    model = Plain().eval()
    observed = image_extractor(model, images).observe([images])
    expected = averages(model, ["1", "3", "5", "7"], images, (2, 3))
    for k, value in enumerate(expected):
        torch.testing.assert_close(torch.from_numpy(observed[f"layer.{k}"]), value)


def test_modes_and_gradients_are_left_alone() -> None:
    extract = small()
    extract.program.train()
    images = images_of().requires_grad_()
    found = extract(images)
    assert extract.program.training
    assert not any(value.requires_grad for value in found.values())
    extract.program.eval()
    for name, value in extract(images).items():
        assert torch.equal(value, found[name])


def test_what_is_not_an_image_is_refused() -> None:
    extract = small(mean=MEAN, std=STD)
    good = images_of()
    for value in (float("nan"), float("inf")):
        bad = images_of()
        bad[1, 0, 3, 3] = value
        with pytest.raises(UsageError, match=r"image 4 holds NaN or infinities \(1 of 3 images do"):
            extract.observe([good, bad])
    for batches in ([], [good[:0]]):
        with pytest.raises(UsageError, match="no images to look at"):
            extract.observe(batches)
    for wrong, words in (
        (good * 255, "divide by 255"),
        (good - 1, "divide by 255"),
        ((good * 255).byte(), r"floating-point numbers, not torch.uint8"),
        ("image", "floating-point numbers, not str"),
        (good[0], r"of shape \(8, 8\); the model takes \(3, 8, 8\)"),
        (good[:, :1], r"of shape \(1, 8, 8\); the model takes \(3, 8, 8\)"),
    ):
        with pytest.raises(UsageError, match=words):
            extract.observe([wrong])


def test_what_overflows_in_the_model_is_refused() -> None:
    """Never a verdict on NaN, by whatever it came about."""
    extract = small()
    images = images_of()
    images[2] *= 1e38
    with pytest.raises(UsageError, match=r"transport of image 5 holds NaN or infinities"):
        extract.observe([images_of(), images])


def test_normalizations_are_checked() -> None:
    for options in ({"mean": MEAN}, {"std": STD}):
        with pytest.raises(UsageError, match="both mean and std, or neither"):
            small(**options)
    for std in ((1.0, 0.0, 1.0), (1.0, 1.0), (1.0, float("nan"), 1.0)):
        with pytest.raises(UsageError, match="deviations above 0"):
            small(mean=MEAN, std=std)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_images_are_converted_to_the_dtype_of_the_model(dtype: torch.dtype) -> None:
    """Normalization is in single precision at least, and hashes are of what was given."""
    extract = image_extractor(Net(), torch.zeros(2, 3, 8, 8), mean=MEAN, std=STD)
    expected = extract.observe([images_of()])
    extract.program.to(dtype)
    for images in (images_of(), images_of().double()):
        found = extract.observe([images])
        assert found.hashes == expected.hashes
        for name, value in expected.values.items():
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], value, rtol=0.1, atol=0.05)


def test_progress_is_told() -> None:
    told: list[int] = []
    small().observe([images_of(2), images_of(3)], told.append)
    assert told == [2, 5]


def test_hashes_are_of_content() -> None:
    images = images_of()
    images[2] = images[0]
    one, two, three = image_hashes(images)
    assert one == three != two
    assert image_hashes(images.double()[:1]) == (one,)
    zeros = torch.zeros(1, 1, 2, 3)
    assert image_hashes(zeros) == image_hashes(-zeros)
    assert image_hashes(zeros) != image_hashes(zeros.reshape(1, 1, 3, 2))


@quiet
def test_compiled_and_exported() -> None:
    extract = small(mean=MEAN, std=STD)
    torch.compiler.reset()
    compiled = torch.compile(extract, fullgraph=True, backend="eager")
    exported = torch.export.export(
        extract, (images_of(),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
    ).module()
    for count in (3, 5):
        expected = extract(images_of(count))
        for found in (compiled(images_of(count)), exported(images_of(count))):
            assert list(found) == list(expected)
            for name, value in expected.items():
                torch.testing.assert_close(found[name], value)


@quiet
@pytest.mark.slow
def test_onnx(tmp_path: Path) -> None:
    """The arrays have their names there."""
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    extract = small(mean=MEAN, std=STD)
    names = list(extract(images_of()))
    file = tmp_path / "extractor.onnx"
    torch.onnx.export(
        extract,
        (images_of(),),
        file,
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
        output_names=names,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(file)
    found = session.run(names, {"images": images_of(5).numpy()})
    for name, value in zip(names, found, strict=True):
        expected = extract(images_of(5))[name]
        torch.testing.assert_close(torch.from_numpy(value), expected, rtol=1e-4, atol=1e-5)
