"""What budgets are made of."""

from fxtransport.fitting import CUDA_CONTEXT, reserve_of


def test_the_reserve_is_a_share_and_a_context() -> None:
    assert reserve_of(10**9, "cpu") == 30_000_000
    assert reserve_of(10**9, "cuda:1") == 30_000_000 + CUDA_CONTEXT
