"""Sizes of inputs in every form that users write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxtransport.errors import UsageError
from fxtransport.input_size import InputSize, SizeLike


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        (32, (3, 32, 32)),
        ("32", (3, 32, 32)),
        ("32x48", (3, 32, 48)),
        ("1,32,48", (1, 32, 48)),
        (" 1, 32, 48 ", (1, 32, 48)),
        ((1, 32, 48), (1, 32, 48)),
        ([16, 5], (16, 5)),
        ("8,", (8,)),
        ((8,), (8,)),
    ],
)
def test_the_shape_of_an_image(size: SizeLike, shape: tuple[int, ...]) -> None:
    assert InputSize.parse(size).shape((3, 224, 224)) == shape


def test_other_inputs_keep_their_other_dimensions() -> None:
    assert InputSize.parse(64).shape((3, 16, 112, 112)) == (3, 16, 64, 64)
    assert InputSize.parse(9).shape((2,)) == (9,)


@pytest.mark.parametrize("text", ["", "x", "3,a", "3,0,8", "0", "-1", "8x", "1x2x3", ",", "3,,3"])
def test_what_is_not_a_size(text: str) -> None:
    with pytest.raises(UsageError, match="is not a valid size of an input: write N, HxW or C,H,W"):
        InputSize.parse(text)


def test_a_height_and_width_alone_may_not_be_enough() -> None:
    with pytest.raises(UsageError, match="does not say how many channels its input has"):
        InputSize.parse(32).shape(None)
    with pytest.raises(UsageError, match="not an image, its shape is 49×128: give every dim"):
        InputSize.parse(32).shape((49, 128))
    with pytest.raises(UsageError, match="not an image, its shape is 8"):
        InputSize.parse("3x4").shape((8,))


numbers = st.integers(1, 999)
texts = (
    numbers.map(str)
    | st.tuples(numbers, numbers).map(lambda pair: f"{pair[0]}x{pair[1]}")
    | st.lists(numbers, min_size=1).map(lambda sizes: ",".join(map(str, sizes)) + ",")
)


@given(texts)
def test_the_text_of_a_size_is_read_as_the_same(text: str) -> None:
    size = InputSize.parse(text)
    assert InputSize.parse(str(size)) == size
