"""Answers drawn from the model that is being aligned, many a request, kept as they finish.

One line of a JSON-lines file is one request with all its answers, so an interrupted step asks only what is
not answered yet, and what the model said stays beside what was made of it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hornbook.errors import HornbookError
from hornbook.infer.engine import Generation
from hornbook.lm.base import Advances, Sampling

if TYPE_CHECKING:
    from hornbook.infer.language_model import LocalModel


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the model said: the text, its length in tokens, and whether it ended by itself (else it was cut
    off at the limit)."""

    text: str
    tokens: int
    finished: bool


def draw_answers(
    model: "LocalModel",
    requests: Sequence[str],
    sampling: Sampling,
    samples: int,
    *,
    max_tokens: Sequence[int] | None = None,
    kept: Path | None = None,
    progress: Advances | None = None,
) -> list[list[Answer]]:
    """`samples` answers to each request (one user message), in order: result[request][sample].

    All requests go through the engine as one stream of batches; the samples of one share its prompt. With
    `sampling.seed` a request draws the same answers alone and among others.

    Args:
        max_tokens: of each request, instead of `sampling.max_tokens`.
        kept: JSON-lines file of finished requests; those in it are not asked again.

    Raises:
        HornbookError: a request that leaves no room for an answer; `kept` belongs to other requests.
    """
    done = _read(kept, requests, samples)
    if progress is not None and done:
        progress.advance(len(done))
    missing = [number for number in range(len(requests)) if number not in done]
    prompts = [model.chat.encode([{"role": "user", "content": requests[n]}]) for n in missing]
    limits = [sampling.max_tokens if max_tokens is None else max_tokens[n] for n in missing]
    waiting: dict[int, dict[int, Answer]] = {}

    def finish(prompt: int, sample: int, generation: Generation) -> None:
        own = waiting.setdefault(prompt, {})
        own[sample] = Answer(
            text=generation.text,
            tokens=len(generation.tokens),
            finished=generation.finish_reason == "stop",
        )
        if len(own) < samples:
            return
        number = missing[prompt]
        done[number] = [own[i] for i in range(samples)]
        waiting.pop(prompt)
        if kept is not None:
            line = {
                "number": number,
                "request": requests[number],
                "answers": [asdict(answer) for answer in done[number]],
            }
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        if progress is not None:
            progress.advance(1)

    if missing:
        each = [replace(sampling, max_tokens=limit) for limit in limits]
        model.engine.generate(prompts, each, samples, on_finish=finish)
    return [done[number] for number in range(len(requests))]


def _read(kept: Path | None, requests: Sequence[str], samples: int) -> dict[int, list[Answer]]:
    """Finished requests of an earlier attempt; a line torn by a crash is left out."""
    found: dict[int, list[Answer]] = {}
    if kept is None or not kept.is_file():
        return found
    whole = []
    for line in kept.read_text(encoding="utf-8").split("\n"):
        try:
            entry = json.loads(line)
            number, answers = entry["number"], [Answer(**answer) for answer in entry["answers"]]
        except (ValueError, KeyError, TypeError):
            continue
        if number >= len(requests) or entry["request"] != requests[number] or len(answers) != samples:
            raise HornbookError(f"{kept} holds answers to other requests. Delete it to ask again.")
        found[number] = answers
        whole.append(line + "\n")
    kept.write_text("".join(whole), encoding="utf-8")  # else the next line would join the torn one
    return found
