"""bench/gpu.py, tried out on a CPU in small: on a GPU there must be nothing left to mend."""

import importlib.util
import json
from pathlib import Path

import pytest

from hornbook.train.throughput import flops_per_token

BENCH = Path(__file__).parents[2] / "bench" / "gpu.py"


def test_both_halves_run_and_their_shares_follow_from_their_rates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HORNBOOK_BENCH_RAISE", "1")
    spec = importlib.util.spec_from_file_location("gpu_bench", BENCH)
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    file = tmp_path / "out.json"
    small = ["--device", "cpu", "--shapes", "tiny", "--time", "32", "--warm", "1", "--steps", "2"]
    few = ["--batches", "1,3", "--prompt", "8", "--new", "6", "--rounds", "1", "--json", str(file)]
    report = bench.main([*small, *few, "--documents", "10", "--transformers"])
    assert json.loads(file.read_text()) == report
    trained = report["training"]["tiny"]
    limits = report["ceilings"]
    product = 1e9 * max(limits["bf16_gflops"], limits["fp32_gflops"])
    flops = flops_per_token(bench.config_of("tiny", 32), 32)
    expected = 2 * 32 / trained["seconds_per_step"] * flops / product
    assert trained["share_of_measured_product"] == pytest.approx(expected)
    assert trained["last_loss"] != trained["first_loss"]
    for batch in (1, 3):
        drawn = report["decoding"][f"tiny x {batch}"]
        steps_a_second = drawn["tokens_per_second"]["hornbook"] / batch
        moved = steps_a_second * drawn["bytes_a_step"] / 1e9
        assert drawn["share_of_measured_bandwidth"] == pytest.approx(moved / limits["bandwidth_gb_s"])
        assert drawn["times_transformers"] is not None


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("gpu_bench", BENCH)
    assert spec is not None
    assert spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="no CUDA device"):
        bench.main([])
