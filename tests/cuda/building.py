"""Build a CUDA runtime without a device, with the compiler and the headers that are there."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
_HEADERS = (
    ("nvidia", "cu{major}/include"),
    ("nvidia", "cuda_runtime/include"),
    ("triton", "backends/nvidia/include"),
)
"""Packages that bring headers of CUDA, and where in them these are."""
_NOT_SUPPORTED = 801
"""The driver's ``CUDA_ERROR_NOT_SUPPORTED``."""


class CannotBuildError(Exception):
    """The runtime cannot be built here; the message is the reason."""


def build(folder: Path, cuda: str | None) -> dict[str, str]:
    """Build the runtime and the driver.

    Args:
        folder: Where they are put.
        cuda: The version of CUDA that torch was built for; None: for none.

    Returns:
        The environment variables with which a process uses them.

    Raises:
        CannotBuildError: something that is needed is not there.
    """
    if cuda is None:
        raise CannotBuildError("torch was built without CUDA")
    if shutil.which("gcc") is None:
        raise CannotBuildError("there is no gcc")
    headers = _find_headers(cuda.partition(".")[0])
    folder.mkdir(parents=True, exist_ok=True)
    stubs = folder / "stubs.c"
    stubs.write_text("\n".join(_stubs((headers / "cuda.h").read_text(encoding="utf-8"))))
    runtime, driver = folder / "libcudart-without-device.so", folder / "libcuda.so.1"
    _compile(runtime, HERE / "runtime.c", options=[f"-I{headers}"])
    _compile(driver, HERE / "driver.c", stubs, options=[f"-Wl,-soname,{driver.name}"])
    paths = [str(folder), *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
    return {
        "LD_PRELOAD": str(runtime),
        "LD_LIBRARY_PATH": os.pathsep.join(paths),
        # of a folder whose name may have been used before
        "TRITON_LIBCUDA_PATH": str(folder),
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
    }


def _find_headers(major: str) -> Path:
    """A folder with the headers of a major version of CUDA.

    Raises:
        CannotBuildError: there is none.
    """
    version = re.compile(rf"define CUDART_VERSION\s+{major}\d\d\d\b")
    for package, below in _HEADERS:
        found = importlib.util.find_spec(package)
        for place in [] if found is None else found.submodule_search_locations or []:
            folder = Path(place) / below.format(major=major)
            header = folder / "cuda_runtime_api.h"
            # some packages leave out what it includes
            complete = header.exists() and (folder / "crt" / "host_defines.h").exists()
            if complete and version.search(header.read_text(encoding="utf-8")):
                return folder
    raise CannotBuildError(f"no installed package has the headers of CUDA {major}")


def _stubs(header: str) -> Iterator[str]:
    """Functions of the driver's header, as C code: what is defined elsewhere replaces them."""
    names = set(re.findall(r"CUDAAPI\s+(cu\w+)\s*\(", header))
    # a version may be what a name stands for
    names |= set(re.findall(r"#define\s+cu\w+\s+(cu\w+_v\d+)\s", header))
    for name in sorted(names):
        yield f"__attribute__((weak)) int {name}(void) {{ return {_NOT_SUPPORTED}; }}"


def _compile(library: Path, *sources: Path, options: list[str]) -> None:
    command = ["gcc", "-shared", "-fPIC", "-O1", *options, "-o", str(library), *map(str, sources)]
    subprocess.run(command, check=True)
