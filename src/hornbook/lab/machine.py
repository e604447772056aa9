"""What this machine has and what this process may use of it; and how fast it really is."""

import functools
import importlib.metadata
import math
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hornbook.lab.files import free_bytes, sha256_of, write_json

_ROOT = Path("/")


@dataclass(frozen=True, kw_only=True)
class MachineFacts:
    """Facts that cost little to know. Memory and disk in bytes."""

    system: str
    python: str
    cpu: str
    cores: int
    memory_total: int
    memory_available: int
    disk_free: int
    torch: str | None
    gpu: str | None
    gpu_memory: int | None
    bf16: bool
    compiler: str | None

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """Measured limits of one device, with `threads` threads: what speeds are held against."""

    device: str
    threads: int
    fp32_gflops: float
    bf16_gflops: float
    bandwidth_gb_s: float
    torch: str


def machine_facts(folder: Path | None = None) -> MachineFacts:
    """The facts of this machine as this process sees it (affinity and control groups counted).

    Torch is imported only where a GPU may be present or torch is loaded already.

    Args:
        folder: where free disk is measured; the working folder by default.
    """
    gpu = _gpu()
    return MachineFacts(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        cpu=cpu_name(),
        cores=usable_cores(),
        memory_total=memory_total(),
        memory_available=memory_available(),
        disk_free=free_bytes(folder or Path.cwd()),
        torch=_version("torch"),
        gpu=gpu[0] if gpu else None,
        gpu_memory=gpu[1] if gpu else None,
        bf16=gpu[2] if gpu else cpu_has_bf16(),
        compiler=cxx_compiler(),
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def usable_cores(root: Path = _ROOT) -> int:
    """Cores this process may keep busy: its affinity mask, cut by control-group quotas (rounded up)."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    for folder in _cgroup_folders("cpu", root):
        quota, period = "", ""
        if (folder / "cpu.max").exists():
            quota, _, period = _read(folder / "cpu.max").strip().partition(" ")
        else:
            quota = _read(folder / "cpu.cfs_quota_us").strip()
            period = _read(folder / "cpu.cfs_period_us").strip()
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    return cores


def memory_total(root: Path = _ROOT) -> int:
    """Bytes of memory this process may use at most: the machine's, cut by control-group limits."""
    total = _meminfo("MemTotal", root) or _sysconf_memory()
    return min([total, *(limit for limit, _ in _cgroup_memory(root))])


def memory_available(root: Path = _ROOT) -> int:
    """Bytes of memory free for new work without swapping, within control-group limits."""
    available = _meminfo("MemAvailable", root) or _sysconf_memory()
    return max(0, min([available, *(limit - used for limit, used in _cgroup_memory(root))]))


def _meminfo(name: str, root: Path) -> int:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0


def _sysconf_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cgroup_folders(controller: str, root: Path) -> list[Path]:
    """The control-group folders that bind this process, innermost first (versions 2 and 1)."""
    folders = []
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = mount / controller if controllers else mount
        folder = base / name.lstrip("/")
        # inside a container the path may be the host's: then only the mount itself is visible
        while folder != base:
            if folder.is_dir():
                folders.append(folder)
            folder = folder.parent
        if base.is_dir():
            folders.append(base)
    return folders


def _cgroup_memory(root: Path) -> list[tuple[int, int]]:
    """(limit, bytes in use that cannot be reclaimed) of every group that sets a limit."""
    limits = []
    for folder in _cgroup_folders("memory", root):
        version2 = (folder / "memory.max").exists()
        limit = _read(folder / ("memory.max" if version2 else "memory.limit_in_bytes")).strip()
        if not limit.isdigit() or int(limit) >= 1 << 60:
            continue
        used = _read(folder / ("memory.current" if version2 else "memory.usage_in_bytes")).strip()
        cached = 0
        for line in _read(folder / "memory.stat").splitlines():
            name, _, value = line.partition(" ")
            if name == ("inactive_file" if version2 else "total_inactive_file"):
                cached = int(value)
        limits.append((int(limit), max(0, int(used or 0) - cached)))
    return limits


@functools.cache
def cpu_name() -> str:
    """The processor's name as it calls itself."""
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@functools.cache
def cpu_flags() -> frozenset[str]:
    """Instruction sets of the processor, such as "avx512_bf16" (Linux; empty elsewhere)."""
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bf16 in hardware, so that bf16 compute pays."""
    return bool(cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"})


def cxx_compiler() -> str | None:
    """Path of a C++ compiler ($CXX, c++, g++ or clang++); None when there is none."""
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        if name and (found := shutil.which(name)):
            return found
    return None


def _gpu() -> tuple[str, int, bool] | None:
    """(name, bytes of memory, bf16) of the first GPU that torch can use."""
    maybe = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists() or sys.platform == "darwin"
    if not maybe and "torch" not in sys.modules:
        return None
    try:
        import torch
    except ImportError:
        return None
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        return str(card.name), int(card.total_memory), bool(torch.cuda.is_bf16_supported())
    if torch.backends.mps.is_available():
        return f"Apple GPU ({cpu_name()})", memory_total(), True
    return None


def cache_folder() -> Path:
    """Where Hornbook keeps what it may make again: $HORNBOOK_CACHE, or the system's cache folder."""
    if chosen := os.environ.get("HORNBOOK_CACHE"):
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/hornbook"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hornbook"


def ceilings(*, device: str = "cpu", refresh: bool = False, folder: Path | None = None) -> Ceilings:
    """Measured matrix-product and memory-bandwidth limits; cached on disk per machine, threads and torch.

    Takes one to three seconds when it is not cached. A busy machine measures low: `refresh` measures anew
    and keeps the higher of old and new.

    Args:
        device: "cpu" or "cuda".
        folder: where the cache file lies; `cache_folder()` by default.
    """
    import json

    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else cpu_name()
    identity = [platform.node(), name, torch.get_num_threads(), torch.__version__]
    path = (folder or cache_folder()) / f"ceilings-{device}-{sha256_of(identity)[:12]}.json"
    known: Ceilings | None = None
    try:
        known = Ceilings(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        refresh = True
    if known is not None and not refresh:
        return known
    fresh = _measure(device, name)
    if known is not None:
        fresh = Ceilings(
            device=name,
            threads=fresh.threads,
            fp32_gflops=max(known.fp32_gflops, fresh.fp32_gflops),
            bf16_gflops=max(known.bf16_gflops, fresh.bf16_gflops),
            bandwidth_gb_s=max(known.bandwidth_gb_s, fresh.bandwidth_gb_s),
            torch=fresh.torch,
        )
    write_json(path, fresh)
    return fresh


def _measure(device: str, name: str) -> Ceilings:
    import torch

    on_gpu = device == "cuda"
    wait: Callable[[], object] = torch.cuda.synchronize if on_gpu else (lambda: None)

    def best_seconds(work: Callable[[], object], budget: float) -> float:
        """Fastest of the runs that fit in `budget` seconds, after one that warms up."""
        work()
        wait()
        best, end = math.inf, time.perf_counter() + budget
        while time.perf_counter() < end:
            start = time.perf_counter()
            work()
            wait()
            best = min(best, time.perf_counter() - start)
        return best

    rates = {}
    for kind in (torch.float32, torch.bfloat16):
        size = 8192 if on_gpu else 1536
        if not on_gpu and kind is torch.bfloat16 and not cpu_has_bf16():
            size = 384  # emulated bf16 is slow
        a = torch.randn(size, size, device=device).to(kind)
        b = torch.randn(size, size, device=device).to(kind)
        rates[kind] = 2 * size**3 / best_seconds(functools.partial(torch.mm, a, b), 0.6) / 1e9
    count = (1 << 28) if on_gpu else (1 << 25)  # 1 GiB or 128 MiB: far beyond any cache
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    seconds = best_seconds(functools.partial(target.copy_, source), 0.6)
    return Ceilings(
        device=name,
        threads=torch.get_num_threads(),
        fp32_gflops=round(rates[torch.float32], 1),
        bf16_gflops=round(rates[torch.bfloat16], 1),
        bandwidth_gb_s=round(2 * 4 * count / seconds / 1e9, 2),
        torch=str(torch.__version__),
    )
