"""Calls that are timed in turns."""

import time

from fxtransport.latency import LEAST, time_in_turns


def test_calls_take_turns_and_the_slower_one_is_found() -> None:
    order: list[str] = []

    def call(name: str, seconds: float) -> None:
        order.append(name)
        time.sleep(seconds)

    calls = {"slow": lambda: call("slow", 0.02), "quick": lambda: call("quick", 0.001)}
    found = time_in_turns(calls, seconds=0.01, warmup=1)
    assert order == ["slow", "quick"] * (1 + LEAST)
    assert {each.turns for each in found.values()} == {LEAST}
    assert found["slow"].least > 0.015 > found["quick"].least
    assert found["slow"].least <= found["slow"].median
