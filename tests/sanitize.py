"""Run the C++ under sanitizers: `python tests/sanitize.py [address|thread]`; about ten minutes on two cores.

`address`: the native tests with every access and every undefined operation checked. `thread`: native/driver.cpp, where
four threads call at once; without Python, whose libraries are not instrumented. A report fails the run.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fishcli.native import build
from fishcli.native.compiler import Command, find, tuning

NATIVE = Path(__file__).parent / "native"
# The sanitizers reserve more addresses than a limit leaves, keep freed memory, and stop a thread that lives at exit.
LEFT_OUT = "not memory_that_runs_out and not threads_that_do_not_start and not exit_during and not takes_no_memory"
FLAGS = ["-O1", "-g", "-fno-omit-frame-pointer"]


def address(compiler: Command, folder: Path) -> bool:
    """Run the native tests with a compiler that adds the sanitizers. Return whether they pass without a report."""
    wrapper, reports = folder / "c++", folder / "report"
    flags = " ".join([*FLAGS, "-fsanitize=address,undefined", "-fno-sanitize-recover=all"])
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.join(compiler)} "$@" {flags}\n')
    wrapper.chmod(0o755)
    runtime = subprocess.run([*compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    environment = {
        **os.environ,
        "CXX": str(wrapper),
        "LD_PRELOAD": runtime.stdout.strip(),
        "ASAN_OPTIONS": f"detect_leaks=0:log_path={reports}",
        "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={reports}",
    }
    command = [sys.executable, "-m", "pytest", "-q", str(NATIVE), "-k", LEFT_OUT]
    done = subprocess.run(command, env=environment, check=False)
    found = sorted(folder.glob("report*"))
    for report in found:
        print(report.read_text(errors="replace"))
    print(f"address: pytest ended with {done.returncode}, {len(found)} reports")
    return done.returncode == 0 and not found


def thread(compiler: Command, folder: Path) -> bool:
    """Compile and run the driver. Return whether it ends without a report."""
    program, source = str(folder / "driver"), str(NATIVE / "driver.cpp")
    flags = [*build._FLAGS, *FLAGS, "-fsanitize=thread", tuning(), f"-I{build._SOURCES}"]
    subprocess.run([*compiler, *flags, source, "-o", program], check=True)
    # The runtime of GCC 12 does not start where the system draws addresses at random from 32 bits.
    fixed = ["setarch", platform.machine(), "-R"] if shutil.which("setarch") else []
    done = subprocess.run([*fixed, program], check=False)
    print(f"thread: the driver ended with {done.returncode}")
    return done.returncode == 0  # 66 after a report


def main() -> int:
    """Run the sanitizers that are named, or both."""
    compiler, results = find(), []
    if compiler is None:
        raise SystemExit("There is no C++ compiler.")
    for run in (address, thread):
        if len(sys.argv) == 1 or run.__name__ in sys.argv[1:]:
            with tempfile.TemporaryDirectory() as folder:
                results.append(run(compiler, Path(folder)))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
