"""Seconds for the kernel of a language model: streamed gradients, whole Jacobians, and forward mode.

    python bench/empirical_kernel.py [--train 32] [--test 250] [--hidden 64] [--layers 2]

k = 16 examples a label is 32 training examples. "whole" is vmap(jacrev) over all examples at once and one
matrix product, whatever memory that takes; "forward" pushes every training gradient through the test
examples, the authors' route, timed on four training examples and scaled. Arms take turns, medians. The last
line is JSON.
"""

import argparse

import torch

from hornbook.model.decoder import Decoder
from hornbook.theory import toy_language as language
from hornbook.theory.empirical_kernel import (
    empirical_kernels,
    gradient_rows,
    kernel_by_jvp,
    plan_kernel,
    trained_parameters,
)
from hornbook.theory.steps_kernel import prompted, toy_config
from interleaved import clock, finish, options, take_turns


def main():
    parser = options(argparse.ArgumentParser(description=__doc__.split("\n")[0]))
    for name, default in (("train", 32), ("test", 250), ("hidden", 64), ("layers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--memory", type=float, default=1e8, help="bytes that streamed gradients may take")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    module = prompted(Decoder(toy_config(given.hidden, given.layers)).eval())
    generator = torch.Generator().manual_seed(0)
    train, test = (language.draw(n, generator).prompted() for n in (given.train, given.test))
    few = tuple(t[:4] for t in train)
    thetas = trained_parameters(module)
    count = sum(t.numel() for t in thetas.values())
    found = {}

    def whole():
        rows = [gradient_rows(module, part, thetas).flatten(0, 1) for part in (test, train)]
        found["whole"] = rows[0] @ rows[1].T

    def streamed():
        found["streamed"] = empirical_kernels(module, train, test, memory_bytes=given.memory)["sgd"]

    arms = {"streamed": streamed, "whole": whole, "forward": lambda: kernel_by_jvp(module, few, test)}
    seconds, rounds = take_turns(arms, given.rounds, clock(given.clock))
    seconds["forward"] *= given.train / 4
    error = (found["streamed"].flatten(2).flatten(0, 1) - found["whole"]).abs().max()
    plan = plan_kernel(count, 1, given.train, given.test, memory_bytes=given.memory, chunk=0, signs=False)
    finish(
        "empirical_kernel",
        given,
        {
            "parameters": count,
            "seconds": seconds,
            "speedup_over_forward_mode": seconds["forward"] / seconds["streamed"],
            "speedup_over_whole_jacobians": seconds["whole"] / seconds["streamed"],
            "bytes_streamed": plan.bytes,
            "bytes_whole": 4 * count * (given.train + given.test) * 2,
            "largest_difference": float(error / found["whole"].abs().max()),
            "seconds_of_rounds": rounds,
        },
    )


if __name__ == "__main__":
    main()
