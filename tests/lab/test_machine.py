"""The machine's facts respect control groups; measured ceilings are kept."""

import json
import os

import pytest

from hornbook.lab import machine

GIB = 2**30


def fake_root(tmp_path, files):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


MEMINFO = f"MemTotal: {16 * GIB // 1024} kB\nMemFree: 1 kB\nMemAvailable: {12 * GIB // 1024} kB\n"


def test_version_2_groups_cut_cores_and_memory_at_every_level(tmp_path):
    root = fake_root(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "0::/slice/job\n",
            "sys/fs/cgroup/slice/job/cpu.max": "max 100000\n",
            "sys/fs/cgroup/slice/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/slice/job/memory.max": "max\n",
            "sys/fs/cgroup/slice/memory.max": f"{4 * GIB}\n",
            "sys/fs/cgroup/slice/memory.current": f"{3 * GIB}\n",
            "sys/fs/cgroup/slice/memory.stat": f"anon 5\ninactive_file {GIB}\n",
        },
    )
    assert machine.usable_cores(root) == 1
    assert machine.memory_total(root) == 4 * GIB
    assert machine.memory_available(root) == 2 * GIB  # cache that can be dropped counts as free


def test_version_1_groups_cut_cores_and_memory(tmp_path):
    root = fake_root(
        tmp_path,
        {
            "proc/meminfo": MEMINFO,
            "proc/self/cgroup": "4:memory:/job\n3:cpu,cpuacct:/job\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "10000\n",
            "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": f"{2 * GIB}\n",
            "sys/fs/cgroup/memory/job/memory.usage_in_bytes": f"{GIB}\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        },
    )
    assert machine.usable_cores(root) == 1
    assert machine.memory_total(root) == 2 * GIB
    assert machine.memory_available(root) == GIB


def test_without_groups_the_machine_is_the_limit(tmp_path):
    root = fake_root(tmp_path, {"proc/meminfo": MEMINFO})
    assert machine.memory_total(root) == 16 * GIB
    assert machine.memory_available(root) == 12 * GIB
    if hasattr(os, "sched_getaffinity"):
        assert machine.usable_cores(root) == len(os.sched_getaffinity(0))


def test_facts_of_this_machine_are_plausible(tmp_path):
    facts = machine.machine_facts(tmp_path)
    assert 1 <= facts.cores <= (os.cpu_count() or 1)
    assert 0 < facts.memory_available <= facts.memory_total
    assert facts.disk_free > 0
    assert facts.cpu
    json.dumps(facts.to_json())


def test_ceilings_are_measured_once_and_refreshed_upwards(tmp_path, monkeypatch):
    first = machine.ceilings(folder=tmp_path)
    assert first.fp32_gflops > 1
    assert first.bf16_gflops > 0
    assert 0.5 < first.bandwidth_gb_s < 10_000

    def fail(device, name):
        raise AssertionError("measured twice")

    monkeypatch.setattr(machine, "_measure", fail)
    assert machine.ceilings(folder=tmp_path) == first
    slower = machine.Ceilings(
        device=first.device, threads=1, fp32_gflops=0.1, bf16_gflops=1e9, bandwidth_gb_s=0.1, torch="x"
    )
    monkeypatch.setattr(machine, "_measure", lambda device, name: slower)
    refreshed = machine.ceilings(folder=tmp_path, refresh=True)
    assert refreshed.fp32_gflops == first.fp32_gflops
    assert refreshed.bf16_gflops == 1e9
    (path,) = tmp_path.iterdir()
    path.write_text("{torn")
    assert machine.ceilings(folder=tmp_path) == slower


def test_compiler_is_an_executable_or_none(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert machine.cxx_compiler() is None


@pytest.mark.parametrize("value", ["", "elsewhere"])
def test_the_cache_folder_can_be_chosen(monkeypatch, tmp_path, value):
    monkeypatch.setenv("HORNBOOK_CACHE", str(tmp_path / value) if value else "")
    chosen = machine.cache_folder()
    assert (chosen == tmp_path / "elsewhere") == bool(value)
    assert chosen.name
