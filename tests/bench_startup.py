"""How long `fish --help` takes, beside an empty Typer app: python tests/bench_startup.py [RUNS]

The two take turns, so that whatever else the machine does falls on both. Exit code 1 if the median of ours
is 1.5 times the other's or more.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

EMPTY = """
import typer
app = typer.Typer()
@app.command()
def main() -> None:
    "Nothing."
app()
"""
OURS = "from fishcli.cli.main import main; main()"
LIMIT = 1.5  # times


def measure(program: str) -> tuple[float, float]:
    """Seconds on the clock and on the processor of one `--help`. Windows does not tell the latter."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled once, as Typer is here
    before, start = processor_time(), time.perf_counter()
    subprocess.run([sys.executable, "-c", program, "--help"], env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start, processor_time() - before


def processor_time() -> float:
    """Seconds of the processor that ended children have taken; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)  # to the microsecond; `os.times` counts in hundredths
    return usage.ru_utime + usage.ru_stime


def medians(runs: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """(ours, empty), each the median seconds on the clock and on the processor."""
    measured: dict[str, list[tuple[float, float]]] = {OURS: [], EMPTY: []}
    for program in measured:
        measure(program)  # fills the caches
    for _ in range(runs):
        for program, times in measured.items():
            times.append(measure(program))
    ours, empty = ([statistics.median(column) for column in zip(*times, strict=True)] for times in measured.values())
    return (ours[0], ours[1]), (empty[0], empty[1])


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    ours, empty = medians(runs)
    for name, mine, other in zip(("clock", "processor"), ours, empty, strict=True):
        ratio = f"{mine / other:.2f} times" if other else "not known here"
        print(f"{name:9}  fish {1e3 * mine:4.0f} ms  empty app {1e3 * other:4.0f} ms  {ratio}")
    sys.exit(ours[0] >= LIMIT * empty[0])


if __name__ == "__main__":
    main()
