"""The kernel view of fine-tuning as steps: a small language model, fine-tuned and as a kernel machine."""

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.lab.step import StepContext, step
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.theory import toy_language as language
from hornbook.theory.empirical_kernel import (
    empirical_kernels,
    flat,
    linearised,
    median_change,
    relative_change,
    solve_asymmetric,
    solve_kernel,
)
from hornbook.theory.prompted import Headed, Prompted, features, fine_tune, probe

WEIGHTS = "weights.pt"


def toy_config(hidden_size: int, layers: int) -> ModelConfig:
    """A decoder for the toy language."""
    return ModelConfig(
        vocab_size=language.VOCABULARY,
        hidden_size=hidden_size,
        layers=layers,
        heads=4,
        intermediate_size=2 * hidden_size,
        max_position=16,
    )


@step(version="1", makes="checkpoint")
def pretrain_on_toy_language(
    ctx: StepContext,
    *,
    hidden_size: int,
    layers: int,
    steps: int,
    batch: int,
    learning_rate: float,
    seed: int,
) -> dict[str, Any]:
    """Next-token training on sentences with verdicts. Facts: loss, zero-shot accuracy on new sentences."""
    torch.manual_seed(seed)
    decoder = Decoder(toy_config(hidden_size, layers))
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=learning_rate)
    generator = torch.Generator().manual_seed(seed)
    progress = ctx.progress(steps, "steps")
    loss = torch.tensor(0.0)
    for number in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(1, (number + 1) / 20, 2 * (steps - number) / steps)
        text = language.with_verdicts(language.draw(batch, generator), generator)
        logits = decoder.logits(decoder(text[:, :-1]))
        loss = F.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        progress.advance(1)
    held_out = language.draw(400, torch.Generator().manual_seed(seed + 7_000_003))
    with torch.no_grad():
        out = prompted(decoder)(*held_out.prompted())
    torch.save(decoder.state_dict(), ctx.folder / WEIGHTS)
    return {
        "hidden_size": hidden_size,
        "layers": layers,
        "loss": float(loss.detach()),
        "zero_shot": _accuracy(out[:, 0], held_out.y),
        "parameters": decoder.config.parameters(),
    }


def load_toy_model(artifact: Any) -> Decoder:
    """The decoder that `pretrain_on_toy_language` made."""
    decoder = Decoder(toy_config(artifact.facts["hidden_size"], artifact.facts["layers"]))
    decoder.load_state_dict(torch.load(artifact / WEIGHTS, weights_only=True))
    return decoder.eval()


def prompted(decoder: Decoder) -> Prompted:
    """f = logit of the first praise minus logit of the first blame, behind "it was"."""
    return Prompted(decoder, (language.BLAME, language.PRAISE))


def _accuracy(scores: Tensor, y: Tensor) -> float:
    return float(((scores > 0) == (y > 0)).double().mean())


@step(version="1")
def few_shot_study(
    ctx: StepContext,
    *,
    model: Any,
    k: int,
    test: int,
    swapped: int,
    steps: int,
    batch: int,
    sgd_rates: Sequence[float],
    adam_rates: Sequence[float],
    ridges: Sequence[float],
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Fine-tuning and kernel regression on k examples a label, with the prompt and with a head on no prompt.

    Rates and ridges are chosen on k further examples a label. Facts: form -> name -> one number a seed, where
    form is "prompt" or "head" and names are accuracies (start, sgd, adam, kernel_sgd, kernel_signgd,
    kernel_asigngd, linear_sgd, linear_adam) and changes of the kernel (change_*, median_change_*).
    """
    decoder = load_toy_model(model)
    progress = ctx.progress(2 * len(seeds), "studies")
    found: dict[str, dict[str, list[float]]] = {"prompt": {}, "head": {}}
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        parts = [language.balanced(k, generator, swapped=swapped) for _ in range(2)]
        parts.append(language.draw(test, generator, swapped=swapped))
        for form, table in found.items():
            module, inputs = _classifier(decoder, parts, form)
            ys = [part.y for part in parts]
            for name, number in _one_study(
                module,
                inputs,
                ys,
                steps=steps,
                batch=batch,
                rates={"sgd": sgd_rates, "adam": adam_rates},
                ridges=ridges,
                seed=seed,
            ).items():
                table.setdefault(name, []).append(number)
            progress.advance(1)
    return found


def _classifier(
    decoder: Decoder, parts: list[language.Sentences], form: str
) -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    if form == "prompt":
        return prompted(decoder), [part.prompted() for part in parts]
    inputs = [part.bare() for part in parts]
    return Headed(decoder, *probe(features(decoder, *inputs[0]), parts[0].y)), inputs


def _one_study(
    module: nn.Module,
    inputs: list[tuple[Tensor, Tensor]],
    ys: list[Tensor],
    *,
    steps: int,
    batch: int,
    rates: dict[Literal["sgd", "adam"], Sequence[float]],
    ridges: Sequence[float],
    seed: int,
) -> dict[str, float]:
    train, check, test = inputs
    with torch.no_grad():
        out = {"start": _accuracy(module(*test)[:, 0], ys[2])}
    both = tuple(torch.cat([check[i], test[i]]) for i in range(2))
    inner = empirical_kernels(module, train, kinds=("sgd", "signgd", "asigngd"))
    outer = empirical_kernels(module, train, both, kinds=("sgd", "signgd", "asigngd", "asigngd_flip"))
    size = len(ys[1])

    def best(candidates: list[Tensor]) -> float:
        """Test accuracy of the predictions that are best on the check part (the first of equals)."""
        chosen = max(candidates, key=lambda p: _accuracy(p[:size], ys[1]))
        return _accuracy(chosen[size:], ys[2])

    y = ys[0].double()
    for kind in ("sgd", "signgd"):
        gram, cross = flat(inner[kind]), flat(outer[kind])
        out[f"kernel_{kind}"] = best(
            [solve_kernel(gram, cross, y, ridge=r) for r in sorted(ridges, reverse=True)]
        )
    gram, cross, flip = flat(inner["asigngd"]), flat(outer["asigngd"]), flat(outer["asigngd_flip"])
    gammas = (1.0, 10.0, 100.0, 1000.0)
    out["kernel_asigngd"] = best([solve_asymmetric(gram, cross, flip, y, gamma=g) for g in gammas])
    before = inner["sgd"]
    for rule, candidates in rates.items():
        tuned: list[tuple[float, nn.Module]] = []
        for rate in candidates:
            made = fine_tune(
                module, train, ys[0], optimizer=rule, learning_rate=rate, steps=steps, batch=batch, seed=seed
            )
            with torch.no_grad():
                tuned.append((_accuracy(made(*check)[:, 0], ys[1]), made))
        chosen = max(tuned, key=lambda pair: pair[0])[1]
        with torch.no_grad():
            out[rule] = _accuracy(chosen(*test)[:, 0], ys[2])
        moved = {name: p.detach() for name, p in chosen.named_parameters()}
        out[f"linear_{rule}"] = _accuracy(linearised(copy.deepcopy(module), test, moved)[:, 0], ys[2])
        after = empirical_kernels(chosen, train)["sgd"]
        out[f"change_{rule}"] = relative_change(before, after)
        out[f"median_change_{rule}"] = median_change(before, after)
    return out
