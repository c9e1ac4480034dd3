"""Programs of real models compute the models' numbers: outputs, gradients, buffers."""

import pytest
import torch

from fxtransport.compiler import compile_passes, compile_program
from fxtransport.example_inputs import example_of
from fxtransport.models import build, input_spec, resolve
from fxtransport.passes.verify import Verify

MODELS = (
    "timm:swin_tiny_patch4_window7_224 timm:vit_tiny_patch16_224 timm:deit_tiny_patch16_224 "
    "timm:beit_base_patch16_224 timm:resnet18 timm:resnet50 timm:seresnet50 "
    "timm:resnext50_32x4d timm:nf_resnet26 timm:convnext_tiny timm:efficientnet_b0 "
    "timm:mobilenetv3_large_100 timm:regnety_002 timm:mixer_s32_224 timm:cait_xxs24_224 "
    "timm:levit_128 timm:maxvit_tiny_tf_224 timm:mobilevit_xxs timm:tiny_vit_5m_224 "
    "timm:vgg11_bn timm:densenet121 torchvision:resnet18 torchvision:swin_t "
    "torchvision:vit_b_16 torchvision:convnext_tiny torchvision:vgg11 "
    "torchvision:mobilenet_v3_small torchvision:densenet121"
).split()
SMALLER: dict[str, dict[str, int]] = {
    "torchvision:vit_b_16": {"image_size": 64},
    "timm:beit_base_patch16_224": {"img_size": 64},
}
"""Images that are smaller than the default, which takes a minute."""
QUICK = {"timm:resnet18", "timm:vit_tiny_patch16_224", "timm:levit_128", "timm:mobilevit_xxs"}


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in MODELS]
)
def test_program_equals_model(name: str) -> None:
    """Cut into four, at batch sizes 1 and 3, in both modes: not a bit differs."""
    spec = resolve(name)
    options = SMALLER.get(name, {})
    model = build(spec, **options)
    shape = input_spec(model, spec, **options).shape
    example = example_of(model, torch.empty(2, *shape, device="meta"))
    verify = Verify(batch_sizes=(1, 3))
    passes = (*compile_passes(modules=4, verify=False), verify)
    program = compile_program(model, example, passes)
    report = program.facts.verification
    assert report is not None
    assert report.max_error == 0.0
    # further batch sizes follow where the code looks at a number of pieces
    plain = [c for c in report.checks if not c.setting][:4]
    assert [(c.mode, c.batch_size) for c in plain] == [
        ("train", 1),
        ("train", 3),
        ("eval", 1),
        ("eval", 3),
    ]
    # a batch of one is refused by some models' own batch norms, in train mode only
    assert all(c.refused is None for c in plain if (c.mode, c.batch_size) != ("train", 1))
    assert program.model_state_dict().keys() == model.state_dict().keys()
    parts = {name for part in program.parts for name, _ in part.named_parameters()}
    assert parts >= {name for name, _ in model.named_parameters()}
