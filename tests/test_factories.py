"""Models that are made by a function in a file of the user's, and the errors of such files."""

from pathlib import Path
from textwrap import dedent

import pytest
from torch import nn

from fxtransport.errors import ModelNameError
from fxtransport.models import build, input_spec, resolve


def write(folder: Path, source: str) -> Path:
    file = folder / "net.py"
    file.write_text(dedent(source))
    return file


def test_a_factory_in_a_file(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        """
        from dataclasses import dataclass
        import torch

        @dataclass
        class Widths:
            wide: "int" = 4

        def make(width=Widths().wide):
            rates = [rate.item() for rate in torch.linspace(0, 1, 3)]  # fails on meta
            model = torch.nn.Linear(width, len(rates))
            model.input_size = (width,)
            return model
        """,
    )
    spec = resolve(f"{file}:make")
    assert spec.canonical == f"{file}:make"
    model = build(spec, width=5)
    assert isinstance(model, nn.Linear)
    assert input_spec(model, spec).shape == (5,)
    bare = build(spec, device="meta")
    assert all(parameter.is_meta for parameter in bare.parameters())


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("x = 1\n", "{file}:make: {file} has no function called make"),
        ("make = 1\n", "{file}:make: {file} has no function called make"),
        (
            "def make():\n    return 3\n",
            "{file}:make: make returned int, not an nn.Module",
        ),
        ("x = 1\ny = x / 0\n", "{file}:2: the import failed: ZeroDivisionError: division by zero"),
        (
            "import no_such_package_anywhere\n",
            "{file}:1: the import failed: "
            "ModuleNotFoundError: No module named 'no_such_package_anywhere'",
        ),
        (
            "def make():\n    return broken()\n\ndef broken():\n    raise KeyError('width')\n",
            "{file}:5: make failed: KeyError: 'width'",
        ),
        ("def make(\n", "{file}:1: the import failed: SyntaxError: '(' was never closed"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, source: str, text: str) -> None:
    file = write(tmp_path, source)
    with pytest.raises(ModelNameError) as caught:
        build(resolve(f"{file}:make"))
    assert str(caught.value).partition(" (net.py, line")[0] == text.format(file=file)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(ModelNameError, match=r"^no/such/net\.py: there is no such file$"):
        build(resolve("no/such/net.py:make"))
