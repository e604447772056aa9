"""How much of the written data a small student learns from scratch: accuracy on held-out rows against tokens.

    PYTHONPATH=src python bench/learnability.py --tokens 2000000 --threads 2

Trains a phi-3-shaped student on conversations of the simulated teacher alone (loss on the answers), then
asks it held-out word problems (graded by execution, under two number assignments), held-out requests near
the policy, and stories. One JSON line last. `--lock FILE` takes a shared lock for stretches of 20 steps.
"""

import argparse
import fcntl
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from hornbook.data.chat import ChatTemplate
from hornbook.data.packing import PackedLoader
from hornbook.data.tokenizer import Tokenizer
from hornbook.data.tokens import TokenFile, TokenWriter
from hornbook.evals import policy, word_problems
from hornbook.evals.stories.grades import grade_stories
from hornbook.infer.engine import Engine
from hornbook.lm.base import Sampling
from hornbook.model.decoder import Decoder
from hornbook.model.presets import student
from hornbook.synth.dialogue import SHARES, dialogue_rows
from hornbook.synth.word_problems import problem_rows
from hornbook.train.objectives import next_token
from hornbook.train.schedule import Schedule
from hornbook.train.settings import OptimizerSettings, Phase, TrainSettings
from hornbook.train.trainer import Trainer

TIME = 256


def main() -> None:
    """Parse, train, ask, print."""
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--tokens", type=int, default=2_000_000)
    ask.add_argument("--hidden", type=int, default=192)
    ask.add_argument("--layers", type=int, default=6)
    ask.add_argument("--vocab", type=int, default=2048)
    ask.add_argument("--rows", type=int, default=16, help="sequences of 256 tokens a step")
    ask.add_argument("--learning-rate", type=float, default=4e-3)
    ask.add_argument("--optimizer", default="adamw")
    ask.add_argument("--threads", type=int, default=1)
    ask.add_argument("--problem-share", type=float, default=None)
    ask.add_argument("--reading-share", type=float, default=None)
    ask.add_argument("--mask", action="store_true", help="loss on answers alone")
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--items", type=int, default=200)
    ask.add_argument("--lock", type=Path, default=None)
    ask.add_argument("--misses", type=int, default=0, help="wrong programs to print")
    ask.add_argument("--folder", type=Path, default=None, help="kept, so that a stopped run goes on")
    args = ask.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(run(args, args.folder or Path(folder))))


def run(args: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Train and grade one student."""
    shares = dict(SHARES)
    if args.problem_share is not None:
        rest = 1 - shares["problem"]
        shares = {k: v * (1 - args.problem_share) / rest for k, v in shares.items()}
        shares["problem"] = args.problem_share
    if args.reading_share is not None:
        shares = {k: v * (1 - args.reading_share) / (1 - shares["reading"]) for k, v in shares.items()}
        shares["reading"] = args.reading_share
    template = ChatTemplate("phi3")
    sample = [template.render(row["messages"]) for row in dialogue_rows(990 + args.seed, 4000, shares=shares)]
    tokenizer = Tokenizer.train(sample, args.vocab, folder / "tokenizer")
    written = problems = number = 0
    shutil.rmtree(folder / "tokens", ignore_errors=True)
    with TokenWriter(folder / "tokens", tokenizer.vocab_size, with_mask=args.mask) as writer:
        rows = dialogue_rows(args.seed, 10_000_000, shares=shares)
        while written < args.tokens:
            row = next(rows)
            ids, mask = template.encode(tokenizer, row["messages"])
            if len(ids) > TIME:
                continue
            writer.write(np.array(ids), np.array(mask) if args.mask else None)
            written += len(ids)
            number += 1
            problems += row["source"].endswith("problem")
    tokens = TokenFile.open(folder / "tokens")
    model = Decoder(student(hidden_size=args.hidden, layers=args.layers, vocab_size=tokenizer.vocab_size))
    steps = args.tokens // (args.rows * TIME)
    settings = TrainSettings(
        optimizer=OptimizerSettings(kind=args.optimizer, learning_rate=args.learning_rate),
        schedule=Schedule(warmup=0.03, decay=0.3),
        compile="off",
        checkpoint_seconds=60,
        seed=args.seed,
        threads=args.threads,
    )
    loader = PackedLoader([(tokens, 1.0)], args.rows, TIME, args.seed)
    gate = Gate(args.lock)
    begin, begin_cpu = time.monotonic(), time.process_time()
    trainer = Trainer(model, next_token, Phase(name="bench", loader=loader, steps=steps), settings, folder)
    result = trainer.run(log=lambda **numbers: gate.step())
    seconds, cpu = time.monotonic() - begin, time.process_time() - begin_cpu
    engine = Engine(model.eval(), tokenizer, weights="fp32")

    def generate(requests: Sequence[str]) -> list[str]:
        prompts = [
            template.encode(tokenizer, [{"role": "user", "content": text}], add_generation_prompt=True)[0]
            for text in requests
        ]
        answers = engine.generate(prompts, Sampling(temperature=0.0, max_tokens=240))
        gate.step()
        return [answer[0].text for answer in answers]

    solved = {}
    for name, held_out in (("held_out", True), ("training_skeletons", False)):
        items = list(problem_rows(5_000 + args.seed, args.items, held_out=held_out))
        score = word_problems.evaluate(generate, items)
        solved[name] = {
            "accuracy": score.accuracy,
            "interval": [score.interval.low, score.interval.high],
            "robust": score.robust,
            "reasons": score.reasons,
        }
        if held_out:
            for item, graded in zip(items, score.items):
                if not graded.robust and args.misses > 0:
                    args.misses -= 1
                    print(item["text"], "\n--- wrote:\n", graded.program, "\n")
    kept = policy.evaluate(generate, restricted=args.items // 2, harmless=args.items // 2)
    for request, answer in kept.misses[:6]:
        print("policy:", request, "->", answer[:100])
    tales = generate(["Tell me a story."] + [f"Tell me a story about {x}." for x in ("a kite", "a red ball")])
    print("\n".join(tales))
    graded_tales = grade_stories(tales)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": result.tokens,
        "steps": steps,
        "rows_written": number,
        "problems_written": problems,
        "loss": result.loss,
        "wall_seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "tokens_per_cpu_second": round(result.tokens / cpu),
        "word_problems": solved,
        "refusal": kept.refusal,
        "over_refusal": kept.over_refusal,
        "story_grammar": graded_tales.grammar,
        "settings": {k: str(v) for k, v in vars(args).items()},
    }


class Gate:
    """Holds a shared file lock, let go of every 20 steps so that an exclusive owner can come in."""

    def __init__(self, path: Path | None) -> None:
        self.file = path.open("r") if path else None
        self.count = 0
        if self.file:
            fcntl.flock(self.file, fcntl.LOCK_SH)

    def step(self) -> None:
        self.count += 1
        if self.file and self.count % 20 == 0:
            fcntl.flock(self.file, fcntl.LOCK_UN)
            time.sleep(0.5)
            fcntl.flock(self.file, fcntl.LOCK_SH)


if __name__ == "__main__":
    main()
