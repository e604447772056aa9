"""A kernel-based view of language model fine-tuning (Malladi, Wettig, Yu, Chen, Arora 2023).

Few-shot fine-tuning with a prompt should behave like regression with the network's own gradient kernel: the
kernel solves the task, the network moves along its first-order expansion, its features stay where they were.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hornbook.lab.claim import Claim
from hornbook.lab.run import Run
from hornbook.lab.statistics import student_t_interval
from hornbook.theory.steps_kernel import few_shot_study, pretrain_on_toy_language

TITLE = "Is fine-tuning a kernel method?"
PAPER = "Malladi, Wettig, Yu, Chen, Arora 2023, arXiv 2210.05643"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this recipe can be told."""

    hidden_size: int = 64
    layers: int = 2
    pretraining_steps: int = 500
    pretraining_batch: int = 64
    k: int = 16
    """Training examples a label; as many again choose rates and ridges."""
    test: int = 250
    swapped: int = 5
    """Polar words of 16 that change sides in the task, so that there is something to learn."""
    steps: int = 60
    """Of fine-tuning."""
    batch: int = 8
    sgd_rates: tuple[float, ...] = (0.03, 0.1, 0.3)
    adam_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    ridges: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0)
    seeds: tuple[int, ...] = (13, 21, 42, 87, 100)


SCALES = {
    "smoke": Settings(
        hidden_size=16, layers=1, pretraining_steps=5, k=2, test=8, steps=2, batch=2, seeds=(13, 21)
    ),
    "quick": Settings(),
    "gpu": Settings(hidden_size=256, layers=6, pretraining_steps=5000, k=64, test=1000, steps=300),
}


def recipe(run: Run, settings: Settings) -> None:
    """Pre-train, fine-tune and solve kernels over seeds; then the paper's three criteria."""
    s = settings
    model = run.step(
        pretrain_on_toy_language,
        hidden_size=s.hidden_size,
        layers=s.layers,
        steps=s.pretraining_steps,
        batch=s.pretraining_batch,
        learning_rate=2e-3,
        seed=0,
    )
    study = run.step(
        few_shot_study,
        model=model,
        k=s.k,
        test=s.test,
        swapped=s.swapped,
        steps=s.steps,
        batch=s.batch,
        sgd_rates=s.sgd_rates,
        adam_rates=s.adam_rates,
        ridges=s.ridges,
        seeds=s.seeds,
    )
    prompt, head = study.facts["prompt"], study.facts["head"]
    run.report.title = TITLE
    columns = ["", *[name for name in prompt if "change" not in name]]
    rows = [
        [label, *[round(100 * _mean(table[name]), 1) for name in columns[1:]]]
        for label, table in (("prompt", prompt), ("head on no prompt", head))
    ]
    run.report.section(
        "Accuracy", f"Percent, mean over {len(s.seeds)} draws of {s.k} examples a label."
    ).table(
        columns, rows, note=f"The pre-trained model's zero-shot accuracy: {model.facts['zero_shot']:.3f}."
    )
    for rule, kernel in (("sgd", "kernel_sgd"), ("adam", "kernel_signgd"), ("adam", "kernel_asigngd")):
        ratios = [a / max(b, 1e-9) for a, b in zip(prompt[kernel], prompt[rule], strict=True)]
        low, high = student_t_interval(ratios)
        run.claim(
            Claim(
                id=f"{kernel.replace('_', '-')}-solves-the-task",
                sentence=f"With a prompt, {kernel.replace('_', ' ')} is as good as fine-tuning with {rule}.",
                paper_value=1.0,
                measured=_mean(ratios),
                interval=(low, high),
                unit="accuracy over fine-tuning's",
                rule="mean ratio at least 0.9, the paper's criterion",
                holds=_mean(ratios) >= 0.9,
            )
        )
    for rule in ("sgd", "adam"):
        gained = _mean(prompt[rule]) - _mean(prompt["start"])
        share = (_mean(prompt[f"linear_{rule}"]) - _mean(prompt["start"])) / gained if gained > 0.01 else None
        run.claim(
            Claim(
                id=f"{rule}-is-linear",
                sentence=f"The first-order expansion recovers half of what fine-tuning with {rule} gains.",
                measured=share,
                unit="share of the gain in accuracy",
                rule="at least 0.5, the paper's criterion; not judged where the gain is under a point",
                holds=None if share is None else share >= 0.5,
            )
        )
        change = _mean(prompt[f"change_{rule}"])
        run.claim(
            Claim(
                id=f"{rule}-keeps-features",
                sentence=f"Fine-tuning with {rule} leaves the kernel near where it was.",
                measured=change,
                unit="mean relative change of an entry",
                rule="below 2, the paper's criterion",
                holds=change < 2,
                why=f"Median over entries: {_mean(prompt[f'median_change_{rule}']):.2f}.",
            )
        )
    gaps = [a - b for a, b in zip(prompt["kernel_sgd"], head["kernel_sgd"], strict=True)]
    low, high = student_t_interval(gaps)
    run.claim(
        Claim(
            id="kernels-need-the-prompt",
            sentence="Without a prompt, the kernel does much worse.",
            measured=100 * _mean(gaps),
            interval=(100 * low, 100 * high),
            unit="percentage points lost without the prompt",
            rule="the 95 % interval over draws lies above 0",
            holds=low > 0,
            why=""
            if low > 0
            else "The last word's features alone separate the labels of this small language.",
        )
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
