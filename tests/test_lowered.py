"""Generated functions: compiled, copied, pickled, hashed."""

import copy
import pickle
import traceback

import pytest
import torch

from fxtransport.lowered import Deferred, Function, Lowered, LoweredPart

SOURCE = "def forward(self, x):\n    return torch.relu(x) + offset\n"


def function(source: str = SOURCE, name: str = "part 0") -> Function:
    return Function.compile(name, source, ("x",), {"torch": torch, "offset": 2})


def lowered(*sources: str) -> Lowered:
    parts = tuple(LoweredPart(function(source), (), ()) for source in sources)
    return Lowered(function(), parts, LoweredPart(function(), (), ()))


def test_a_function_computes_what_its_source_says() -> None:
    x = torch.tensor([-1.0, 3.0])
    assert function().call(None, x).tolist() == [2.0, 5.0]


def test_a_function_comes_back_from_a_pickle_with_its_modules() -> None:
    original = function()
    found = pickle.loads(pickle.dumps(original))
    x = torch.tensor([-1.0, 3.0])
    assert torch.equal(found.call(None, x), original.call(None, x))
    assert (found.source, found.inputs, found.name) == (SOURCE, ("x",), "part 0")
    assert found.globals["torch"] is torch
    assert copy.deepcopy(original) is original


def test_a_deferred_function_is_generated_once_and_when_asked_for() -> None:
    made = []

    def make() -> Function:
        made.append(function())
        return made[-1]

    deferred = Deferred(make)
    assert copy.deepcopy(deferred) is deferred and not made
    found = pickle.loads(pickle.dumps(deferred))
    assert found.function == deferred.function == made[0]
    assert found.function.call(None, torch.ones(1)).item() == 3
    assert len(made) == 1


def test_tracebacks_show_the_generated_line() -> None:
    broken = function("def forward(self, x):\n    return x.no_such_method()\n", "part 7")
    with pytest.raises(AttributeError) as caught:
        broken.call(None, torch.zeros(1))
    text = "".join(traceback.format_exception(caught.value))
    assert 'File "<fxtransport part 7>", line 2, in forward' in text
    assert "return x.no_such_method()" in text


def test_a_hash_depends_on_the_code_and_on_the_cuts() -> None:
    other = SOURCE.replace("relu", "sigmoid")
    hashes = {lowered(*parts).hash for parts in [(SOURCE,), (other,), (SOURCE, other), ()]}
    assert len(hashes) == 4
    assert lowered(SOURCE).hash == lowered(SOURCE).hash


def test_the_text_names_each_part() -> None:
    text = lowered(SOURCE, SOURCE).text()
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# whole",
        "# part 0",
        "# part 1",
    ]
    compile(text, "graph.py", "exec")
