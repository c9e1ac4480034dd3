"""Every example in a docstring runs and says what it claims."""

import doctest
import importlib
import pkgutil

import pytest

PACKAGES = ["fxtransport", "fxtransport.passes", "fxtransport.cli"]


def modules() -> list[str]:
    """List every module; passes and cli stand elsewhere on disk, so each is walked by itself."""
    found = set(PACKAGES)
    for name in PACKAGES:
        package = importlib.import_module(name)
        found.update(info.name for info in pkgutil.walk_packages(package.__path__, f"{name}."))
    return sorted(found)


@pytest.mark.parametrize("name", modules())
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0
