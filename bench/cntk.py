"""Pairs of images a second through the convolutional kernels, beside neural-tangents on the same images.

    python bench/cntk.py [--size 8] [--depth 5] [--images 32] [--pairs 3] [--peer]

CNN-GP and CNTK with global average pooling, both kernels in one pass, float32, one thread, CPU time; arms
interleaved, medians. The peer needs `pip install neural-tangents "jax[cpu]<0.5"`, which may live in another
environment: then give its interpreter with --peer-python. "limit" is what 40 single-precision operations per
entry and layer would take at the vector throughput measured in the same run. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from hornbook.theory.cntk import CntkSettings, kernel_matrices

PEER = """
import sys, time, types
sys.modules["tf2jax"] = types.ModuleType("tf2jax")  # only TensorFlow models need it, and it may not import
import jax, numpy as np
from neural_tangents import stax
size, depth, images = map(int, sys.argv[1:])
layers = []
for _ in range(depth):
    layers += [stax.Conv(1, (3, 3), padding="SAME", W_std=2**0.5, b_std=None), stax.Relu()]
kernel = stax.serial(*layers, stax.GlobalAvgPool(), stax.Dense(1))[2]
compute = jax.jit(lambda a, b: kernel(a, b, ("nngp", "ntk")))
random = np.random.default_rng(0)
x, z = (random.standard_normal((images, size, size, 3)).astype(np.float32) for _ in range(2))
jax.block_until_ready(compute(x, z).ntk)
start = time.process_time()
jax.block_until_ready(compute(x + 1, z).ntk)
print(1e6 * (time.process_time() - start) / images**2)
"""


def multiply_add_rate():
    """Fused multiply-adds a second of one thread on data in the cache, by a matrix product."""
    a = torch.randn(512, 512)
    torch.mm(a, a)
    start = time.process_time()
    for _ in range(20):
        torch.mm(a, a)
    return 20 * 512**3 / (time.process_time() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--depth", type=int, default=5)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--peer-python", default=sys.executable)
    options = parser.parse_args()
    torch.set_num_threads(1)
    x, z = (torch.randn(options.images, 3, options.size, options.size) for _ in range(2))
    seconds = {engine: [] for engine in ("native", "torch")}
    peer = []
    for _ in range(options.pairs):
        for engine, taken in seconds.items():
            settings = CntkSettings(depths=(options.depth,), pools=(options.size,), engine=engine, threads=1)
            kernel_matrices(x[:1], z[:16], settings)
            start = time.process_time()
            kernel_matrices(x, z, settings)
            taken.append(1e6 * (time.process_time() - start) / options.images**2)
        if options.peer:
            command = [
                options.peer_python,
                "-c",
                PEER,
                *map(str, (options.size, options.depth, options.images)),
            ]
            out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            peer.append(float(out.split()[-1]))
    entries = options.size**4 * options.depth
    ours = statistics.median(seconds["native"])
    result = {
        "size": options.size,
        "depth": options.depth,
        "microseconds_a_pair": ours,
        "torch_microseconds_a_pair": statistics.median(seconds["torch"]),
        "pairs_a_second": 1e6 / ours,
        "nanoseconds_an_entry_and_layer": 1e3 * ours / entries,
        "times_the_limit": ours / (1e6 * 40 * entries / multiply_add_rate()),
    }
    if peer:
        result["neural_tangents_microseconds_a_pair"] = statistics.median(peer)
        result["speedup_over_neural_tangents"] = statistics.median(peer) / ours
    print(json.dumps(result))


if __name__ == "__main__":
    main()
