"""The kernel view of fine-tuning as steps: a small language model, fine-tuned and as a kernel machine."""

import copy
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.lab.files import write_json
from hornbook.lab.step import StepContext, step
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.theory import toy_language as language
from hornbook.theory.empirical_kernel import (
    KINDS,
    empirical_kernels,
    flat,
    linearised,
    median_change,
    relative_change,
    solve_asymmetric,
    solve_kernel,
)
from hornbook.theory.labelled_text import encoded, label_word, load_labelled_text, open_decoder
from hornbook.theory.prompted import Headed, Prompted, features, fine_tune, probe
from hornbook.theory.threads import one_thread

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
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=learning_rate, fused=True)
    generator = torch.Generator().manual_seed(seed)
    progress = ctx.progress(steps, "steps")
    loss = torch.tensor(0.0)
    with one_thread():
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


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """How a few-shot study fine-tunes and solves.

    steps, batch: of fine-tuning. sgd_rates, adam_rates, ridges: candidates, of which k further examples
    a label choose.
    memory_bytes: the most that gradients may take. project: see `empirical_kernels`; 0 is exact.
    """

    steps: int = 60
    batch: int = 8
    sgd_rates: tuple[float, ...] = (0.03, 0.1, 0.3)
    adam_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    ridges: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0)
    memory_bytes: float = 2e9
    project: int = 0


