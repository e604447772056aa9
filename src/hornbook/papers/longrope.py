"""LongRoPE (Ding, Zhang, Zhang, Xu, Shang, Xu, Yang, Yang 2024): reading far beyond the trained context.

Rotary angles are rescaled by a factor of its own for each pair of dimensions, found by an evolutionary search
on the perplexity of long rows; then the model is tuned a little under these factors, and a second list is
found for rows of the old length. By itself this recipe raises small readers of short rows; `--model` extends
a checkpoint of yours instead.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hornbook.data.steps import as_source, gather, split, tokenize, train_tokenizer
from hornbook.lab.claim import Claim, over_seeds
from hornbook.lab.run import Run
from hornbook.lab.statistics import interval_over_seeds
from hornbook.lab.step import Artifact
from hornbook.model.config import ModelConfig
from hornbook.train.longrope import SearchSettings
from hornbook.train.longrope_compare import compare_factors, search_with_start_tokens
from hornbook.train.longrope_extend import fine_tuning_settings
from hornbook.train.longrope_step import FineTuning, extend_context
from hornbook.train.pretrain import PhasePlan, pretrain
from hornbook.train.schedule import Schedule
from hornbook.train.settings import OptimizerSettings, TrainSettings

TITLE = "Contexts extended by searched rotary factors"
PAPER = "Ding et al. 2024, arXiv 2402.13753"


_PLAIN: dict[str, Any] = {"precision": "fp32", "compile": "off", "processes": 1}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What this recipe can be told."""

    model: str = ""
    """A checkpoint folder to extend (phi3- or llama-shaped); empty: small readers are raised."""
    texts: str = "python"
    """Long texts: `python` (this installation), a file or folder, or hub:NAME."""
    limit_bytes: int = 3_000_000
    """Read at most this much text, in bytes."""
    extension: int = 8
    """How many times longer than its own context the model shall read."""
    search: SearchSettings = field(default_factory=SearchSettings)
    rows: int = 5
    """Validation rows that decide between factors."""
    test_rows: int = 16
    """Rows the claims are measured on."""
    tuning_steps: int = 60
    tuning_rows: int = 4
    tuning_rate: float = 3e-3
    """Learning rate; the paper's 2e-5 is for models of billions."""
    across_documents: bool = False
    """Cut the texts as one stretch where documents of the target length are lacking."""
    original: int = 64
    """Context of the small readers, in tokens."""
    hidden_size: int = 64
    """Of the small readers; heads of 32, two layers."""
    vocab_size: int = 512
    reading_steps: int = 600
    """Of 32 rows."""
    train: TrainSettings = field(
        default_factory=lambda: TrainSettings(
            optimizer=OptimizerSettings(learning_rate=5e-3, weight_decay=0.0),
            schedule=Schedule(kind="cosine", warmup=0.05),
            base_width=64,  # what the rate was tuned on: `--parametrization` scales from it
            base_depth=2,
            **_PLAIN,
        )
    )
    """Of the small readers' training."""
    seeds: int = 3
    """Small readers that are raised and extended."""


SCALES = {
    "smoke": Settings(
        extension=4,
        search=SearchSettings(population=8, parents=4, mutations=3, crossovers=3, iterations=2),
        rows=2,
        test_rows=2,
        tuning_steps=3,
        limit_bytes=1_500_000,
        reading_steps=20,
        seeds=1,
    ),
    "quick": Settings(
        search=SearchSettings(population=48, parents=16, mutations=12, crossovers=12, iterations=20), rows=4
    ),
    "gpu": Settings(
        original=512,
        hidden_size=256,
        vocab_size=4096,
        limit_bytes=200_000_000,
        reading_steps=8000,
        tuning_steps=400,
        seeds=5,
    ),
}


def recipe(run: Run, settings: Settings) -> None:
    """One extension a seed (or one of the user's model), then the claims on rows no search has seen."""
    s = settings
    corpus = run.step(gather, source=as_source(s.texts), limit_bytes=s.limit_bytes)
    parts = run.step(split, corpus=corpus, share=0.2)
    # A row's side hangs on the hash of its text: this halves what was held out.
    held_out = run.step(split, corpus=parts / "validation", share=0.1)
    sides = {"training": parts / "train", "search": held_out / "train", "test": held_out / "validation"}
    if s.model:
        tokenizer: Artifact | Path = Path(s.model).expanduser()
    else:
        tokenizer = run.step(train_tokenizer, corpora=[parts / "train"], vocab_size=s.vocab_size)
    files = {name: run.step(tokenize, corpus=side, tokenizer=tokenizer) for name, side in sides.items()}
    extended, measured = [], []
    for seed in range(1 if s.model else s.seeds):
        model = Path(s.model).expanduser() if s.model else _reader(run, s, files["training"], tokenizer, seed)
        made, compared = _extend(run, s, model, files, seed)
        extended.append(made)
        measured.append(compared.facts)
    run.output(model=extended[0] / "model")
    _report(run, settings, extended, measured)
    _claims(run, settings, measured, judged=len(measured) > 1)


