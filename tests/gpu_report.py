"""What tests/check_gpu.sh found, as one JSON and one Markdown table. It reads what the steps left, complete or not."""

import json
import re
import sys
from pathlib import Path

STEPS = ("install", "machine", "checkpoint", "bench-compiled", "tests", "bench-plain")
ENDED = {0: "passed", 124: "took too long", 125: "no time was left", 137: "took too long"}  # by exit code


def describe(device):
    """Print what the machine is, as JSON."""
    import platform

    import torch

    found = {"python": platform.python_version(), "torch": torch.__version__, "device": device}
    if device == "cuda":
        gpu = torch.cuda.get_device_properties(0)
        found |= {"gpu": gpu.name, "memory": gpu.total_memory, "cuda": torch.version.cuda}
    print(json.dumps(found))


def loaded(path):
    """The JSON object of a file, the last line of a log; empty if there is none."""
    try:
        text = path.read_text()
        return json.loads(text if path.suffix == ".json" else text.strip().split("\n")[-1])
    except (OSError, ValueError):
        return {}


def gathered(folder, device, size):
    """All results, as they go into the JSON file."""
    steps = {}
    for name in STEPS:
        if (ended := folder / f"{name}.rc").exists():
            code, seconds = map(int, ended.read_text().split())
            steps[name] = {"exit_code": code, "seconds": seconds}
    log = folder / "tests.log"
    found = re.findall(r"^(\S+::.+?) (PASSED|FAILED|SKIPPED|ERROR)\b", log.read_text() if log.exists() else "", re.M)
    return {
        "rehearsal": device != "cuda",
        "size": size,
        "machine": loaded(folder / "machine.log"),
        "steps": steps,
        "tests": {name.partition("::")[2]: ended.lower() for name, ended in found},
        "bench": {kind: loaded(folder / f"bench-{kind}.json") for kind in ("compiled", "plain")},
    }


def rows(bench):
    """The lines of the table for one run of `fish bench`: name -> figure."""
    if not bench:
        return {}
    found = {}
    for step in bench["decode_step"]:
        found[f"frames/s, batch of {step['batch']}"] = f"{step['frames_per_second']['median']:.0f}"
    bound, first, prefill = bench["roofline"], bench["first_audio"], bench["prefill"]
    rate = max(step["frames_per_second"]["median"] for step in bench["decode_step"])
    found |= {
        "batch that saturates": str(bench["saturation"]),
        "memory bandwidth, measured": f"{bound['slow_bandwidth'] / 1e9:.0f} GB/s",
        "memory roofline, batch of 1": f"{bound['frames_per_second']:.0f} frames/s",
        "share of the roofline": f"{bound['efficiency']:.0%}",
        "real-time streams, by decode steps alone": f"{rate / 21.5:.0f}",
        f"prefill of {prefill['positions']} positions": f"{1e3 * prefill['seconds']['median']:.1f} ms",
        "time to first audio, cached voice": f"{1e3 * first['cached']['median']:.0f} ms",
        "time to first audio, new voice": f"{1e3 * first['new']['median']:.0f} ms",
    }
    for decode in bench["codec_decode"]:
        found[f"vocoder, a frame in pieces of {decode['frames']}"] = (
            f"{1e3 * decode['seconds_per_frame']['median']:.2f} ms"
        )
    for sentence in bench["sentence"]:
        voice = "cached" if sentence["cached_voice"] else "new"
        found[f"real-time factor of a sentence, {voice} voice"] = f"{sentence['real_time_factor']['median']:.3f}"
    if bench["device_memory"]:
        found["peak device memory"] = f"{bench['device_memory'] / 1e9:.2f} GB"
    return found


def table(results):
    """The Markdown page."""
    machine = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    kind = "Rehearsal: no GPU has run this" if results["rehearsal"] else "On a GPU"
    yield f"# {kind} ({results['size']} random weights)\n\n{machine}\n\n| step | result | seconds |\n|---|---|---|"
    for name, step in results["steps"].items():
        yield f"| {name} | {ENDED.get(step['exit_code'], 'failed')} | {step['seconds']} |"
    counts = {kind: list(results["tests"].values()).count(kind) for kind in ("passed", "failed", "error", "skipped")}
    yield "\nTests: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()) + ".\n"
    yield from (f"- {ended}: {name}" for name, ended in results["tests"].items() if ended in ("failed", "error"))
    compiled, plain = (rows(results["bench"][kind]) for kind in ("compiled", "plain"))
    yield "\n| figure | --compile | --no-compile |\n|---|---|---|"
    yield from (f"| {name} | {compiled.get(name, '')} | {plain.get(name, '')} |" for name in {**compiled, **plain})
    yield "\nTargets with --compile: 60 % of the roofline, first audio of a known voice in 100 ms, 64 streams (H100)."


def passed(results):
    """Whether every step ended well and some tests ran."""
    return all(step["exit_code"] == 0 for step in results["steps"].values()) and "passed" in results["tests"].values()


def main():
    if sys.argv[1] == "--machine":
        return describe(sys.argv[2])
    folder, device, size = Path(sys.argv[1]), *sys.argv[2:]
    results = gathered(folder, device, size)
    page = "\n".join(table(results)) + "\n"
    (folder / "check_gpu.json").write_text(json.dumps(results, indent=2) + "\n")
    (folder / "check_gpu.md").write_text(page)
    print(page)
    print("PASSED" if passed(results) else "FAILED", f"(results in {folder})")
    return None if passed(results) else 1


if __name__ == "__main__":
    sys.exit(main())