@step(version="2")
def few_shot_study(
    ctx: StepContext,
    *,
    model: Any,
    k: int,
    test: int,
    swapped: int,
    forms: Sequence[str],
    study: StudySettings,
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Fine-tuning and kernel regression on k examples a label of the toy language's shifted task.

    forms: "prompt" and "head" (a linear head on no prompt). Facts: form -> name -> one number a seed; names
    are accuracies (start, sgd, adam, kernel_sgd, kernel_signgd, kernel_asigngd, linear_sgd, linear_adam) and
    changes of the kernel (change_*, median_change_*).
    """
    decoder = load_toy_model(model)

    def task(form: str, seed: int) -> Task:
        generator = torch.Generator().manual_seed(seed)
        parts = [language.balanced(k, generator, swapped=swapped) for _ in range(2)]
        parts.append(language.draw(test, generator, swapped=swapped))
        inputs = [part.prompted() if form == "prompt" else part.bare() for part in parts]
        return _task(decoder, form, (language.BLAME, language.PRAISE), inputs, [part.y for part in parts])

    return _studies(ctx, task, forms, seeds, study)


@step(version="1")
def few_shot_on_text(
    ctx: StepContext,
    *,
    model: str,
    data: Path,
    prompt: str,
    words: tuple[str, str],
    k: int,
    test: int,
    forms: Sequence[str],
    study: StudySettings,
    seeds: Sequence[int],
) -> dict[str, Any]:
    """The same on labelled sentences of a file, with any checkpoint folder, or "smollm2".

    prompt: follows each sentence; words: the label words of 0 and 1, one token each. Facts: as above.
    """
    decoder, tokenizer = open_decoder(model, ctx.say)
    labels = (label_word(tokenizer, words[0]), label_word(tokenizer, words[1]))
    text = load_labelled_text(data)

    def task(form: str, seed: int) -> Task:
        parts = text.draw(k, test, seed)
        inputs = [encoded(tokenizer, part.texts, prompt if form == "prompt" else "") for part in parts]
        return _task(decoder, form, labels, inputs, [part.y for part in parts])

    return _studies(ctx, task, forms, seeds, study)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One draw: the classifier before fine-tuning; inputs and labels to train on, choose with, test on."""

    module: nn.Module
    inputs: list[tuple[Tensor, Tensor]]
    y: list[Tensor]


def _task(
    decoder: Decoder,
    form: str,
    words: tuple[int, int],
    inputs: list[tuple[Tensor, Tensor]],
    y: list[Tensor],
) -> Task:
    if form == "prompt":
        return Task(module=Prompted(decoder, words), inputs=inputs, y=y)
    head = probe(features(decoder, *inputs[0]), y[0])
    return Task(module=Headed(decoder, *head), inputs=inputs, y=y)


def _studies(
    ctx: StepContext,
    task: Callable[[str, int], Task],
    forms: Sequence[str],
    seeds: Sequence[int],
    study: StudySettings,
) -> dict[str, dict[str, list[float]]]:
    """Every form and seed; what is finished is kept and not studied again after an interruption."""
    progress = ctx.progress(len(forms) * len(seeds), "studies")
    found: dict[str, dict[str, list[float]]] = {form: {} for form in forms}
    for seed in seeds:
        for form in forms:
            kept = ctx.folder / f"{form}-{seed}.json"
            if not kept.exists():
                with one_thread():
                    write_json(kept, _one_study(task(form, seed), study, seed))
            for name, number in json.loads(kept.read_text()).items():
                found[form].setdefault(name, []).append(number)
            progress.advance(1)
    return found


def _one_study(task: Task, study: StudySettings, seed: int) -> dict[str, float]:
    module, (train, check, test) = task.module, task.inputs
    kernels = functools.partial(
        empirical_kernels, module, memory_bytes=study.memory_bytes, project=study.project
    )
    with torch.no_grad():
        out = {"start": _accuracy(module(*test)[:, 0], task.y[2])}
    inner = kernels(train, kinds=("sgd", "signgd", "asigngd"))
    sides = [kernels(train, part, kinds=KINDS) for part in (check, test)]
    outer = {kind: torch.cat([side[kind] for side in sides]) for kind in KINDS}
    out |= _kernel_machines(inner, outer, task.y, study.ridges)
    rates: dict[Literal["sgd", "adam"], Sequence[float]] = {"sgd": study.sgd_rates, "adam": study.adam_rates}
    for rule, candidates in rates.items():
        best: tuple[float, nn.Module] | None = None
        for rate in candidates:
            made = fine_tune(
                module,
                train,
                task.y[0],
                optimizer=rule,
                learning_rate=rate,
                steps=study.steps,
                batch=study.batch,
                seed=seed,
            )
            with torch.no_grad():
                reached = _accuracy(made(*check)[:, 0], task.y[1])
            if best is None or reached > best[0]:
                best = reached, made
        assert best is not None
        chosen = best[1]
        with torch.no_grad():
            out[rule] = _accuracy(chosen(*test)[:, 0], task.y[2])
        moved = {name: p.detach() for name, p in chosen.named_parameters()}
        out[f"linear_{rule}"] = _accuracy(linearised(copy.deepcopy(module), test, moved)[:, 0], task.y[2])
        after = empirical_kernels(chosen, train, memory_bytes=study.memory_bytes, project=study.project)[
            "sgd"
        ]
        out[f"change_{rule}"] = relative_change(inner["sgd"], after)
        out[f"median_change_{rule}"] = median_change(inner["sgd"], after)
    return out


def _kernel_machines(
    inner: Mapping[Any, Tensor], outer: Mapping[Any, Tensor], ys: list[Tensor], ridges: Sequence[float]
) -> dict[str, float]:
    """Test accuracy of each kernel's predictions, those that are best on the check part (first of equals)."""
    size, y, out = len(ys[1]), ys[0].double(), {}

    def best(candidates: list[Tensor]) -> float:
        chosen = max(candidates, key=lambda p: _accuracy(p[:size], ys[1]))
        return _accuracy(chosen[size:], ys[2])

    for kind in ("sgd", "signgd"):
        gram, cross = flat(inner[kind]), flat(outer[kind])
        solved = [solve_kernel(gram, cross, y, ridge=r) for r in sorted(ridges, reverse=True)]
        out[f"kernel_{kind}"] = best(solved)
    gram, cross, flip = flat(inner["asigngd"]), flat(outer["asigngd"]), flat(outer["asigngd_flip"])
    gammas = (1.0, 10.0, 100.0, 1000.0)
    out["kernel_asigngd"] = best([solve_asymmetric(gram, cross, flip, y, gamma=g) for g in gammas])
    return out
