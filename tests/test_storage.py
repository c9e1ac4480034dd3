"""Programs and parts that are saved come back the same; what cannot be saved says why."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

import fxtransport
from fxtransport import (
    Part,
    Program,
    compile_named,
    load,
    load_part,
    save,
    save_part,
    transportify,
)
from fxtransport.errors import ModelNameError, SavedProgramError
from fxtransport.files import check_writable
from fxtransport.models import build, resolve
from fxtransport.nets import resnet_m
from fxtransport.origin import Origin
from fxtransport.saved import CODE, WEIGHTS
from fxtransport.storage import DESCRIPTION
from tests.saved_programs import assert_same, program_of


def test_public_names_are_those_of_the_module() -> None:
    assert fxtransport.load is load
    assert fxtransport.save is save


def test_round_trip_is_equal_bit_for_bit(nets: Path, tmp_path: Path) -> None:
    program = program_of(f"{nets}:VectorNet", modules=2)
    save(program, tmp_path / "new" / "net", model=f"{nets}:VectorNet")
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


def test_the_description_says_what_it_is(saved: Path, nets: Path) -> None:
    description = json.loads((saved / DESCRIPTION).read_text())
    assert description["model"] == f"{nets}:VectorNet"
    assert "heads{head=token},partition{modules=2},lower" in description["pipeline"]
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


def test_options_of_the_constructor_come_back(nets: Path, tmp_path: Path) -> None:
    options = {"width": 5, "depth": 4}
    program = program_of(f"{nets}:VectorNet", **options)
    save(program, tmp_path, model=f"{nets}:VectorNet", **options)
    assert_same(load(tmp_path, trust_files=True), program)


def test_a_program_made_from_a_name_knows_it(nets: Path, tmp_path: Path) -> None:
    program = compile_named(f"{nets}:VectorNet", options={"width": 5}, modules=2, head="token")
    save(program, tmp_path)
    loaded = load(tmp_path, trust_files=True)
    assert_same(loaded, program)
    assert loaded.facts.origin == program.facts.origin == Origin(f"{nets}:VectorNet", {"width": 5})
    # and it can be saved again
    save(loaded, tmp_path)


def test_a_submodule_of_a_name(nets: Path, tmp_path: Path) -> None:
    program = compile_named(f"{nets}:Words", submodule="blocks", input_size="6,", head="none")
    save(program, tmp_path)
    loaded = load(tmp_path, trust_files=True)
    assert_same(loaded, program)
    assert loaded.facts.origin == Origin(f"{nets}:Words#blocks")


def test_options_of_timm(tmp_path: Path) -> None:
    options: dict[str, Any] = {"num_classes": 7, "in_chans": 1, "depth": 2, "drop_path_rate": 0.1}
    model = build(resolve("vit_tiny"), **options)
    program = transportify(model, torch.zeros(2, 1, 224, 224), verify=False)
    save(program, tmp_path, model="vit_tiny", **options)
    loaded = load(tmp_path, trust_files=True)
    assert_same(loaded, program)
    assert json.loads((tmp_path / DESCRIPTION).read_text())["options"] == options


def test_tied_weights_stay_tied(nets: Path, tmp_path: Path) -> None:
    program = program_of(f"{nets}:Tied", modules=2)
    save(program, tmp_path, model=f"{nets}:Tied")
    loaded = load(tmp_path, trust_files=True)
    assert_same(loaded, program)
    assert loaded.get_parameter("0.linear.weight") is loaded.get_parameter("1.linear.weight")


def test_integer_inputs_and_buffers_that_are_not_saved(nets: Path, tmp_path: Path) -> None:
    model = build(resolve(f"{nets}:Words"))
    words = torch.zeros(2, 9, dtype=torch.int64)
    program = transportify(model, words, modules=2)
    save(program, tmp_path, model=f"{nets}:Words")
    loaded = load(tmp_path, trust_files=True)
    assert_same(loaded, program)
    assert torch.equal(loaded.eval()(words), program.eval()(words))


@pytest.mark.parametrize("before", [True, False])
def test_half_precision_stays(nets: Path, tmp_path: Path, before: bool) -> None:
    model = build(resolve(f"{nets}:VectorNet"))
    if before:
        model.bfloat16()
        program = transportify(model, torch.zeros(2, 6, dtype=torch.bfloat16), modules=2)
    else:
        program = transportify(model, modules=2).bfloat16()
    save(program, tmp_path, model=f"{nets}:VectorNet")
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
def test_weights_on_a_gpu_come_back_on_the_cpu(nets: Path, tmp_path: Path) -> None:
    program = program_of(f"{nets}:VectorNet", modules=2).cuda()
    save(program, tmp_path, model=f"{nets}:VectorNet")
    loaded = load(tmp_path, trust_files=True)
    assert {p.device.type for p in loaded.parameters()} == {"cpu"}
    assert_same(loaded, program.cpu())


def test_a_save_replaces_an_older_one(folder: Path, nets: Path) -> None:
    program = program_of(f"{nets}:VectorNet", modules=3)
    save(program, folder, model=f"{nets}:VectorNet")
    assert_same(load(folder, trust_files=True), program)


def test_a_folder_that_cannot_be_written(nets: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    program = program_of(f"{nets}:VectorNet")
    for target in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(SavedProgramError, match=rf"^cannot write into {target}: Not a dir"):
            check_writable(target, SavedProgramError)
        with pytest.raises(SavedProgramError, match=r"^cannot write into "):
            save(program, target, model=f"{nets}:VectorNet")


def test_an_unknown_name_is_refused(nets: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNameError, match="no model is called 'no_such_model'"):
        save(program_of(f"{nets}:VectorNet"), tmp_path, model="no_such_model")
    assert not list(tmp_path.iterdir())


def test_a_program_that_knows_no_name_says_what_to_give(nets: Path, tmp_path: Path) -> None:
    with pytest.raises(SavedProgramError, match=r"so give the name.*model=.*num_classes=10\)$"):
        save(program_of(f"{nets}:VectorNet"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "no options is another model than the program's: 0.linear.weight is (6, 6), not (5"),
        ({"width": 5, "depth": 2}, "2.linear.weight is missing, not (5, 5)"),
        ({"width": 5, "deep": 2}, "VectorNet failed"),
    ],
)
def test_another_model_is_refused_at_save_time(
    nets: Path, tmp_path: Path, options: dict[str, int], words: str
) -> None:
    program = program_of(f"{nets}:VectorNet", width=5, depth=4)
    with pytest.raises((SavedProgramError, ModelNameError)) as caught:
        save(program, tmp_path, model=f"{nets}:VectorNet", **options)
    assert words in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_options_without_a_name_are_refused(nets: Path, tmp_path: Path) -> None:
    program = compile_named(f"{nets}:VectorNet")
    with pytest.raises(SavedProgramError, match=r"^width: options go with the argument model"):
        save(program, tmp_path, width=5)


@pytest.fixture
def program() -> Program:
    return compile_named("nets:resnet_m", input_size=8, modules=3, num_classes=10)


def trained_step(part: Part, hidden: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(part.parameters(), lr=0.1)
    output = part.train()(hidden)
    (output.logits.square().mean() + output.costs.sum()).backward()
    optimizer.step()
    return {name: tensor.clone() for name, tensor in part.state_dict().items()}


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_saved_part_trains_as_the_part_does(program: Program, tmp_path: Path, index: int) -> None:
    """A step of what was loaded changes the weights as a step in place does, bit for bit."""
    hidden: Any = torch.randn(4, 1, 8, 8)
    for part in program.parts[:index]:
        hidden = part(hidden).hidden.detach()
    save_part(program.parts[index], tmp_path / "part")
    loaded = load_part(tmp_path / "part")
    found, expected = (trained_step(p, hidden) for p in (loaded, program.parts[index]))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    saved = (tmp_path / "part" / "weights.safetensors").stat().st_size
    assert saved < sum(p.numel() * p.element_size() for p in program.parameters())


def test_copies_and_pickled_parts_know_where_they_are_from(
    program: Program, tmp_path: Path
) -> None:
    part = pickle.loads(pickle.dumps(program.parts[1]))
    save_part(part, tmp_path / "part")
    loaded = load_part(tmp_path / "part")
    assert loaded.index == 1
    assert torch.equal(
        loaded.state_dict()["auxiliary_head.linear.bias"], part.auxiliary_head.linear.bias
    )


def test_buffers_that_are_not_persistent_are_saved(tmp_path: Path) -> None:
    program = compile_named("swin_tiny", input_size=224, modules=2, verify=False)
    save_part(program.parts[0], tmp_path / "part")
    state = dict(load_part(tmp_path / "part").named_buffers())
    expected = dict(program.parts[0].named_buffers())
    assert state.keys() == expected.keys()
    assert set(expected) - program.parts[0].state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


def test_what_cannot_be_saved_or_loaded_is_said(program: Program, tmp_path: Path) -> None:
    nameless = transportify(resnet_m(image_size=8), modules=2)
    with pytest.raises(SavedProgramError, match="not made from a model's name"):
        save_part(nameless.parts[0], tmp_path / "part")
    with pytest.raises(SavedProgramError, match="does not hold a part"):
        load_part(tmp_path / "part")
    save_part(program.parts[0], tmp_path / "part")
    path = tmp_path / "part" / "part.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "part": 7}))
    with pytest.raises(SavedProgramError, match="there is no part 7"):
        load_part(tmp_path / "part")
    path.write_text(json.dumps({**json.loads(path.read_text()), "part": 1}))
    with pytest.raises(SavedProgramError, match="belongs to another part"):
        load_part(tmp_path / "part")


def test_arguments_by_name_are_saved(tmp_path: Path, nets: Path) -> None:
    name = f"{nets}:Masked"
    ids, mask = torch.tensor([[5, 6, 7], [8, 1, 2]]), torch.tensor([[1, 1, 0], [1, 1, 1]])
    program = transportify(build(resolve(name)), {"ids": ids, "mask": mask, "positions": None})
    save(program, tmp_path, model=name)
    loaded = load(tmp_path, trust_files=True).train(program.training)
    assert loaded.facts.example.names == ("ids", "positions", "mask")
    assert loaded.facts.example.inputs[1] is None
    assert torch.equal(loaded(ids, mask=mask), program(ids, mask=mask))
    part = program.parts[0]
    save_part(part, tmp_path / "part", model=name)
    given = (ids, None, mask)
    found = load_part(tmp_path / "part", trust_files=True)(given).hidden
    assert torch.equal(found, part(given).hidden)
