"""Seconds to learn masks: ours, and the plain loop that leaves the network's weights their gradients.

    python bench/saliency.py [--width 64] [--pictures 8] [--steps 20]

Same network, pictures, labels, fills and steps; the plain loop is the published objective written down once,
in evaluation mode, batch norm as it comes. Arms take turns, medians. The last line is JSON.
"""

import argparse
import copy

import torch
import torch.nn.functional as F

from hornbook.theory.picture_network import folded, small_network
from hornbook.theory.saliency import MaskSettings, every_label, frozen, learn_masks, total_variation
from hornbook.theory.scenes import CLASSES, draw_scenes
from interleaved import clock, finish, options, take_turns


def plain(network, inputs, labels, pool, settings):
    """The loop of a first attempt: autograd computes what nobody asked for."""
    small = [size // settings.upsample for size in inputs.shape[2:]]
    weights = torch.zeros(len(inputs), 1, *small, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=settings.learning_rate)
    generator = torch.Generator().manual_seed(0)
    for _ in range(settings.steps):
        picks = torch.randint(len(pool), (len(inputs), settings.fills), generator=generator)
        mask = F.interpolate(torch.sigmoid(weights), inputs.shape[2:], mode="bilinear")
        total = 0
        for fill in range(settings.fills):
            masked = mask * inputs + (1 - mask) * pool[picks[:, fill]]
            total = total + network(masked).softmax(-1)
        loss = F.cross_entropy(total / settings.fills, labels, reduction="sum")
        loss = loss + settings.sparsity * mask.sum()
        loss = loss + settings.total_variation * total_variation(mask[:, 0]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return F.interpolate(torch.sigmoid(weights.detach()), inputs.shape[2:], mode="bilinear")[:, 0]


def main():
    parser = options(argparse.ArgumentParser(description=__doc__.split("\n")[0]))
    for name, default in (("width", 64), ("pictures", 8), ("steps", 20), ("fills", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    network = small_network(given.width, 3, len(CLASSES)).eval()
    fast = folded(copy.deepcopy(network))
    frozen(fast)
    scenes, pool = draw_scenes(given.pictures), draw_scenes(100, seed=1).x
    inputs, labels = every_label(scenes.x, len(CLASSES))
    settings = MaskSettings(steps=given.steps, fills=given.fills)
    found = {}

    def ours():
        found["ours"] = learn_masks(lambda x: fast(x).softmax(-1), inputs, labels, pool, settings)

    def theirs():
        found["plain"] = plain(network, inputs, labels, pool, settings)

    seconds, rounds = take_turns({"ours": ours, "plain": theirs}, given.rounds, clock(given.clock))
    finish(
        "saliency",
        given,
        {
            "masks": len(inputs),
            "seconds": seconds,
            "masks_a_second": len(inputs) / seconds["ours"],
            "speedup_over_plain_loop": seconds["plain"] / seconds["ours"],
            "largest_difference": float((found["ours"] - found["plain"]).abs().max()),
            "seconds_of_rounds": rounds,
        },
    )


if __name__ == "__main__":
    main()
