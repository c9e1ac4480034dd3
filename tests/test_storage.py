"""Programs that are saved come back the same, and nothing else comes back at all."""

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

import fxtransport
from fxtransport import Program, load, save, transportify
from fxtransport.errors import ModelNameError, SavedProgramError
from fxtransport.models import build, resolve
from fxtransport.storage import CODE, DESCRIPTION, WEIGHTS, check_writable, graph_hash

FILE = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x):
        return x + self.norm(self.linear(x)).relu()

class Net(nn.Sequential):
    def __init__(self, width=6, depth=3):
        super().__init__(*(Block(width) for _ in range(depth)), nn.Linear(width, 4))
        self.input_size = (width,)

class Tied(Net):
    def __init__(self):
        super().__init__()
        self[1].linear.weight = self[0].linear.weight

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 6)
        self.blocks = nn.Sequential(*(nn.Sequential(Block(6)) for _ in range(2)))
        self.register_buffer("scale", torch.ones(6), persistent=False)

    def forward(self, words):
        return self.blocks((self.embedding(words) * self.scale).mean(1))
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with factories of small models."""
    path = tmp_path_factory.mktemp("models") / "nets.py"
    path.write_text(FILE)
    return path


@pytest.fixture(scope="module")
def saved(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a program of two modules."""
    folder = tmp_path_factory.mktemp("programs") / "net"
    save(compiled(f"{file}:Net", modules=2), folder, model=f"{file}:Net")
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of the folder, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "net"))


def compiled(name: str, *shape: int, modules: int = 1, **options: Any) -> Program:
    """A program with numbers that no fresh model has."""
    torch.manual_seed(1)
    model = build(resolve(name), **options)
    example = torch.zeros(2, *shape) if shape else None
    program = transportify(model, example, modules=modules, head="token")
    with torch.no_grad():
        for tensor in [*program.parameters(), *program.buffers()]:
            if tensor.is_floating_point():
                tensor.add_(torch.rand_like(tensor))
    return program


def assert_same(found: Program, expected: Program) -> None:
    """Same names, same numbers, same dtypes, same functions."""
    state = expected.state_dict()
    assert found.state_dict().keys() == state.keys()
    for name, tensor in found.state_dict().items():
        assert tensor.dtype == state[name].dtype
        assert torch.equal(tensor, state[name]), name
    assert graph_hash(found) == graph_hash(expected)
    assert found.code == expected.code


def test_public_names_are_those_of_the_module() -> None:
    assert fxtransport.load is load
    assert fxtransport.save is save


def test_round_trip_is_equal_bit_for_bit(file: Path, tmp_path: Path) -> None:
    program = compiled(f"{file}:Net", modules=2)
    save(program, tmp_path / "new" / "net", model=f"{file}:Net")
    loaded = load(tmp_path / "new" / "net")
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
    assert description["pipeline"].startswith("costs,partition{modules=2},heads{head=token},")
    assert description["cuts"] == ["1"]
    assert description["inputs"] == [{"shape": [6], "dtype": "float32"}]
    assert description["versions"].keys() == {"fxtransport", "torch", "torchvision", "timm"}
    assert {path.name for path in saved.iterdir()} == {DESCRIPTION, WEIGHTS, CODE}


def test_the_code_is_for_eyes(folder: Path) -> None:
    code = (folder / CODE).read_text()
    assert "# module 1" in code
    compile(code, CODE, "exec")
    (folder / CODE).write_text("raise SystemExit('executed')")
    load(folder)


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
    loaded = load(tmp_path)
    assert_same(loaded, program)
    x = torch.randn(1, 3, 224, 224)
    assert torch.equal(loaded.eval()(x), program.eval()(x))


def test_options_of_the_constructor_come_back(file: Path, tmp_path: Path) -> None:
    options = {"width": 5, "depth": 4}
    program = compiled(f"{file}:Net", **options)
    save(program, tmp_path, model=f"{file}:Net", **options)
    assert_same(load(tmp_path), program)


def test_options_of_timm(tmp_path: Path) -> None:
    options: dict[str, Any] = {"num_classes": 7, "in_chans": 1, "depth": 2, "drop_path_rate": 0.1}
    model = build(resolve("vit_tiny"), **options)
    program = transportify(model, torch.zeros(2, 1, 224, 224), verify=False)
    save(program, tmp_path, model="vit_tiny", **options)
    loaded = load(tmp_path)
    assert_same(loaded, program)
    assert json.loads((tmp_path / DESCRIPTION).read_text())["options"] == options


def test_tied_weights_stay_tied(file: Path, tmp_path: Path) -> None:
    program = compiled(f"{file}:Tied", modules=2)
    save(program, tmp_path, model=f"{file}:Tied")
    loaded = load(tmp_path)
    assert_same(loaded, program)
    assert loaded.get_parameter("0.linear.weight") is loaded.get_parameter("1.linear.weight")


