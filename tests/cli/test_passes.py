"""``fxtransport passes`` lists every pass, and what a pipeline can say of it."""

import json

from fxtransport.passes.pipeline import REGISTRY, pass_class
from tests.cli.running import Command


def test_every_pass_is_listed_in_order(run: Command) -> None:
    result = run("passes")
    assert result.exit_code == 0
    titles = [line for line in result.stdout.splitlines() if line and not line.startswith(" ")]
    assert [line.split()[0] for line in titles] == list(REGISTRY)
    assert "options   modules=1 balance=depth" in result.stdout
    assert "requires  PartitionPlan, Taps" in result.stdout


def test_it_says_which_rewrite_the_graph(run: Command) -> None:
    lines = run("passes").stdout.splitlines()
    rewriting = {line.split()[0] for line in lines if line.endswith("rewrites the graph")}
    assert rewriting == {name for name in REGISTRY if pass_class(name).rewrites}


def test_json_is_one_object_per_line(run: Command) -> None:
    entries = [json.loads(line) for line in run("passes", "--json").stdout.splitlines()]
    assert [entry["name"] for entry in entries] == list(REGISTRY)
    keys = {"name", "summary", "options", "requires", "provides", "rewrites"}
    assert all(entry.keys() == keys for entry in entries)
    facts = [fact for entry in entries for fact in entry["provides"]]
    assert {fact for entry in entries for fact in entry["requires"]} <= set(facts)
