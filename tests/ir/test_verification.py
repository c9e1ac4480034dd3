"""The largest error of all comparisons."""

from fxtransport.ir import VerificationReport
from fxtransport.ir.verification import Check


def test_the_largest_error_counts() -> None:
    checks = (Check("train", 1, 0.0, 0.25, 0.125), Check("eval", 1, 0.5, 0.0, 0.0))
    assert [check.error for check in checks] == [0.25, 0.5]
    assert VerificationReport(checks).max_error == 0.5
    assert VerificationReport(()).max_error == 0.0
