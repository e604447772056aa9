"""What a parametrization costs in a training step of the decoder: nothing but more groups of parameters.

    python bench/parametrization.py [--hidden 256] [--layers 8] [--rows 8] [--time 256]

A step is forward, backward and update by the Trainer's optimizer. Two models of one shape take turns, a
step each, "standard" and "depth_mup" from half the size; medians of many rounds. The last line is JSON.
"""

import argparse

import torch
import torch.nn.functional as F

from hornbook.model.decoder import Decoder
from hornbook.model.presets import student
from hornbook.train.optim import Optimizer
from hornbook.train.scaling import optimizer_factors, scale_initial_values
from hornbook.train.settings import OptimizerSettings, TrainSettings
from interleaved import clock, finish, options, take_turns


def main():
    parser = options(argparse.ArgumentParser(description=__doc__.split("\n")[0]), rounds=30)
    for name, default in (("hidden", 256), ("layers", 8), ("rows", 8), ("time", 256)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokens = torch.randint(2048, (given.rows, given.time + 1), device=device)
    config = student(hidden_size=given.hidden, layers=given.layers, vocab_size=2048)
    arms, groups = {}, {}
    for name in ("standard", "depth_mup"):
        torch.manual_seed(0)
        settings = TrainSettings(
            optimizer=OptimizerSettings(kind=given.optimizer, learning_rate=1e-4),
            parametrization=name,
            base_width=given.hidden // 2,
            base_depth=given.layers // 2,
        )
        model = Decoder(config)
        scale_initial_values(model, settings)
        model.to(device)
        optimizer = Optimizer(model, settings.optimizer, factors=optimizer_factors(model, settings))
        groups[name] = len(optimizer.adamw.param_groups)

        def step(model=model, optimizer=optimizer):
            logits = model.logits(model(tokens[:, :-1]))
            loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step(1.0)

        arms[name] = step
    seconds, rounds = take_turns(arms, given.rounds, clock(given.clock), device)
    ratios = sorted(a / b for a, b in zip(rounds["depth_mup"], rounds["standard"]))
    finish(
        "parametrization",
        given,
        {
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
            "seconds": seconds,
            "groups": groups,
            "overhead": ratios[len(ratios) // 2] - 1,
            "seconds_of_rounds": rounds,
        },
    )


if __name__ == "__main__":
    main()
