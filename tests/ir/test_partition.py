"""Facts of cuts: what crosses a boundary, and which boundaries may be chosen."""

from fxtransport.ir import Balance, Boundaries, Boundary, PartitionPlan, Segment


def boundary(*tensors: str) -> Boundary:
    return Boundary("add", (*tensors, "size"), tensors, 1, "blocks.0")


def test_a_number_that_crosses_is_no_tensor() -> None:
    assert boundary("x").single
    assert not boundary("x", "y").single


def test_cuts_by_hand_are_not_among_the_legal_ones() -> None:
    one, two, by_hand = boundary("x"), boundary("x", "y"), boundary("z")
    found = Boundaries((one,), (two,), 3, "residual", (by_hand,))
    assert found.legal == (one, two)


def test_a_plan_has_as_many_parts_as_segments() -> None:
    segment = Segment("x", "add", 1, ("blocks.0",), 1, 1, 1, ("x",), ("add",))
    plan = PartitionPlan(Balance.DEPTH, "residual", (segment,) * 3, (), 1, 1, 0.0)
    assert plan.modules == 3
