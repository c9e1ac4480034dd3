"""A small model of each of many families, verified in both modes: not a bit differs.

And the auxiliary heads of these models, which cost little. The whole zoo is swept by
``fxtransport zoo --verify-below 60M``; this is its sample for every day, of those that take a few
seconds.
"""

import pytest

from fxtransport import Program
from fxtransport.analysis.bottleneck import most_parts
from fxtransport.analysis.line import legal_line
from fxtransport.compiler import compile_passes
from fxtransport.ir import Balance
from fxtransport.models import resolve
from fxtransport.passes.heads import PlanHeads
from fxtransport.passes.pipeline import run_passes
from fxtransport.targets import compile_target, open_target
from fxtransport.unit import Unit
from fxtransport.zoo.record import Options
from fxtransport.zoo.study import study

TIMM = (
    "cait_xxs24_224 coatnet_pico_rw_224 convit_tiny convnext_atto cpubone_nano crossvit_tiny_240 "
    "cs3darknet_focus_s cspnext_tiny deit_tiny_patch16_224 densenet121 dla46_c dpn48b "
    "eca_vovnet39b edgenext_xx_small efficientformer_l1 efficientformerv2_s0 efficientnet_lite0 "
    "efficientvim_m1 efficientvit_b0 efficientvit_m0 eva02_tiny_patch14_224 fasternet_t0 "
    "fastvit_t8 focalnet_tiny_srf gcvit_xxtiny ghostnet_050 hardcorenas_a hgnetv2_b0 "
    "hrnet_w18_small iformer_t inception_next_atto lambda_resnet26t lcnetv2_base "
    "legacy_seresnet18 levit_128s lowformer_b0 mambaout_femto mobilenetv3_small_050 "
    "mobilevit_xxs nf_regnet_b0 pit_ti_224 poolformer_s12 pvt_v2_b0 rdnet_tiny regnetx_002 "
    "repghostnet_050 repvit_m0_9 res2net50_14w_8s resmlp_12_224 resnest14d resnet10t "
    "resnetv2_18 rexnet_100 selecsls42 shvit_s1 skresnet18 starnet_s050 swiftformer_xs "
    "tiny_vit_5m_224 visformer_tiny vit_tiny_patch16_224 vit_tiny_r_s16_p8_224 "
    "xcit_nano_12_p16_224"
).split()
TORCHVISION = (
    "googlenet lraspp_mobilenet_v3_large mobilenet_v2 r3d_18 shufflenet_v2_x0_5 squeezenet1_1 "
    "swin_t"
).split()
MODULES = 4
MOST = 0.05
"""What a head may cost of its part's FLOPs, and of what it saves for backward."""
CLASSES = {"torchvision:lraspp_mobilenet_v3_large": 21}
"""Of models that return no logits."""
EVERY = Options(verify_below=10**9)


def of_library(library: str, names: list[str]) -> list[str]:
    return [f"{library}:{name}" for name in names]


@pytest.mark.slow
@pytest.mark.parametrize("name", of_library("timm", TIMM) + of_library("torchvision", TORCHVISION))
def test_numbers_are_the_models(name: str) -> None:
    record = study(name, EVERY)
    assert record.refusal is None
    assert record.verified is not None
    assert record.verified.errors == {"train": 0.0, "eval": 0.0}


@pytest.mark.slow
@pytest.mark.parametrize("name", of_library("timm", TIMM) + of_library("torchvision", TORCHVISION))
def test_heads_cost_little(name: str) -> None:
    facts = compile_on_meta(name).facts
    parts = zip(facts.heads.heads[:-1], facts.heads.costs, facts.partition.segments, strict=False)
    for head, cost, part in parts:
        assert cost.parameters
        assert cost.flops <= MOST * part.flops, head
        assert cost.activation_bytes <= MOST * part.activation_bytes, head


def compile_on_meta(name: str) -> Program:
    """A program in as many parts as the model allows, four at most."""
    target = open_target(resolve(name), device="meta")
    unit = Unit(target.model, target.example)
    classes = CLASSES.get(name)
    line = legal_line(run_passes(unit, [PlanHeads(num_classes=classes)]))
    most = most_parts(line.steps(Balance.DEPTH))
    assert most > 1
    passes = compile_passes(modules=min(most, MODULES), num_classes=classes, verify=False)
    return compile_target(target, passes)
