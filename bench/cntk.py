"""Pairs of images a second through the convolutional kernels, beside neural-tangents on the same images.

    python bench/cntk.py [--size 16] [--depth 5] [--images 32] [--peer-python .venv-nt/bin/python]

CNN-GP and CNTK with global average pooling, both kernels in one pass, float32; arms take turns, medians. The
peer needs `pip install neural-tangents "jax[cpu]<0.5"`, which may live in another environment: give its
interpreter. Both get the same images; the largest difference of the normalised kernels is recorded. "limit"
is what 40 single-precision operations an entry and layer take at the multiply-add rate measured in this run.
With CUDA the arm "gpu" runs too. The last line is JSON.
"""

import argparse
import json
import os
import subprocess

import numpy as np
import torch

from hornbook.theory.cntk import CntkSettings, kernel_matrices
from interleaved import clock, finish, options, take_turns

PEER = """
import json, sys, time, types
sys.modules["tf2jax"] = types.ModuleType("tf2jax")  # only TensorFlow models need it, and it may not import
import jax, numpy as np
from neural_tangents import stax
size, depth, images, clock = *map(int, sys.argv[1:4]), sys.argv[4]
now = {"wall": time.perf_counter, "cpu": time.process_time}[clock]
layers = []
for _ in range(depth):
    layers += [stax.Conv(1, (3, 3), padding="SAME", W_std=2**0.5, b_std=None), stax.Relu()]
kernel = stax.serial(*layers, stax.GlobalAvgPool(), stax.Dense(1))[2]
compute = jax.jit(lambda a, b: kernel(a, b, ("nngp", "ntk")))
random = np.random.default_rng(0)
x = random.standard_normal((images, size, size, 3)).astype(np.float32)
found = compute(x, x)
jax.block_until_ready(found.ntk)
for line in sys.stdin:
    start = now()
    found = compute(x, x)
    jax.block_until_ready(found.ntk)
    print(json.dumps({"seconds": now() - start}), flush=True)
pair = [np.asarray(k, np.float64) for k in (found.nngp, found.ntk)]
print(json.dumps([(k / np.sqrt(np.outer(np.diag(k), np.diag(k)))).tolist() for k in pair]), flush=True)
"""


def multiply_add_rate(now):
    """Fused multiply-adds a second of all threads on data in the cache, by a matrix product."""
    a = torch.randn(1024, 1024)
    torch.mm(a, a)
    best = 1e9
    for _ in range(10):
        start = now()
        torch.mm(a, a)
        best = min(best, now() - start)
    return 1024**3 / best


def main():
    parser = options(argparse.ArgumentParser(description=__doc__.split("\n")[0]), rounds=3)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--depth", type=int, default=5)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--arms", nargs="+", default=["native", "torch"])
    parser.add_argument("--peer-python", help="interpreter of an environment with neural-tangents")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    random = np.random.default_rng(0)
    shape = (given.images, given.size, given.size, 3)
    x = torch.from_numpy(random.standard_normal(shape).astype(np.float32)).permute(0, 3, 1, 2).contiguous()
    pairs, found = given.images**2, {}

    def ours(engine, images=x):
        settings = CntkSettings(
            depths=(given.depth,), pools=(given.size,), engine=engine, threads=given.threads
        )
        found[engine] = kernel_matrices(images, images, settings)  # both sides, as the peer does

    arms = {engine: lambda engine=engine: ours(engine) for engine in given.arms}
    if torch.cuda.is_available():
        arms["gpu"] = lambda: ours("triton", x.cuda())
    process = None
    if given.peer_python:
        sizes = map(str, (given.size, given.depth, given.images))
        command = [given.peer_python, "-c", PEER, *sizes, given.clock]
        environment = {**os.environ, "OMP_NUM_THREADS": str(given.threads)}
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        told = []

        def peer():
            process.stdin.write("go\n")
            process.stdin.flush()
            told.append(json.loads(process.stdout.readline())["seconds"])

        arms["neural_tangents"] = peer
    seconds, rounds = take_turns(arms, given.rounds, clock(given.clock))
    record = {}
    if process is not None:
        process.stdin.close()
        theirs = np.array(json.loads(process.stdout.readline()))
        process.wait()
        mine = found["native"][0, :, 0].numpy()
        own = np.sqrt(np.einsum("kii->ki", mine))
        mine = mine / own[:, :, None] / own[:, None]
        record["largest_difference"] = float(np.abs(mine - theirs).max())
        rounds["neural_tangents"] = told[1:]
        seconds["neural_tangents"] = sorted(told[1:])[len(told[1:]) // 2]
        record["speedup_over_neural_tangents"] = seconds["neural_tangents"] / seconds["native"]
    entries = given.size**4 * given.depth
    limit = 40 * entries * pairs / multiply_add_rate(clock(given.clock))
    finish(
        "cntk",
        given,
        {
            "microseconds_a_pair": {name: 1e6 * value / pairs for name, value in seconds.items()},
            "nanoseconds_an_entry_and_layer": 1e9 * seconds["native"] / pairs / entries,
            "times_the_limit": seconds["native"] / limit,
            **record,
            "seconds_of_rounds": rounds,
        },
    )


if __name__ == "__main__":
    main()
