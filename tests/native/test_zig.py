"""The compiler of the package ziglang, on a machine without another one."""

import importlib.util
import os
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed"),
]

PROGRAM = """
from fishcli.native import build, compiler
assert compiler.find() == {zig!r}, compiler.find()
build.load()
assert build.is_built()
print(next(build._target().parent.glob("*.so")))
"""


def test_it_compiles_where_no_other_compiler_is_found(tmp_path):
    """Nothing is left outside of the cache folder, and no home is needed."""
    environment = {"PATH": str(tmp_path), "FISHCLI_CACHE_DIR": str(tmp_path / "cache")}
    environment |= {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    zig = (sys.executable, "-m", "ziglang", "c++")
    command = [sys.executable, "-c", PROGRAM.format(zig=zig)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    library = next((tmp_path / "cache" / "native").glob("*.so"))
    assert ran.stdout.strip() == str(library)
    assert {path.suffix for path in library.parent.iterdir()} == {".so", ".sum", ".lock"}


def test_its_kernels_pass_the_tests_of_kernels(tmp_path):
    environment = {**os.environ, "CXX": f"{sys.executable} -m ziglang c++", "ZIG_GLOBAL_CACHE_DIR": str(tmp_path)}
    tests = os.path.join(os.path.dirname(__file__), "test_kernels.py")
    ran = subprocess.run([sys.executable, "-m", "pytest", "-q", tests], env=environment, check=False)
    assert ran.returncode == 0
