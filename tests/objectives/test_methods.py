"""The objectives of the papers, by their names."""

from fxtransport.objectives import TransportCost, fixed, lap, plain, trgl, trgl_multipliers, vangl


def test_descriptions_tell_options_apart() -> None:
    """A run is saved under them."""
    made = [
        lap(1, 0.1, 5),
        lap(1, 0.2, 5),
        lap(1, 0.1, 5, order="text"),
        lap(1, 0.1, 5, label_smoothing=0.1),
        lap(1, 0.1, 5, cost=TransportCost(p=3)),
        trgl_multipliers(1, 0.1, 5),
        trgl(0.5),
        trgl([0.5, 1.0]),
        fixed(0.5),
        vangl(),
    ]
    assert len({repr(objective) for objective in made}) == len(made)
    assert repr(lap(1, 0.1, 5)) == repr(lap(1, 0.1, 5))


def test_arguments_have_the_names_of_the_command_line() -> None:
    for make in (lap, trgl_multipliers):
        found = make(lambda0=0.5, lambda_rate=0.1, update_every=2).multipliers
        assert found.extra_repr() == "lambda0=0.5, lambda_rate=0.1, update_every=2, order='code'"
    assert fixed(lambda0=0.5).multipliers.extra_repr() == "lambda0=0.5"
    assert trgl(tau=0.5).multipliers.extra_repr() == "tau=0.5"


def test_without_a_cost_nothing_is_measured() -> None:
    assert vangl().cost is None
    assert plain(label_smoothing=0.1).cost is None
    cost = TransportCost(p=3)
    assert trgl(1, cost=cost).cost is cost
    assert lap(1, 1, 1).cost == TransportCost()
