"""What block-sparse attention saves, by length: seconds of a pass, of a step, and bytes of keys and values.

    python bench/sparse_attention.py [--device cpu|cuda] [--lengths 1024,2048,...] [--pairs 5] [--out FILE]

Attention with phi-3-small's pattern (blocks of 64, 16 near, one in 8 further back) and heads of 128, 4 query
heads a key head, once block-sparse and once dense, with the same weights: one layer's whole pass without
gradients and with them, and one token through 16 layers behind a full cache (`StripedCache` and
`KeyValueCache`). On a CPU 8 of the 32 heads, bf16, one thread, CPU time; on a GPU all heads, clock time. Arms
interleaved, medians. The bytes are the released model's, all layers, bf16. The last line is JSON.
"""

import argparse
import json
import os
import platform
import statistics
import time
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from hornbook.lab.machine import cpu_name
from hornbook.model.attention import sparse_in_training, visible_in_training
from hornbook.model.cache import KeyValueCache
from hornbook.model.layers import Attention
from hornbook.model.presets import preset
from hornbook.model.rope import Rope
from hornbook.model.striped_cache import StripedCache

RELEASED = preset("phi-3-small")
DEPTH = RELEASED.layers // 2


def layers_of(heads, device, *, sparse):
    """Attention layers of `heads` query heads, as many as the released model has sparse ones."""
    pattern = replace(RELEASED.block_sparse, dense_every=0 if sparse else 1)
    config = replace(
        RELEASED,
        layers=DEPTH,
        heads=heads,
        kv_heads=heads // 4,
        hidden_size=128 * heads,
        max_position=1 << 17,
        block_sparse=pattern,
    )
    torch.manual_seed(0)
    layers = torch.nn.ModuleList(Attention(config, number) for number in range(DEPTH))
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.normal_(std=0.02)
    return config, layers.to(device, torch.bfloat16)


def seconds(work, device):
    """CPU time, or clock time of a GPU's work."""
    if device == "cuda":
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - start
    start = time.process_time()
    work()
    return time.process_time() - start


def interleaved(arms, pairs, device):
    """Median seconds of each arm; every arm runs once untimed."""
    for work in arms.values():
        work()
    taken = {name: [] for name in arms}
    for _ in range(pairs):
        for name, work in arms.items():
            taken[name].append(seconds(work, device))
    return {name: statistics.median(values) for name, values in taken.items()}


def passes(layers, length, device, *, backward):
    """The arms of a whole pass of one row."""
    arms = {}
    for name, (config, (layer, *_)) in layers.items():
        x = torch.randn(1, length, config.hidden_size, device=device, dtype=torch.bfloat16)
        x.requires_grad_(backward)
        cos, sin = Rope(config)(torch.arange(length, device=device), length)

        def work(config=config, layer=layer, x=x, cos=cos, sin=sin):
            with torch.set_grad_enabled(backward):
                dense = visible_in_training(
                    length, device=x.device, blocks=torch.bfloat16 if device == "cpu" else None
                )
                visible = sparse_in_training(
                    dense, config.block_sparse, config.heads, length, device=x.device
                )
                out = layer(x, cos, sin, visible=visible)
                if backward:
                    out.sum().backward()

        arms[name] = work
    return arms


def steps(layers, length, device):
    """The arms of one token behind `length` others (their keys are zeros, which cost the same)."""
    arms = {}
    for name, (config, stack) in layers.items():
        kind = StripedCache if name == "sparse" else KeyValueCache
        cache = kind(config, batch=1, length=length + 64, dtype=torch.bfloat16, device=device)
        x = torch.randn(1, 1, config.hidden_size, device=device, dtype=torch.bfloat16)
        cos, sin = Rope(config)(torch.tensor([length], device=device), length)

        def work(stack=stack, cache=cache, x=x, cos=cos, sin=sin):
            with torch.no_grad():
                cache.used = length
                visible = cache.visible(1, None)
                for layer in stack:
                    layer(x, cos, sin, visible=visible, cache=cache)

        arms[name] = work
    return arms


def cache_bytes(length):
    """Bytes of keys and values of the released model, striped and whole."""
    striped = StripedCache(RELEASED, batch=1, length=length, dtype=torch.bfloat16, device="meta")
    return {"sparse": striped.bytes, "dense": RELEASED.cache_bytes_per_token() * length}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--lengths", default="1024,2048,4096,8192,16384")
    parser.add_argument("--longest-backward", type=int, default=8192)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    heads = 32 if options.device == "cuda" else 8
    layers = {name: layers_of(heads, options.device, sparse=name == "sparse") for name in ("dense", "sparse")}
    rows = []
    for length in map(int, options.lengths.split(",")):
        row = {"length": length, "cache_bytes": cache_bytes(length)}
        measured = {
            "pass_seconds": passes(layers, length, options.device, backward=False),
            "step_seconds": steps(layers, length, options.device),
        }
        if length <= options.longest_backward:
            measured["training_seconds"] = passes(layers, length, options.device, backward=True)
        for name, arms in measured.items():
            row[name] = interleaved(
                arms, options.pairs * (5 if name == "step_seconds" else 1), options.device
            )
        rows.append(row)
        ratios = {
            name: f"{value['dense'] / value['sparse']:.2f}x"
            for name, value in row.items()
            if name != "length"
        }
        print(length, ratios, flush=True)
    result = {
        "what": "block-sparse attention beside dense",
        "device": torch.cuda.get_device_name() if options.device == "cuda" else cpu_name(),
        "machine": platform.platform(),
        "torch": torch.__version__,
        "threads": 1,
        "dtype": "bfloat16",
        "heads": heads,
        "kv_heads": heads // 4,
        "head_dim": 128,
        "pairs": options.pairs,
        "rows": rows,
    }
    line = json.dumps(result)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(line)


if __name__ == "__main__":
    main()
