"""A generator of solutions as TinyGSM trains it (Liu et al. 2023, section 3), and what it answers.

`tokenize_solutions` makes its training data; `draw_solutions` asks finished checkpoints for answers, executes
them, and keeps them with the verdict: the data of a verifier.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from hornbook.align.checkpoints import folder_of
from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.data.tokenizer import Tokenizer
from hornbook.data.tokens import TokenWriter
from hornbook.errors import HornbookError
from hornbook.evals.candidates import MAX_ROWS, draw_candidates, prompt_tokens
from hornbook.lab.step import Artifact, StepContext, step
from hornbook.lab.workers import side_by_side

SOURCE = "align/solutions"


@step(version="1", makes="tokens")
def tokenize_solutions(
    ctx: StepContext,
    *,
    corpus: Artifact | Path,
    tokenizer: Artifact | Path,
    limit: int | None = None,
    masked: bool = True,
) -> dict[str, Any]:
    """Word problems as a token file: question, line break, program, end of text.

    Args:
        corpus: what `write_word_problems` made. limit: only its first rows.
        masked: loss on the program alone; False: on the question too.

    Facts: documents, tokens, learned_tokens.
    """
    tool = Tokenizer.load(folder_of(tokenizer))
    rows = [
        json.loads(row["meta"]) for row in islice(Corpus.open(folder_of(corpus)).iter_rows(["meta"]), limit)
    ]
    questions = [prompt_tokens(tool, meta["question"]) for meta in rows]
    programs = [[*ids, tool.end_of_text] for ids in tool.encode_batch([meta["program"] for meta in rows])]
    (ctx.folder / "tokens.json").unlink(missing_ok=True)
    with TokenWriter(ctx.folder, tool.vocab_size, with_mask=masked) as writer:
        for question, program in zip(questions, programs, strict=True):
            mask = [0] * len(question) + [1] * len(program)
            writer.write([*question, *program], mask if masked else None)
        tokens = writer.token_count
    return {
        "documents": len(rows),
        "tokens": tokens,
        "learned_tokens": sum(map(len, programs)) if masked else tokens,
    }


Draw = Mapping[str, tuple[Path, int]]
"""By the name of a checkpoint: its folder, and how many samples of a question at each temperature."""


@step(version="1", makes="corpora")
def draw_solutions(
    ctx: StepContext,
    *,
    generators: Mapping[str, Draw],
    questions: Artifact | Path,
    temperatures: Sequence[float],
    seed: int = 0,
    max_tokens: int = 64,
    workers: int = 1,
) -> dict[str, Any]:
    """Solutions of training questions by generators that never saw them, executed and labelled.

    Args:
        generators: by name, the checkpoints that answer (TinyGSM section 4: several of one training).
        questions: what `write_word_problems` made.
        temperatures: each checkpoint answers at each.

    `artifact / name` is a corpus of documents; `meta` holds question, program, its tokens, `right`,
    checkpoint and temperature. The same program for the same question is kept once (of its labels there is
    only one).

    Facts: by generator `rows`, `drawn`, `right` (share of those drawn) and `right_by`
    {checkpoint@temperature}.
    """
    if not temperatures or any(t <= 0 for t in temperatures):
        raise HornbookError(f"temperatures is {list(temperatures)}; give at least one, all above 0.")
    asked = Corpus.open(folder_of(questions)).rows
    drawn = {
        name: asked * len(temperatures) * sum(samples for _, samples in plan.values())
        for name, plan in generators.items()
    }
    jobs = {
        name: partial(
            _draw,
            ctx.folder / name,
            plan={label: (folder_of(folder), samples) for label, (folder, samples) in plan.items()},
            questions=folder_of(questions),
            temperatures=tuple(temperatures),
            seed=seed,
            max_tokens=max_tokens,
        )
        for name, plan in generators.items()
    }
    progress = ctx.progress(sum(drawn.values()), "answers")
    return dict(side_by_side(jobs, workers=workers, progress=progress))


def _draw(
    folder: Path,
    *,
    plan: Draw,
    questions: Path,
    temperatures: Sequence[float],
    seed: int,
    max_tokens: int,
    progress: Any,
) -> dict[str, Any]:
    """One generator's answers, in a process of its own."""
    import torch

    from hornbook.infer.engine import Engine
    from hornbook.model.hf import load_checkpoint

    torch.set_num_threads(1)
    shutil.rmtree(folder, ignore_errors=True)
    problems = list(Corpus.open(questions).iter_rows(["id", "meta"]))
    metas = [json.loads(problem["meta"]) for problem in problems]
    seen: set[tuple[int, str]] = set()
    right_by: dict[str, float] = {}
    drawn = right = 0
    with CorpusWriter(folder, "documents", lineage={"made_by": "draw_solutions", "seed": seed}) as writer:
        for place, (label, (checkpoint, samples)) in enumerate(plan.items()):
            tokenizer = Tokenizer.load(checkpoint)
            engine = Engine(load_checkpoint(checkpoint), tokenizer, max_rows=MAX_ROWS)
            for number, temperature in enumerate(temperatures):
                answers = draw_candidates(
                    engine,
                    tokenizer,
                    problems,
                    samples=samples,
                    temperature=temperature,
                    max_tokens=max_tokens,
                    seed=seed * 101 + place * 11 + number,
                )
                hits = sum(c.right for found in answers for c in found)
                right_by[f"{label}@{temperature}"] = hits / (samples * len(problems))
                right += hits
                drawn += samples * len(problems)
                rows = []
                for at, found in enumerate(answers):
                    for candidate in found:
                        if (at, candidate.text) in seen:
                            continue
                        seen.add((at, candidate.text))
                        known = {
                            "question": metas[at]["question"],
                            "program": candidate.text,
                            "tokens": list(candidate.tokens),
                            "right": candidate.right,
                            "checkpoint": label,
                            "temperature": temperature,
                        }
                        rows.append(
                            {
                                "text": f"{metas[at]['question']}\n{candidate.text}",
                                "id": f"{problems[at]['id']}-{len(seen)}",
                                "source": SOURCE,
                                "meta": json.dumps(known),
                            }
                        )
                writer.write_rows(rows)
                progress.advance(samples * len(problems))
    return {"rows": len(seen), "drawn": drawn, "right": right / drawn, "right_by": right_by}
