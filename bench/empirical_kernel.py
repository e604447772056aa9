"""Seconds for the kernel of a language model: streamed gradients, whole Jacobians, and forward mode.

    python bench/empirical_kernel.py [--train 32] [--test 64] [--hidden 64] [--layers 2] [--pairs 3]

The forward-mode arm pushes every training gradient through the test set (the authors' route); it is timed
on four training examples and scaled. One thread, CPU time, medians. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from hornbook.model.decoder import Decoder
from hornbook.theory import toy_language as language
from hornbook.theory.empirical_kernel import (
    empirical_kernels,
    gradient_rows,
    kernel_by_jvp,
    trained_parameters,
)
from hornbook.theory.steps_kernel import prompted, toy_config


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, default in (("train", 32), ("test", 64), ("hidden", 64), ("layers", 2), ("pairs", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    module = prompted(Decoder(toy_config(options.hidden, options.layers)).eval())
    generator = torch.Generator().manual_seed(0)
    train, test = (language.draw(n, generator).prompted() for n in (options.train, options.test))
    few = tuple(t[:4] for t in train)

    def whole():
        thetas = trained_parameters(module)
        rows = [gradient_rows(module, part, thetas).flatten(0, 1) for part in (test, train)]
        return rows[0] @ rows[1].T

    arms = {
        "streamed": (lambda: empirical_kernels(module, train, test, memory_bytes=1e9), 1.0),
        "whole_jacobians": (whole, 1.0),
        "forward_mode": (lambda: kernel_by_jvp(module, few, test), options.train / 4),
    }
    taken = {name: [] for name in arms}
    for work, _ in arms.values():
        work()
    for _ in range(options.pairs):
        for name, (work, scale) in arms.items():
            start = time.process_time()
            work()
            taken[name].append(scale * (time.process_time() - start))
    seconds = {name: statistics.median(values) for name, values in taken.items()}
    print(
        json.dumps(
            {
                "parameters": sum(t.numel() for t in trained_parameters(module).values()),
                "train": options.train,
                "test": options.test,
                "seconds": seconds,
                "speedup_over_forward_mode": seconds["forward_mode"] / seconds["streamed"],
                "speedup_over_whole_jacobians": seconds["whole_jacobians"] / seconds["streamed"],
            }
        )
    )


if __name__ == "__main__":
    main()
