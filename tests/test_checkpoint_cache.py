"""The converted copy of a checkpoint: written once, and never used if it is damaged or outdated."""

import logging
import os
import subprocess
import sys
import textwrap

import pytest
import torch
from conftest import TESTS

from fishcli.checkpoints import convert


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache folder."""
    monkeypatch.setenv("FISHCLI_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "converted"


@pytest.fixture
def source(tmp_path):
    """A .pth file of one tensor."""
    torch.save({"x": torch.arange(1000.0)}, tmp_path / "x.pth")
    return tmp_path / "x.pth"


def use(source, dtype=torch.float32, recipe=1):
    """Load with a cheap conversion, and return the tensor and whether it was converted."""
    converted = []

    def add_one(state):
        converted.append(1)
        return {"x": state["x"] + 1}

    tensors = convert.load(source, dtype, add_one, {"recipe": recipe})
    return tensors["x"], bool(converted)


def put(source, tensor):
    """Replace the source by one of the same size and time."""
    status = source.stat()
    torch.save({"x": tensor}, source)
    assert source.stat().st_size == status.st_size
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_converted_once(cache, source):
    first, converted = use(source)
    assert converted
    assert torch.equal(first, torch.arange(1000.0) + 1)
    kept = convert.converted_file(source, torch.float32)
    assert convert.verify(kept)
    before = kept.stat()
    put(source, torch.zeros(1000))  # the source is not read again, or this would show
    second, converted = use(source)
    assert not converted
    assert torch.equal(first, second)
    assert (kept.stat().st_ino, kept.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_converted_again(cache, source):
    use(source)
    put(source, torch.zeros(1000))
    os.utime(source)
    assert use(source)[0].max() == 1  # by its time
    status = source.stat()
    torch.save({"x": torch.zeros(2000)}, source)
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert len(use(source)[0]) == 2000  # by its size
    assert use(source, recipe=2)[1]
    assert use(source, recipe=2, dtype=torch.bfloat16)[1]
    assert not use(source, recipe=2)[1]
    assert len(list(cache.glob("*.safetensors"))) == 2  # one a source and type: the older ones are gone
    source.with_name("link.pth").symlink_to(source)
    assert not use(source.with_name("link.pth"), recipe=2)[1]


def test_a_damaged_header_is_never_used(cache, source):
    """Flip a bit in each byte of the header, and truncate the file at each: the tensor is right every time."""
    expected = use(source)[0].clone()
    kept = convert.converted_file(source, torch.float32)
    whole = kept.read_bytes()
    length = 8 + int.from_bytes(whole[:8], "little")
    assert length % 64 == 0
    for i in range(length):
        for damaged in (whole[:i], whole[:i] + bytes([whole[i] ^ 1 << i % 7]) + whole[i + 1 :]):
            kept.write_bytes(damaged)
            assert torch.equal(use(source)[0], expected), i
    for damaged in (whole[:-1], whole + b"\0", b""):
        kept.write_bytes(damaged)
        assert torch.equal(use(source)[0], expected)
        assert convert.verify(kept)


def test_bit_rot_is_found_by_verify(cache, source):
    use(source)
    kept = convert.converted_file(source, torch.float32)
    whole = kept.read_bytes()
    assert convert.verify(kept)
    for i in range(len(whole) - 4000, len(whole), 499):
        kept.write_bytes(whole[:i] + bytes([whole[i] ^ 8]) + whole[i + 1 :])
        assert not convert.verify(kept)
    kept.unlink()
    assert not convert.verify(kept)


def only_warning(caplog):
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("fishcli.checkpoints.convert", logging.WARNING)
    return record.getMessage()


def test_a_cache_that_cannot_be_written(monkeypatch, caplog, source):
    (source.parent / "file").write_text("")
    monkeypatch.setenv("FISHCLI_CACHE_DIR", str(source.parent / "file" / "cache"))
    for _ in range(2):
        tensor, converted = use(source)
        assert converted
        assert torch.equal(tensor, torch.arange(1000.0) + 1)
    assert only_warning(caplog) == (  # one for both
        f"Converted checkpoints cannot be cached in {source.parent}/file/cache/converted (Not a directory); "
        "each start converts them again."
    )


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux does")
@pytest.mark.parametrize("limit", [0, 1, 100, 1000, 4000])
def test_a_full_disk(caplog, source, cache, limit):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        tensor, _ = use(source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert torch.equal(tensor, torch.arange(1000.0) + 1)
    assert "cannot be cached" in only_warning(caplog)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]
    assert use(source)[1]
    assert not use(source)[1]


def test_leftovers_of_killed_writers_are_removed(cache, source):
    use(source)
    kept = convert.converted_file(source, torch.float32)
    leftover = kept.with_name(f".{kept.name}.0123abcd.tmp")
    leftover.write_bytes(b"half")
    other = kept.with_name(f".other{kept.name}.0123abcd.tmp")
    other.write_bytes(b"another's")
    use(source, recipe=2)
    assert not leftover.exists()
    assert other.exists()


def script(text):
    return [sys.executable, "-c", textwrap.dedent(text)]


def test_two_processes_convert_once(cache, source):
    program = script("""
        import sys, time, torch
        from pathlib import Path
        from fishcli.checkpoints import convert
        def slowly(state):
            print("converted")
            time.sleep(1)
            return state
        input("ready")
        print(convert.load(Path(sys.argv[1]), torch.float32, slowly, {})["x"].sum().item())
    """)
    program.append(str(source))
    both = [subprocess.Popen(program, stdin=-1, stdout=-1, text=True) for _ in range(2)]
    assert [process.stdout.read(5) for process in both] == ["ready"] * 2
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=120)[0].split() for process in both]
    assert sorted(said, key=len) == [["499500.0"], ["converted", "499500.0"]]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_memory(cache, tmp_path):
    """A conversion needs the memory of the source and the copy; a later load maps the copy lazily."""
    program = script("""
        import resource, sys, torch
        from pathlib import Path
        from fishcli.checkpoints import convert
        def memory(key):
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith(key)) >> 10  # MB
        torch.set_num_threads(1)
        (torch.ones(1000) * 2).to(torch.bfloat16).isfinite().all()
        before = [memory(key) for key in ("RssAnon", "RssFile", "VmHWM")]
        tensors = convert.load(Path(sys.argv[1]), torch.float32, dict, {})
        if len(sys.argv) > 2:
            print(memory("VmRSS") - before[0] - before[1])
            sum(tensor.sum().item() for tensor in tensors.values())
        print(*(memory(key) - was for key, was in zip(("RssAnon", "RssFile", "VmHWM"), before)))
    """)
    path = tmp_path / "large.pth"
    torch.save({f"layer{i}": torch.full((8 << 20,), i, dtype=torch.bfloat16) for i in range(8)}, path)  # 16 MB each
    run = lambda *more: list(map(int, subprocess.check_output([*program, str(path), *more], text=True).split()))  # noqa: E731
    source, kept = 128, 256
    assert run()[2] < source + kept + 96  # a tensor as it is converted, twice; the library's own code
    loaded, anonymous, mapped, _ = run("use")
    assert loaded < 16
    assert anonymous < 16
    assert kept <= mapped < kept + 32


@pytest.mark.skipif(sys.platform != "linux", reason="forks a process that uses torch")
def test_killed_at_any_point():
    kills = os.environ.get("FISHCLI_TEST_KILLS", "20")
    subprocess.run([sys.executable, TESTS / "kill_conversion.py", kills], check=True, timeout=1800)
