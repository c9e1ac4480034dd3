"""Warnings that are given once are given once in each test."""

import pytest

from fxtransport.ot import notices


@pytest.fixture(autouse=True)
def _said_again() -> None:
    notices.reset()
