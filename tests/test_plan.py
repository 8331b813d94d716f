"""How a model runs: the number of threads, and the quota of control groups."""

import pytest

from fishcli.runners import plan


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n"}, 2.0),
        ("0::/a/b\n", {"a/b/cpu.max": "100000 100000\n", "a/cpu.max": "200000 100000\n"}, 1.0),
        ("0::/gone\n", {"cpu.max": "50000 100000\n"}, 0.5),
        (
            "4:memory:/x\n1:cpu,cpuacct:/d\n",
            {"cpu/d/cpu.cfs_quota_us": "300000\n", "cpu/d/cpu.cfs_period_us": "100000\n", "x/cpu.max": "1 1\n"},
            3.0,
        ),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("", {}, None),
    ],
)
def test_the_quota_of_control_groups(tmp_path, groups, files, quota):
    (tmp_path / "own").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert plan.cpu_quota(tmp_path / "groups", tmp_path / "own") == quota


@pytest.mark.parametrize(
    ("wanted", "large", "cores", "quota", "threads"),
    [
        (None, True, 8, None, 8),
        (None, True, 8, 2.0, 2),
        (None, True, 8, 2.9, 2),
        (None, True, 8, 0.5, 1),
        (None, True, 2, 16.0, 2),
        (None, False, 8, None, 1),
        (None, False, 8, 4.0, 1),
        (6, True, 8, 2.0, 6),
        (6, False, 8, None, 6),
    ],
)
def test_threads_follow_the_cores_and_the_quota(monkeypatch, wanted, large, cores, quota, threads):
    monkeypatch.setattr(plan, "physical_cores", lambda: cores)
    monkeypatch.setattr(plan, "cpu_quota", lambda: quota)
    assert plan.pick_threads(wanted, 2 * plan.SMALL if large else plan.SMALL // 2) == threads
