"""Facts of a graph: which additions are tapped, and operands that become choices."""

from fxtransport.ir import Kind, Origins, Residual, Residuals, Tap, Taps


def residual(kind: Kind) -> Residual:
    return Residual("block", kind, f"{kind}_add", "x", ("conv",), (4, 8, 8), 0)


def test_inner_additions_are_not_tapped() -> None:
    every = Residuals(tuple(residual(kind) for kind in Kind))
    assert [r.kind for r in every.tapped] == [Kind.IDENTITY, Kind.PROJECTION, Kind.IDENTITY_BN]
    assert not residual(Kind.INNER).tapped


def test_residues_are_those_of_the_taps() -> None:
    taps = Taps(
        (
            Tap(Kind.IDENTITY, "conv", ("conv",), "x", "add", "relu"),
            Tap(Kind.IDENTITY, "sub", (), "relu", "out", "out"),
        ),
        ("sub",),
    )
    assert taps.residues == ("conv", "sub")


def test_operands_follow_the_choice_of_their_node() -> None:
    origins = Origins({}, ("a", "b"), (("x", None), ("x", "y")), frozenset())
    found = origins.with_choices({("b", "x"): "choice"})
    assert found.operands == (("x", None), ("choice", "y"))
    assert found.op_nodes == origins.op_nodes