def test_integer_inputs_and_buffers_that_are_not_saved(file: Path, tmp_path: Path) -> None:
    model = build(resolve(f"{file}:Words"))
    words = torch.zeros(2, 9, dtype=torch.int64)
    program = transportify(model, words, modules=2)
    save(program, tmp_path, model=f"{file}:Words")
    loaded = load(tmp_path)
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
    loaded = load(tmp_path)
    assert_same(loaded, program)
    x = torch.randn(3, 6, dtype=torch.bfloat16)
    assert torch.equal(loaded.eval()(x), program.eval()(x))


def test_layouts_in_memory_do_not_matter(tmp_path: Path) -> None:
    model = build(resolve("torchvision:mobilenet_v3_small")).to(memory_format=torch.channels_last)
    program = transportify(model, torch.zeros(2, 3, 32, 32), verify=False)
    save(program, tmp_path, model="torchvision:mobilenet_v3_small")
    assert_same(load(tmp_path), program)


@pytest.mark.cuda
def test_weights_on_a_gpu_come_back_on_the_cpu(file: Path, tmp_path: Path) -> None:
    program = compiled(f"{file}:Net", modules=2).cuda()
    save(program, tmp_path, model=f"{file}:Net")
    loaded = load(tmp_path)
    assert {p.device.type for p in loaded.parameters()} == {"cpu"}
    assert_same(loaded, program.cpu())


def refused(folder: Path) -> str:
    """The one line with which a folder is refused."""
    with pytest.raises(SavedProgramError) as caught:
        load(folder)
    message = str(caught.value)
    assert message
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize("name", [DESCRIPTION, WEIGHTS])
@pytest.mark.parametrize(
    "damage",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: path.write_bytes(bytes(range(256)) * 4),
        lambda path: path.write_bytes(b"\x80\x04" + pickle.dumps({"a": 1})),
        lambda path: path.write_bytes(b"PK\x03\x04" + path.read_bytes()),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["missing", "empty", "truncated", "random", "pickle", "archive", "folder"],
)
def test_a_damaged_file_is_one_line(
    folder: Path, name: str, damage: Callable[[Path], object]
) -> None:
    damage(folder / name)
    assert str(folder) in refused(folder)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        "{}",
        '"program"',
        "3",
        '{"format": 2}',
        '{"format": 1}',
        '{"format": {"a": 1}}',
        "[" * 100_000,
        '{"format": 1' + "0" * 5000 + "}",
    ],
)
def test_json_of_another_shape(folder: Path, text: str) -> None:
    (folder / DESCRIPTION).write_text(text)
    refused(folder)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("format", 2, "has format 2; this version reads 1"),
        ("model", "timm:no_such_model", "no model is called"),
        ("model", "no/such/file.py:Net", "there is no such file"),
        ("model", 3, "'model' is missing or odd"),
        ("options", {"no_such_option": 1}, "unexpected keyword argument"),
        ("options", {"width": "wide"}, "cannot load"),
        ("options", {"pretrained": True}, "'pretrained' says where numbers come from"),
        ("options", {"checkpoint_path": "x.pth"}, "'checkpoint_path' says where"),
        ("options", [1], "'options' is missing or odd"),
        ("inputs", [], "cannot load"),
        ("inputs", [{"shape": [5], "dtype": "float32"}], "cannot load"),
        ("inputs", [{"shape": [0], "dtype": "float32"}], "does not describe an input"),
        ("inputs", [{"shape": [True], "dtype": "float32"}], "does not describe an input"),
        ("inputs", [{"shape": "6", "dtype": "float32"}], "does not describe an input"),
        ("inputs", [{"shape": [6], "dtype": "load"}], "does not describe an input"),
        ("inputs", [[6]], "does not describe an input"),
        ("pipeline", "partition{modules=2}", "cannot load"),
        ("pipeline", "no_such_pass", "there is no pass"),
        ("pipeline", "partition{modules=x}", "cannot be 'x'"),
        ("pipeline", "partition{modules=99},taps,heads,lower", "cannot cut"),
        ("pipeline", "partition{modules=3},taps,heads,lower", "is not the one that was saved"),
        ("pipeline", "", "the pipeline is empty"),
        ("graph_hash", "0" * 64, "install those versions"),
        ("weights_hash", "0" * 64, "is damaged, or not the one"),
        ("versions", [], "'versions' is missing or odd"),
    ],
)
def test_a_wrong_value(folder: Path, key: str, value: object, words: str) -> None:
    description = json.loads((folder / DESCRIPTION).read_text())
    description[key] = value
    (folder / DESCRIPTION).write_text(json.dumps(description))
    assert words in refused(folder)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"other": torch.zeros(2)}, "is of another model"),
        ({}, "is of another model"),
        ("reshaped", r"0.linear.weight is \(6, 1\), not \(6, 6\)"),
    ],
)
def test_weights_of_another_model(folder: Path, state: Any, words: str) -> None:
    """Even where the description has their hash."""
    if state == "reshaped":
        state = load(folder).state_dict()
        state["0.linear.weight"] = torch.zeros(6, 1)
    save_file(state, folder / WEIGHTS)
    description = json.loads((folder / DESCRIPTION).read_text())
    description["weights_hash"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / DESCRIPTION).write_text(json.dumps(description))
    with pytest.raises(SavedProgramError, match=words):
        load(folder)


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    assert "holds no program" in refused(tmp_path)
    assert "holds no program" in refused(tmp_path / "nowhere")


