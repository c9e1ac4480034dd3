"""Two models, their layers, and what is refused in one line."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import fxtransport
from fxtransport import ot, transportify
from fxtransport.errors import UsageError
from fxtransport.pairing.pairs import classes_of
from tests.networks import IMAGES, Neither, Net, OverwritingNet, VectorNet, Words


def pair(student: Any, teacher: Any, layers: Any = "penultimate", **options: Any) -> Any:
    return fxtransport.pair(student, teacher, layers, verify=False, **options)


def test_what_enters_the_classifiers() -> None:
    student, teacher = Net(2), OverwritingNet()
    images = torch.randn(6, 3, 8, 8)
    found = pair(student, teacher, example_inputs=IMAGES)
    own, other = found.activations(images)["penultimate"]
    expected = student.blocks(student.stem(images)).mean((2, 3)).T
    torch.testing.assert_close(own, expected)
    assert own.requires_grad
    teacher.eval()
    theirs: list[Tensor] = []
    teacher.head.register_forward_hook(lambda _, given, __: theirs.append(given[0]))
    teacher(images)
    torch.testing.assert_close(other, theirs[0].T)
    assert not other.requires_grad


def test_blocks_and_stages_by_their_paths() -> None:
    student = timm.create_model("test_resnet", num_classes=4)
    teacher = timm.create_model("test_vit", img_size=32)
    found = pair(
        student, teacher, [("layer3", "blocks.1")], example_inputs=torch.zeros(2, 3, 32, 32)
    )
    images = torch.randn(5, 3, 32, 32)
    own, other = found.activations(images)["layer3"]
    wanted: dict[str, Tensor] = {}
    student.layer3.register_forward_hook(lambda *a: wanted.update(own=a[2].mean((2, 3)).T))
    teacher.eval().blocks[1].register_forward_hook(lambda *a: wanted.update(other=a[2].mean(1).T))
    student(images), teacher(images)
    torch.testing.assert_close(own, wanted["own"])
    torch.testing.assert_close(other, wanted["other"])
    assert "layer3" in str(found)
    assert "with blocks.1" in str(found)


def test_a_program_is_compiled_again_with_its_heads_and_its_model() -> None:
    model = Net()
    program = transportify(model, IMAGES, modules=2, verify=False)
    found = pair(program, Net(), "auto")
    assert [(p.part, p.student.name) for p in found.layers] == [(0, "blocks.1"), (1, "penultimate")]
    assert found.student.stem is model.stem
    for name, tensor in program.state_dict().items():
        assert torch.equal(found.student.state_dict()[name], tensor), name
    again = pair(found.student, Net(), "auto")
    assert again.student is found.student


def test_a_student_by_its_name(nets: Path) -> None:
    found = pair(f"{nets}:Net", Net(), modules=2)
    assert len(found.student.parts) == 2
    assert str(found).splitlines()[0] == f"Net teaches {nets}:Net"
    assert str(found).splitlines()[1] == "  part 1: penultimate 4 with penultimate 4"


def test_models_of_words_and_of_vectors() -> None:
    words = torch.zeros(2, 5, dtype=torch.int64)
    found = pair(Words(), Words(), "auto", example_inputs=words)
    [(own, other)] = {v[0].shape: v for v in found.activations(words + 1).values()}.values()
    assert own.shape == other.shape == (6, 2)
    vectors = pair(VectorNet(), VectorNet(depth=5), "auto")
    assert [(p.student.name, p.teacher.name) for p in vectors.layers][-1] == (
        "penultimate",
        "penultimate",
    )


def test_the_images_of_a_smaller_student_are_enlarged() -> None:
    student = Net(input_size=(1, 8, 8))
    teacher = timm.create_model("test_vit")
    found = pair(student, teacher)
    assert found.teacher.bridge.size == (3, 160, 160)
    own, other = found.activations(torch.randn(4, 1, 8, 8))["penultimate"]
    assert (own.shape[1], other.shape[1]) == (4, 4)


def test_normalizations_are_bridged_where_both_are_known() -> None:
    teacher = timm.create_model("test_resnet")
    assert pair(Net(), teacher).teacher.bridge.own is None
    known = ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))
    bridge = pair(Net(), teacher, normalization=known).teacher.bridge
    assert (bridge.own, bridge.other) == (known, ((0.5,) * 3, (0.5,) * 3))
    gray = pair(Net(input_size=(1, 8, 8)), teacher, normalization=known).teacher.bridge
    assert gray.own == ((pytest.approx(0.2),), (1.0,))


def test_two_transfers_of_one_pair_ask_for_what_each_needs() -> None:
    found = pair(Net(), Net())
    kd, alone = found.transfer("kd:1"), found.transfer("ot:1")
    assert kd.teacher.logits
    assert not alone.teacher.logits
    assert found.transfer("l2:1").teacher is None


def test_starting_from_the_teacher() -> None:
    teacher = Net(classes=7)
    found = pair(Net(), teacher)
    left = found.start_from_teacher()
    assert left == ("head.weight", "head.bias")
    for name, tensor in teacher.state_dict().items():
        if name not in left:
            assert torch.equal(found.student.state_dict()[name], tensor)
    found.student.eval()
    own, other = found.activations(torch.randn(3, 3, 8, 8))["penultimate"]
    assert ot.omega(own, other).item() == 0.0
    assert found.shared_parameters().keys() == {
        name for name, _ in teacher.named_parameters() if name not in left
    }


class Conv(nn.Module):
    """Ends in no linear layer."""

    input_size = (3, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + x.relu() * self.scale


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pair(Conv(), Net()), "cannot tap 'penultimate': no linear layer.*name a module"),
        (lambda: pair(Net(), Conv()), "the teacher, Conv: cannot tap 'penultimate'"),
        (
            lambda: pair(Net(), Net(), [("blocks.9", "blocks.0")]),
            "cannot tap 'blocks.9': Net computes nothing of that name; did you mean blocks.",
        ),
        (lambda: pair(Net(), Net(), [("blocks.0", "stage")]), "the teacher, Net: cannot tap 'sta"),
        (
            lambda: pair(Net(), Net(input_size=(1, 8, 8))),
            "the student is given 3×8×8 and Net takes 1×8×8: give the student an input_size",
        ),
        (lambda: pair(Net(), VectorNet()), "the student is given 3×8×8 and VectorNet takes 6"),
        (lambda: pair(Net(), Net(), "last"), "layers are 'penultimate', 'auto', or pairs"),
        (lambda: pair(Net(), Net(), pool="max"), "pool is 'mean', 'none' or a number"),
        (
            lambda: pair(Net(), Net(classes=7)).transfer("kd:1"),
            "the student has 5 classes and the teacher 7 classes; take ot",
        ),
        (lambda: pair(Net(), Net(width=6)).transfer("identity:1"), "identity needs layers of one"),
        (lambda: pair(Net(), Net(width=6)).start_from_teacher(), None),
        (lambda: pair(Neither(), VectorNet(8)).transfer("l2-sp:1"), "l2-sp pulls parameters"),
        (lambda: pair(Neither(), VectorNet(8)).start_from_teacher(), "the student has no weights"),
        (lambda: pair("timm:test_resnet", Net(), example_inputs=IMAGES), "takes input_size"),
    ],
)
def test_what_is_refused(make: Any, message: str | None) -> None:
    if message is None:
        # the last bias alone has the same shape
        assert "head.bias" not in make()
        return
    with pytest.raises(UsageError, match=message):
        make()


def test_classes_are_those_of_the_logits() -> None:
    assert classes_of(transportify(Net(classes=3), IMAGES, verify=False)) == 3
    assert classes_of(transportify(Conv(), IMAGES, verify=False)) is None
