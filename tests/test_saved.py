"""A folder is written whole or not at all; what is not a saved program is refused in one line."""

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

from fxtransport import compile_named, load, save, transportify
from fxtransport.errors import SavedProgramError
from fxtransport.ir import HeadKind
from fxtransport.models import build, resolve
from fxtransport.saved import CODE, WEIGHTS
from fxtransport.storage import DESCRIPTION
from tests.saved_programs import assert_same, program_of, refused


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
        '{"format": 3}',
        '{"format": 2}',
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
        ("format", 5, "has format 5; this version reads 4"),
        ("model", "timm:no_such_model", "no model is called"),
        ("model", "no/such/file.py:Net", "there is no such file"),
        ("model", 3, "'model' is missing or invalid"),
        ("options", {"no_such_option": 1}, "unexpected keyword argument"),
        ("options", {"width": "wide"}, "cannot load"),
        ("options", {"pretrained": True}, "'pretrained' says where weights come from"),
        ("options", {"checkpoint_path": "x.pth"}, "'checkpoint_path' says where"),
        ("options", [1], "'options' is missing or invalid"),
        ("inputs", [], "cannot load"),
        ("inputs", [{"shape": [5], "dtype": "float32"}], "cannot load"),
        ("inputs", [{"shape": [0], "dtype": "float32"}], "does not describe an input"),
        ("inputs", [{"shape": [True], "dtype": "float32"}], "does not describe an input"),
        ("inputs", [{"shape": "6", "dtype": "float32"}], "does not describe an input"),
        ("inputs", [{"shape": [6], "dtype": "load"}], "does not describe an input"),
        ("inputs", [[6]], "does not describe an input"),
        ("inputs", [{"shape": [10**29], "dtype": "float32"}], "inputs have a number, 1000000000"),
        ("inputs", [{"shape": [6], "dtype": "float32", "batch": 10**29}], "inputs have a number"),
        ("inputs", [{"shape": [6, *[2**31 - 1] * 3], "dtype": "float32"}], "cannot load"),
        ("inputs", [{"list": [{"value": 1e300}]}], "inputs have a number"),
        ("pipeline", "partition{modules=2}", "cannot load"),
        ("pipeline", "no_such_pass", "there is no pass"),
        ("pipeline", "partition{modules=x}", "cannot be 'x'"),
        ("pipeline", "partition{modules=99},taps,heads,lower", "cannot cut"),
        ("pipeline", "partition{modules=3},taps,heads,lower", "is not the one that was saved"),
        ("pipeline", "", "the pipeline is empty"),
        ("graph_hash", "0" * 64, "install those versions"),
        ("weights_hash", "0" * 64, "is damaged, or not the one"),
        ("weights_size", 12, "is damaged, or not the one"),
        ("weights_size", "12", "'weights_size' is missing or invalid"),
        ("weights_size", True, "'weights_size' is missing or invalid"),
        ("versions", [], "'versions' is missing or invalid"),
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
        ({"other": torch.zeros(2)}, "belongs to another model"),
        ({}, "belongs to another model"),
        ("whole numbers", r"0.linear.weight is of torch.int64, not torch.float32"),
        ("reshaped", r"0.linear.weight is \(6, 1\), not \(6, 6\)"),
    ],
)
def test_weights_of_another_model(folder: Path, state: Any, words: str) -> None:
    """Even where the description has their hash."""
    if isinstance(state, str):
        other = torch.zeros(6, 1) if state == "reshaped" else torch.zeros(6, 6).long()
        state = load(folder, trust_files=True).state_dict() | {"0.linear.weight": other}
    save_file(state, folder / WEIGHTS)
    description = json.loads((folder / DESCRIPTION).read_text())
    description["weights_hash"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    description["weights_size"] = (folder / WEIGHTS).stat().st_size
    (folder / DESCRIPTION).write_text(json.dumps(description))
    with pytest.raises(SavedProgramError, match=words):
        load(folder, trust_files=True)


SETTINGS = {
    "eps": ("eps=1e-3", "eps=1e-2"),
    "momentum": ("momentum=0.2", "momentum=0.3"),
    "dropout": ("Dropout(0.25)", "Dropout(0.5)"),
    "slope": ("LeakyReLU(0.1)", "LeakyReLU(0.2)"),
    "form": ('GELU("tanh")', "GELU()"),
    "mode": ('padding_mode="reflect"', 'padding_mode="circular"'),
    "own": ("scale = 0.5", "scale = 0.75"),
    "function": ("mix = torch.add", "mix = torch.sub"),
}
"""Settings of closed modules in a model's file: what they are, and what they become."""
MODEL = """
import torch
from torch import nn

class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = 0.5
        self.mix = torch.add
        self.conv = nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect")
        self.norm = nn.BatchNorm2d(2, eps=1e-3, momentum=0.2)
        self.acts = nn.Sequential(nn.LeakyReLU(0.1), nn.GELU("tanh"), nn.Dropout(0.25))

    def forward(self, x):
        return self.mix(self.acts(self.norm(self.conv(x))) * self.scale, 1.0)

class Net(nn.Module):
    input_size = (2, 4, 4)

    def __init__(self):
        super().__init__()
        self.branch, self.head = Branch(), nn.Linear(2, 3)

    def forward(self, x):
        return self.head((x + self.branch(x)).mean((2, 3)))
"""


@pytest.mark.parametrize("name", SETTINGS)
def test_another_setting_of_a_module_is_another_program(name: str, tmp_path: Path) -> None:
    file, folder = tmp_path / "net.py", tmp_path / "saved"
    file.write_text(MODEL)
    save(compile_named(f"{file}:Net"), folder)
    load(folder, trust_files=True)
    before, after = SETTINGS[name]
    assert before in MODEL
    file.write_text(MODEL.replace(before, after))
    assert "or a setting of its modules, is not the one that was saved" in refused(folder)


def test_a_folder_without_a_program(tmp_path: Path) -> None:
    assert "does not hold a program" in refused(tmp_path)
    assert "does not hold a program" in refused(tmp_path / "nowhere")


def point_at(folder: Path, file: Path) -> Path:
    """Let a saved program name a model in a file, which leaves a trace when it is run."""
    witness = folder / "executed"
    file.write_text(f"import pathlib\npathlib.Path({str(witness)!r}).touch()\n")
    description = json.loads((folder / DESCRIPTION).read_text())
    description["model"] = f"{file}:make"
    (folder / DESCRIPTION).write_text(json.dumps(description))
    return witness


@pytest.mark.parametrize("inside", [True, False])
def test_a_python_file_is_run_only_if_it_is_trusted(
    folder: Path, tmp_path: Path, inside: bool
) -> None:
    file = folder / CODE if inside else tmp_path / "other.py"
    witness = point_at(folder, file)
    with pytest.raises(SavedProgramError) as caught:
        load(folder)
    assert str(caught.value) == (
        f"cannot load {folder}: program.json names a model in a Python file, {file}, and would "
        "run it: give trust_files=True if you trust that file"
    )
    assert not witness.exists()
    assert "has no function called make" in refused(folder)
    assert witness.exists()


@pytest.mark.parametrize("number", [1, 2])
def test_a_folder_of_an_earlier_format_says_what_to_do(number: int, folder: Path) -> None:
    description = json.loads((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(json.dumps({**description, "format": number}))
    message = refused(folder)
    assert f"has format {number}; this version reads 4: an earlier version saved it" in message
    assert "compile the model again" in message


@pytest.mark.parametrize(("kind", "before"), [("dgl", ""), ("dgl_conv", "{head=conv}")])
def test_a_folder_of_the_third_format_keeps_the_heads_of_dgl(
    tmp_path: Path, nets: Path, kind: str, before: str
) -> None:
    program = compile_named(f"{nets}:Net", modules=2, head=kind, verify=False)
    save(program, tmp_path)
    description = json.loads((tmp_path / DESCRIPTION).read_text())
    pipeline = description["pipeline"].replace(f"{{head={kind}}}", before)
    assert pipeline != description["pipeline"]
    older = {**description, "format": 3, "pipeline": pipeline}
    (tmp_path / DESCRIPTION).write_text(json.dumps(older))
    loaded = load(tmp_path, trust_files=True)
    assert_same(loaded, program)
    assert loaded.facts.heads.heads[0].kind is HeadKind.DGL
    save(loaded, tmp_path)
    assert json.loads((tmp_path / DESCRIPTION).read_text()) == description


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
    load(folder, trust_files=True)


def with_content(saved: Path, target: Path, name: str, content: bytes) -> Path:
    """A copy of a saved program of which one file holds something else."""
    folder = Path(shutil.copytree(saved, target / "net"))
    (folder / name).write_bytes(content)
    return folder


@given(data=st.data())
@settings(max_examples=60)
def test_a_truncation_anywhere_is_noticed(
    saved: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from([DESCRIPTION, WEIGHTS]))
    content = (saved / name).read_bytes()
    # the last byte of the description is a line break, which nobody misses
    kept = data.draw(st.integers(0, len(content) - 2))
    refused(with_content(saved, tmp_path_factory.mktemp("cut"), name, content[:kept]))


@given(data=st.data())
@settings(max_examples=60)
def test_a_changed_byte_of_the_description_is_noticed_or_harmless(
    saved: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """It may still describe the same program, with other versions say."""
    content = changed_byte(saved / DESCRIPTION, data)
    folder = with_content(saved, tmp_path_factory.mktemp("flip"), DESCRIPTION, content)
    try:
        loaded = load(folder, trust_files=True)
    except SavedProgramError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert_same(loaded, load(saved, trust_files=True))


@given(data=st.data())
@settings(max_examples=60)
def test_a_changed_byte_of_the_weights_is_noticed(
    saved: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = changed_byte(saved / WEIGHTS, data)
    assert WEIGHTS in refused(
        with_content(saved, tmp_path_factory.mktemp("flip"), WEIGHTS, content)
    )


def changed_byte(file: Path, data: st.DataObject) -> bytes:
    """The content of a file of which one byte is another."""
    content = bytearray(file.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    return bytes(content)


class StopSaveError(Exception):
    pass


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_an_interrupted_save_leaves_the_old_or_nothing_that_loads(
    folder: Path, nets: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    before = load(folder, trust_files=True)
    other = program_of(f"{nets}:VectorNet", modules=2)
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
        save(other, folder, model=f"{nets}:VectorNet")
    assert {path.name for path in folder.iterdir()} == {DESCRIPTION, WEIGHTS, CODE}
    if moves == 0:
        assert_same(load(folder, trust_files=True), before)
    else:
        refused(folder)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"width": nn.ReLU}, "^options are saved as JSON: "),
        ({"pretrained": True}, "^the option 'pretrained' says where weights come from"),
        ({"checkpoint_path": "x"}, "^the option 'checkpoint_path' says where weights"),
    ],
)
def test_options_that_cannot_be_saved(
    nets: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(SavedProgramError, match=words):
        save(program_of(f"{nets}:VectorNet"), tmp_path, model=f"{nets}:VectorNet", **options)
    assert not list(tmp_path.iterdir())


def test_a_program_on_the_meta_device_is_refused(tmp_path: Path) -> None:
    spec = resolve("torchvision:mobilenet_v3_small")
    program = transportify(
        build(spec, device="meta"), torch.zeros(2, 3, 32, 32, device="meta"), verify=False
    )
    with pytest.raises(SavedProgramError, match="is on the meta device and has no weights"):
        save(program, tmp_path, model=spec.canonical)