def test_no_file_of_the_folder_is_executed(folder: Path) -> None:
    witness = folder / "executed"
    (folder / CODE).write_text(f"import pathlib\npathlib.Path({str(witness)!r}).touch()\n")
    description = json.loads((folder / DESCRIPTION).read_text())
    description["model"] = f"{folder / CODE}:make"
    (folder / DESCRIPTION).write_text(json.dumps(description))
    assert "no file is executed" in refused(folder)
    assert not witness.exists()


def test_nothing_is_unpickled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("something was unpickled")

    for owner, name in [
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (torch, "load"),
    ]:
        monkeypatch.setattr(owner, name, refuse)
    load(folder)


@given(data=st.data())
@settings(max_examples=60)
def test_a_truncation_anywhere_is_noticed(
    saved: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from([DESCRIPTION, WEIGHTS]))
    content = (saved / name).read_bytes()
    # the last byte of the description is a line break, which nobody misses
    kept = data.draw(st.integers(0, len(content) - 2))
    folder = Path(shutil.copytree(saved, tmp_path_factory.mktemp("cut") / "net"))
    (folder / name).write_bytes(content[:kept])
    refused(folder)


@given(data=st.data())
@settings(max_examples=60)
def test_a_changed_byte_is_noticed_or_harmless(
    saved: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A changed description may still describe the same program; changed weights may not."""
    name = data.draw(st.sampled_from([DESCRIPTION, WEIGHTS]))
    content = bytearray((saved / name).read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    folder = Path(shutil.copytree(saved, tmp_path_factory.mktemp("flip") / "net"))
    (folder / name).write_bytes(content)
    if name == WEIGHTS:
        refused(folder)
        return
    try:
        loaded = load(folder)
    except SavedProgramError:
        return
    assert_same(loaded, load(saved))


class StopSaveError(Exception):
    pass


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_an_interrupted_save_leaves_the_old_or_nothing_that_loads(
    folder: Path, file: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    before = load(folder)
    other = compiled(f"{file}:Net", modules=2)
    with torch.no_grad():
        other.get_parameter("3.bias").fill_(5.0)
    replace, done = Path.replace, 0

    def interrupted(path: Path, target: Path) -> Path:
        nonlocal done
        if done == moves:
            raise StopSaveError
        done += 1
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(StopSaveError):
        save(other, folder, model=f"{file}:Net")
    assert {path.name for path in folder.iterdir()} == {DESCRIPTION, WEIGHTS, CODE}
    if moves == 0:
        assert_same(load(folder), before)
    else:
        refused(folder)


def test_a_save_replaces_an_older_one(folder: Path, file: Path) -> None:
    program = compiled(f"{file}:Net", modules=3)
    save(program, folder, model=f"{file}:Net")
    assert_same(load(folder), program)


def test_a_folder_that_cannot_be_written(file: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    program = compiled(f"{file}:Net")
    for target in (tmp_path / "taken", tmp_path / "taken" / "below"):
        with pytest.raises(SavedProgramError, match=rf"^cannot write into {target}: Not a dir"):
            check_writable(target)
        with pytest.raises(SavedProgramError, match=r"^cannot write into "):
            save(program, target, model=f"{file}:Net")


def test_a_check_leaves_no_trace(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": nn.ReLU}, "^options are saved as JSON: "),
        ({"pretrained": True}, "^the option 'pretrained' says where numbers come from"),
        ({"checkpoint_path": "x"}, "^the option 'checkpoint_path' says where numbers"),
    ],
)
def test_options_that_cannot_be_saved(
    file: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(SavedProgramError, match=words):
        save(compiled(f"{file}:Net"), tmp_path, model=f"{file}:Net", **options)
    assert not list(tmp_path.iterdir())


def test_a_model_without_numbers_is_refused(tmp_path: Path) -> None:
    spec = resolve("torchvision:mobilenet_v3_small")
    program = transportify(
        build(spec, device="meta"), torch.zeros(2, 3, 32, 32, device="meta"), verify=False
    )
    with pytest.raises(SavedProgramError, match="built without numbers"):
        save(program, tmp_path, model=spec.canonical)


def test_an_unknown_name_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNameError, match="no model is called 'no_such_model'"):
        save(compiled(f"{file}:Net"), tmp_path, model="no_such_model")
    assert not list(tmp_path.iterdir())
