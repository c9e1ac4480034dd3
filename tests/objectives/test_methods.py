"""The objectives of the papers, by their names."""

import torch

from fxtransport.data import load
from fxtransport.nets import resnet_m
from fxtransport.objectives import (
    ReverseCrossEntropy,
    TransportCost,
    fixed,
    lap,
    plain,
    rce,
    trgl,
    trgl_multipliers,
    vangl,
)


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
        rce(),
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
    assert rce().cost is None
    assert rce().classification == ReverseCrossEntropy()
    cost = TransportCost(p=3)
    assert trgl(1, cost=cost).cost is cost
    assert lap(1, 1, 1).cost == TransportCost()


def test_networks_learn_by_the_reverse_cross_entropy() -> None:
    """The wrong logits become alike: their spread is a small share of the class's lead."""
    splits = load("digits", seed=0, batch_size=64, eval_batch_size=360)
    [(images, labels)] = splits.test
    shares, accuracies = [], []
    for objective in (plain(), rce()):
        torch.manual_seed(0)
        model = resnet_m(2, channels=8, image_size=8)
        optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
        for epoch in range(4):
            for batch, targets in splits.train.epoch(epoch):
                optimizer.zero_grad()
                objective.classification(model(batch), targets).backward()
                optimizer.step()
        with torch.no_grad():
            logits = model.eval()(images).sort(1).values
            accuracies.append((model(images).argmax(1) == labels).float().mean().item())
        lead = logits[:, -1] - logits[:, :-1].mean(1)
        shares.append((logits[:, :-1].std(1) / lead).median().item())
    assert min(accuracies) > 0.85
    assert shares[1] < 0.75 * shares[0]
