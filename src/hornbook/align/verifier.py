"""Verifiers of solutions (Liu et al. 2023, TinyGSM, section 4): a copy of a generator with one more output,
trained to say at every token whether the whole answer will be right."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from hornbook.align.checkpoints import folder_of, to_train
from hornbook.data.corpus import Corpus
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.evals.candidates import prompt_tokens
from hornbook.lab.files import write_json
from hornbook.lab.step import StepContext, step
from hornbook.lab.workers import side_by_side
from hornbook.train.settings import TrainSettings
from hornbook.train.verifier import Judged, Supervision, VerifierLoader, save_verifier, write_judged

_RESULT = "verifier.json"


@dataclass(frozen=True, kw_only=True)
class VerifierPlan:
    """One verifier: the checkpoint whose weights it starts from, and the judged solutions it learns from.

    supervision: "every token", or "last token" (what a single label at the end would be).
    fresh: begin with random weights of the same shape instead.
    """

    start: Path
    solutions: Path
    supervision: Supervision = "every token"
    fresh: bool = False
    seed: int = 0


@step(version="1", makes="checkpoints")
def train_verifiers(
    ctx: StepContext,
    *,
    verifiers: Mapping[str, VerifierPlan],
    tokens: int,
    rows: int,
    time: int,
    settings: TrainSettings,
    workers: int = 1,
) -> dict[str, Any]:
    """Trains every plan; `artifact / name` is a verifier that `hornbook.train.verifier.load_verifier` opens.

    Args:
        verifiers: by name.
        tokens: training positions of each; rows, time: the shape of a batch.

    The whole model is trained, as in the paper, not the head alone. One that is finished is not trained again
    when the step is resumed.

    Facts: by verifier `loss` (nats a judged token at the end), `accuracy` (share of judged tokens on the
    right side of even odds, over the last tenth), `answers`, `left_out` (longer than a row, or empty),
    `right` (share), `epochs`.
    """
    if not verifiers:
        raise HornbookError("train_verifiers: there is no verifier to train.")
    jobs = {
        name: partial(
            _train,
            ctx.folder / name,
            plan=replace(plan, start=folder_of(plan.start), solutions=folder_of(plan.solutions)),
            tokens=tokens,
            rows=rows,
            time=time,
            settings=replace(settings, threads=1, processes=1, seed=plan.seed),
        )
        for name, plan in verifiers.items()
    }
    return dict(side_by_side(jobs, workers=workers, progress=ctx.progress(tokens * len(verifiers), "tokens")))


def _train(
    folder: Path,
    *,
    plan: VerifierPlan,
    tokens: int,
    rows: int,
    time: int,
    settings: TrainSettings,
    progress: Any,
) -> dict[str, Any]:
    """One verifier, in a process of its own; its result is kept, so it is trained once."""
    import torch

    from hornbook.train.objectives import TokenVerifier, token_verifier
    from hornbook.train.parallel import training_device
    from hornbook.train.settings import Phase
    from hornbook.train.trainer import Trainer

    kept = folder / _RESULT
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text())
        progress.advance(tokens)
        return found
    torch.set_num_threads(1)
    tokenizer = Tokenizer.load(plan.start)
    judged = []
    left_out = 0
    for row in Corpus.open(plan.solutions).iter_rows(["meta"]):
        one = json.loads(row["meta"])
        answer = Judged(prompt_tokens(tokenizer, one["question"]), one["tokens"], bool(one["right"]))
        if one["tokens"] and len(answer.question) + len(answer.answer) <= time:
            judged.append(answer)
        else:
            left_out += 1
    data = folder / "judged"
    shutil.rmtree(data, ignore_errors=True)
    file = write_judged(data, judged, vocab_size=tokenizer.vocab_size, supervision=plan.supervision)
    torch.manual_seed(plan.seed)
    decoder = to_train(plan.start)
    if plan.fresh:
        decoder.reset_parameters()
    loader = VerifierLoader(file, rows, time, plan.seed)
    trainer = Trainer(
        TokenVerifier(decoder).to(training_device()),
        token_verifier,
        Phase(name="verify", loader=loader, tokens=tokens),
        settings,
        folder,
        save_model=save_verifier,  # type: ignore[arg-type]
    )
    result = trainer.run(progress=progress, say=lambda sentence: None)
    tokenizer.save(folder)
    shutil.rmtree(folder / "training", ignore_errors=True)
    shutil.rmtree(data)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    late = lines[-max(1, len(lines) // 10) :]
    summary = {
        "loss": result.loss,
        "accuracy": sum(line["accuracy"] for line in late) / len(late),
        "answers": len(judged),
        "left_out": left_out,
        "right": sum(one.right for one in judged) / len(judged),
        "epochs": loader.epochs(result.steps)[0],
        "plan": {
            name: str(value) for name, value in asdict(plan).items() if name not in ("start", "solutions")
        },
    }
    write_json(kept, summary)
    return summary