def _reader(run: Run, s: Settings, tokens: Artifact, tokenizer: Artifact | Path, seed: int) -> Path:
    """A small model that has read rows of `original` tokens and no longer ones."""
    model = ModelConfig(
        vocab_size=s.vocab_size,
        hidden_size=s.hidden_size,
        layers=2,
        heads=s.hidden_size // 32,
        intermediate_size=4 * s.hidden_size,
        max_position=s.original,
        tied_embeddings=True,
        bos_id=0,
        eos_ids=(0, 4),
        pad_id=0,
    )
    reading = PhasePlan(
        name="reading",
        mixture={"text": 1.0},
        tokens=s.reading_steps * 32 * s.original,
        rows=32,
        time=s.original,
    )
    reader = run.step(
        pretrain,
        model=model,
        tokens={"text": tokens},
        phases=[reading],
        settings=s.train,
        tokenizer=tokenizer,
        seed=seed,
    )
    return reader / "model"


def _extend(
    run: Run, s: Settings, model: Path, files: dict[str, Artifact], seed: int
) -> tuple[Artifact, Artifact]:
    """The model extended, and what it reads compared."""
    from hornbook.model.hf import read_config
    from hornbook.train.longrope_search import original_length

    original = original_length(read_config(model)) if s.model else s.original
    search = replace(s.search, seed=s.search.seed + seed)
    where: dict[str, Any] = {"target": original * s.extension, "across_documents": s.across_documents}
    tuning = FineTuning(
        steps=s.tuning_steps,
        rows=s.tuning_rows,
        settings=replace(fine_tuning_settings(learning_rate=s.tuning_rate), **_PLAIN)
        if not s.model
        else fine_tuning_settings(learning_rate=s.tuning_rate),
    )
    extended = run.step(
        extend_context,
        model=model,
        validation=files["search"],
        training=files["training"],
        search_settings=search,
        fine_tuning=tuning if s.tuning_steps else None,
        rows=s.rows,
        seed=seed,
        **where,
    )
    start = run.step(
        search_with_start_tokens,
        model=model,
        validation=files["search"],
        rows=s.rows,
        search_settings=search,
        **where,
    )
    compared = run.step(
        compare_factors,
        model=model,
        extended=extended / "model",
        test=files["test"],
        rows=s.test_rows,
        with_start=start.facts,
        **where,
    )
    return extended, compared


def _report(run: Run, s: Settings, extended: list[Artifact], measured: list[Any]) -> None:
    run.report.title = TITLE
    section = run.report.section(
        "Loss on rows that no search saw",
        f"{s.extension} times the trained context; nats a token, mean over {len(measured)} seed(s).",
    )
    section.table(
        ["length", "factors", "loss"],
        [
            [length, name, round(_mean([facts[length][name] for facts in measured]), 4)]
            for length in ("long", "short")
            for name in measured[0][length]
        ],
    )
    section.table(
        ["seed", "long factors", "short factors"],
        [
            [
                number,
                *(", ".join(f"{f:.2f}" for f in one.facts[f"{part}_factor"]) for part in ("long", "short")),
            ]
            for number, one in enumerate(extended)
        ],
    )


def _claims(run: Run, s: Settings, measured: list[Any], *, judged: bool) -> None:
    def compare(name: str, sentence: str, length: str, worse: str, better: str) -> None:
        gains = [facts[length][worse] - facts[length][better] for facts in measured]
        why = "" if judged else "One model has no interval; the claim is shown, not judged."
        run.claim(over_seeds(name, sentence, gains, above=0.0, unit="nats a token", why=why))

    compare(
        "unscaled-fails",
        "Beyond its context a model without rescaling reads worse than with the factors found.",
        "long",
        "unscaled",
        "found",
    )
    for rival, words in (
        ("interpolation", "position interpolation"),
        ("ntk", "NTK scaling"),
        ("yarn", "YaRN"),
    ):
        compare(
            f"beats-{rival}", f"Factors found by search read better than {words}.", "long", rival, "found"
        )
    shares = [
        (facts["long"]["found"] - facts["long"]["original length"])
        / (facts["long"]["unscaled"] - facts["long"]["original length"])
        for facts in measured
    ]
    interval = interval_over_seeds(shares)
    run.claim(
        Claim(
            id="reads-on-without-tuning",
            sentence=f"{s.extension} times the context is read without any training (the paper: up to 8).",
            measured=_mean(shares),
            interval=interval,
            unit="share of the unscaled model's loss of reading that is left",
            rule="the 95 % interval over seeds lies below 0.1",
            holds=None if interval is None else interval.high < 0.1,
            noise=False,
            why="" if judged else "One model has no interval; the claim is shown, not judged.",
        )
    )
    compare(
        "start-tokens-help",
        "Leaving the first positions unscaled reads better than scaling all.",
        "long",
        "found",
        "start tokens",
    )
    compare("tuning-helps", "Tuning under the factors reads better still.", "long", "found", "tuned")
    compare(
        "short-rows-recovered",
        "A list of their own wins back what the extension cost rows of the old length.",
        "short",
        "ones",
        "found",
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
