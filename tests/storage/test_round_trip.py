"""Programs that are saved come back the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import fxtransport
from fxtransport import compile_named, load, save, transportify
from fxtransport.models import build, resolve
from fxtransport.origin import Origin
from fxtransport.saved import CODE, WEIGHTS
from fxtransport.storage import DESCRIPTION
from tests.storage.programs import assert_same, program_of

PIPELINE = (
    "record,residuals,layers,trace,taps,boundaries,costs,heads{head=token},partition{modules=2},"
    "lower,verify"
)
"""The order that ran, with every option that is not a default."""


def test_public_names_are_those_of_the_module() -> None:
    assert fxtransport.load is load
    assert fxtransport.save is save


def test_round_trip_is_equal_bit_for_bit(file: Path, tmp_path: Path) -> None:
    program = program_of(f"{file}:Net", modules=2)
    save(program, tmp_path / "new" / "net", model=f"{file}:Net")
    loaded = load(tmp_path / "new" / "net", trust_files=True)
    assert_same(loaded, program)
    assert loaded.training
    x = torch.randn(3, 6)
    for mode in (True, False):
        torch.testing.assert_close(loaded.train(mode)(x), program.train(mode)(x), rtol=0, atol=0)
    hidden = loaded.parts[0](x)
    assert torch.equal(hidden.logits, program.parts[0](x).logits)
    assert [str(p) for p in loaded.facts.partition.cuts] == [
        str(p) for p in program.facts.partition.cuts
    ]


def test_the_description_says_what_it_is(saved: Path, file: Path) -> None:
    description = json.loads((saved / DESCRIPTION).read_text())
    assert description["model"] == f"{file}:Net"
    assert description["pipeline"] == PIPELINE
    assert description["cuts"] == ["0"]
    assert description["inputs"] == [{"shape": [6], "dtype": "float32"}]
    assert description["versions"].keys() == {"fxtransport", "torch", "torchvision", "timm"}
    assert {path.name for path in saved.iterdir()} == {DESCRIPTION, WEIGHTS, CODE}


def test_the_code_is_never_executed(folder: Path) -> None:
    code = (folder / CODE).read_text()
    assert "# part 1" in code
    compile(code, CODE, "exec")
    (folder / CODE).write_text("raise SystemExit('executed')")
    load(folder, trust_files=True)


@pytest.mark.parametrize(
    "name",
    [
        "resnet18",
        "torchvision:mobilenet_v3_small",
        pytest.param("swin_tiny", marks=pytest.mark.slow),
        pytest.param("levit_128", marks=pytest.mark.slow),
    ],
)
def test_models_of_the_zoos(name: str, tmp_path: Path) -> None:
    program = transportify(
        build(resolve(name)), torch.zeros(2, 3, 224, 224), modules=3, verify=False
    )
    save(program, tmp_path, model=name)
    loaded = load(tmp_path, trust_files=True)
    assert_same(loaded, program)
    x = torch.randn(1, 3, 224, 224)
    assert torch.equal(loaded.eval()(x), program.eval()(x))


def test_options_of_the_constructor_come_back(file: Path, tmp_path: Path) -> None:
    options = {"width": 5, "depth": 4}
    program = program_of(f"{file}:Net", **options)
    save(program, tmp_path, model=f"{file}:Net", **options)
    assert_same(load(tmp_path, trust_files=True), program)


def test_a_program_made_from_a_name_knows_it(file: Path, tmp_path: Path) -> None:
    program = compile_named(f"{file}:Net", options={"width": 5}, modules=2, head="token")
    save(program, tmp_path)
    loaded = load(tmp_path, trust_files=True)
    assert_same(loaded, program)
    assert loaded.facts.origin == program.facts.origin == Origin(f"{file}:Net", {"width": 5})
    # and it can be saved again
    save(loaded, tmp_path)


def test_a_submodule_of_a_name(file: Path, tmp_path: Path) -> None:
    program = compile_named(f"{file}:Words", submodule="blocks", input_size="6,", head="none")
    save(program, tmp_path)
    loaded = load(tmp_path, trust_files=True)
    assert_same(loaded, program)
    assert loaded.facts.origin == Origin(f"{file}:Words#blocks")


def test_options_of_timm(tmp_path: Path) -> None:
    options: dict[str, Any] = {"num_classes": 7, "in_chans": 1, "depth": 2, "drop_path_rate": 0.1}
    model = build(resolve("vit_tiny"), **options)
    program = transportify(model, torch.zeros(2, 1, 224, 224), verify=False)
    save(program, tmp_path, model="vit_tiny", **options)
    loaded = load(tmp_path, trust_files=True)
    assert_same(loaded, program)
    assert json.loads((tmp_path / DESCRIPTION).read_text())["options"] == options


def test_tied_weights_stay_tied(file: Path, tmp_path: Path) -> None:
    program = program_of(f"{file}:Tied", modules=2)
    save(program, tmp_path, model=f"{file}:Tied")
    loaded = load(tmp_path, trust_files=True)
    assert_same(loaded, program)
    assert loaded.get_parameter("0.linear.weight") is loaded.get_parameter("1.linear.weight")


def test_integer_inputs_and_buffers_that_are_not_saved(file: Path, tmp_path: Path) -> None:
    model = build(resolve(f"{file}:Words"))
    words = torch.zeros(2, 9, dtype=torch.int64)
    program = transportify(model, words, modules=2)
    save(program, tmp_path, model=f"{file}:Words")
    loaded = load(tmp_path, trust_files=True)
    assert_same(loaded, program)
    assert torch.equal(loaded.eval()(words), program.eval()(words))


@pytest.mark.parametrize("before", [True, False])
def test_half_precision_stays(file: Path, tmp_path: Path, before: bool) -> None:
    model = build(resolve(f"{file}:Net"))
    if before:
        model.bfloat16()
        program = transportify(model, torch.zeros(2, 6, dtype=torch.bfloat16), modules=2)
    else:
        program = transportify(model, modules=2).bfloat16()
    save(program, tmp_path, model=f"{file}:Net")
    loaded = load(tmp_path, trust_files=True)
    assert_same(loaded, program)
    x = torch.randn(3, 6, dtype=torch.bfloat16)
    assert torch.equal(loaded.eval()(x), program.eval()(x))


def test_layouts_in_memory_do_not_matter(tmp_path: Path) -> None:
    model = build(resolve("torchvision:mobilenet_v3_small")).to(memory_format=torch.channels_last)
    program = transportify(model, torch.zeros(2, 3, 32, 32), verify=False)
    save(program, tmp_path, model="torchvision:mobilenet_v3_small")
    assert_same(load(tmp_path, trust_files=True), program)


@pytest.mark.cuda
def test_weights_on_a_gpu_come_back_on_the_cpu(file: Path, tmp_path: Path) -> None:
    program = program_of(f"{file}:Net", modules=2).cuda()
    save(program, tmp_path, model=f"{file}:Net")
    loaded = load(tmp_path, trust_files=True)
    assert {p.device.type for p in loaded.parameters()} == {"cpu"}
    assert_same(loaded, program.cpu())
