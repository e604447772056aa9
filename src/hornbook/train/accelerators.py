"""What accelerators promise: the figures a plan divides by. Data sheets, dense bf16, no sparsity."""

from dataclasses import dataclass

from hornbook.errors import HornbookError


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """One device. peak_tflops: dense bf16 with fp32 accumulation, in 1e12 operations a second;
    memory_gb and bandwidth_gb_s: in 1e9 bytes."""

    name: str
    peak_tflops: float
    memory_gb: float
    bandwidth_gb_s: float


ACCELERATORS: dict[str, Accelerator] = {
    device.name: device
    for device in (
        Accelerator(name="h100", peak_tflops=989.4, memory_gb=80, bandwidth_gb_s=3350),
        Accelerator(name="h200", peak_tflops=989.4, memory_gb=141, bandwidth_gb_s=4800),
        Accelerator(name="b200", peak_tflops=2250, memory_gb=180, bandwidth_gb_s=8000),
        Accelerator(name="a100", peak_tflops=312, memory_gb=80, bandwidth_gb_s=2039),
        Accelerator(name="a100-40g", peak_tflops=312, memory_gb=40, bandwidth_gb_s=1555),
        Accelerator(name="mi300x", peak_tflops=1307, memory_gb=192, bandwidth_gb_s=5300),
        Accelerator(name="l40s", peak_tflops=362, memory_gb=48, bandwidth_gb_s=864),
        Accelerator(name="rtx-4090", peak_tflops=165, memory_gb=24, bandwidth_gb_s=1008),
    )
}


def accelerator(name: str) -> Accelerator:
    """The device known by `name`; HornbookError lists the names where it is not known."""
    if name not in ACCELERATORS:
        raise HornbookError(
            f"No accelerator is called {name!r}. Known: {', '.join(ACCELERATORS)}. For another one take the "
            "nearest and say its own --peak-tflops and --memory-gb."
        )
    return ACCELERATORS[name]
