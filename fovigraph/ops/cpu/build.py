"""Compiles ``kernels`` for this machine, once, and keeps the library among cached files."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

from fovigraph._cache import cache_folder

log = logging.getLogger(__name__)

SOURCES = Path(__file__).with_name("kernels")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-fPIC", "-shared")
SWITCH = "FOVIGRAPH_NATIVE"
"""The environment variable that, set to 0, leaves everything to torch."""

NUMBER, POINTER, INT = ctypes.c_int64, ctypes.c_void_p, ctypes.c_int
GATHER = [POINTER] * 2 + [NUMBER] * 3 + [POINTER] * 5 + [NUMBER] * 6 + [INT] * 2
OUTER = [POINTER] * 6 + [NUMBER] * 6 + [INT]
MAXIMUM = [POINTER] * 5 + [NUMBER] * 4 + [INT]
SUM = [*MAXIMUM, INT]
ROWS = [NUMBER, NUMBER, ctypes.c_double, INT]
KERNELS = {
    "gather_by_node": GATHER,
    "gather_by_cell": GATHER,
    "outer_by_cell": OUTER,
    "outer_by_node": OUTER,
    "pool_max": MAXIMUM,
    "pool_max_gradient": MAXIMUM,
    "pool_sum": SUM,
    "pool_sum_gradient": SUM,
    "normalise": [*[POINTER] * 6, *ROWS],
    "normalise_gradient": [*[POINTER] * 8, *ROWS],
}
"""The functions of the library and the types of their arguments."""


@cache
def library() -> ctypes.CDLL | None:
    """Return the compiled kernels, or ``None`` where they cannot be had.

    They need a C++ compiler with OpenMP (``$CXX``, or ``g++`` or ``clang++``), as torch-scatter
    does, and a folder to keep the library in. The first call on a machine takes some seconds.
    """
    if os.environ.get(SWITCH, "1") == "0":
        return None
    try:
        loaded = _load()
    except (OSError, subprocess.SubprocessError) as error:
        level = logging.INFO if isinstance(error, Unavailable) else logging.WARNING
        log.log(level, "no compiled kernels, so torch's own operations convolve: %s", error)
        return None
    for name, arguments in KERNELS.items():
        for dtype in ("float", "double"):
            getattr(loaded, f"{name}_{dtype}").argtypes = arguments
    return loaded


def _load() -> ctypes.CDLL:
    path = _compiled()
    try:
        return ctypes.CDLL(str(path))
    except OSError:  # a damaged file
        path.unlink()
        return ctypes.CDLL(str(_compiled()))


class Unavailable(OSError):
    """There is no compiler, or no folder to keep the library in, which is not a fault."""


def _compiled() -> Path:
    """Return the library for this source, compiler and processor, compiled if it was not yet."""
    folder = cache_folder()
    if folder is None:
        raise Unavailable("nothing is to be kept between runs")
    compiler = _compiler()
    command = [compiler, *FLAGS]
    about = _run([*command[:-1], "-dM", "-E", "-x", "c++", os.devnull])  # the processor's macros
    key = hashlib.sha256(f"{command}{about}{_openmp()}".encode())
    for source in sorted(SOURCES.iterdir()):
        key.update(source.read_bytes())
    target = folder / "kernels" / f"{key.hexdigest()[:32]}.so"
    if not target.exists():
        log.info("compiling the kernels of convolutions, once: some seconds")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as aside:
            made = Path(aside) / target.name
            inputs = [str(SOURCES / "kernels.cpp"), *_openmp(), "-Wl,--as-needed"]
            _run([*command, *inputs, "-o", str(made)])
            made.replace(target)  # at once: other processes see all of it or nothing
    return target


def _compiler() -> str:
    for name in (os.environ.get("CXX"), "g++", "clang++"):
        if name and (found := shutil.which(name)):
            return found
    raise Unavailable("no C++ compiler: neither $CXX nor g++ nor clang++ is there")


def _openmp() -> list[str]:
    """Return torch's own OpenMP library, if it has one: threads of two would compete."""
    return [str(path) for path in sorted(Path(torch.__file__).parent.glob("lib/libgomp*.so*"))[:1]]


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise subprocess.SubprocessError(f"{command[0]} failed: {done.stderr[-1000:]}")
    return done.stdout
