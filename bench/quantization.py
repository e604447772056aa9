"""What 4 and 8 bits cost: bits per byte of text and the task loss, each format beside bf16 on the same items.

    python bench/quantization.py --texts wiki.txt --choices arc_easy.jsonl.gz --calibrate python_docs.jsonl.gz

--texts: a text file (a document a line) or .jsonl(.gz) with `text`. --choices: .jsonl(.gz) with
question, choices {text, label} and answerKey; the task loss is -log2 p of the right answer's tokens behind
the question, its accuracy the share of questions whose right answer has most probability a character.
--calibrate: text for the calibrated rows; never the text that is measured. Intervals: 95 %, by bootstrap over
documents or questions in pairs. The last line is one JSON object.
"""

import argparse
import gzip
import json
import math
import random
import time
from pathlib import Path
from typing import Any, cast

import torch

from hornbook.data.tokenizer import Tokenizer
from hornbook.evals.likelihood import document_bits, paired_loss, summarize
from hornbook.infer.engine import Engine
from hornbook.lab.statistics import bootstrap_interval
from hornbook.model.decoder import Decoder
from hornbook.model.hf import load_checkpoint
from hornbook.model.quantize import Coded, quantize
from hornbook.serve.export import calibration_ids

FORMATS = ("bf16", "int8", "int4", "int4 calibrated")


def read_rows(path: Path) -> list[dict[str, Any]]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    if ".jsonl" in path.name:
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    return [{"text": part} for part in text.split("\n") if len(part) > 200]


def questions(
    rows: list[dict[str, Any]], tokenizer: Tokenizer
) -> list[tuple[list[int], list[list[int]], int]]:
    out = []
    for row in rows:
        right = row["choices"]["label"].index(row["answerKey"])
        prompt = tokenizer.encode(f"Question: {row['question']}\nAnswer:")
        out.append((prompt, [tokenizer.encode(f" {text}") for text in row["choices"]["text"]], right))
    return out


def task(
    engine: Engine, asked: list[tuple[list[int], list[list[int]], int]], tokenizer: Tokenizer
) -> tuple[list[float], list[float]]:
    """Bits of the right answer, and whether it was the likeliest a character, question by question."""
    scores = engine.score([prompt for prompt, _, _ in asked], [ends for _, ends, _ in asked])
    bits, right = [], []
    for (_, ends, answer), own in zip(asked, scores):
        rate = [s.logprob / max(1, len(tokenizer.decode(e))) for s, e in zip(own, ends)]
        bits.append(-own[answer].logprob / math.log(2))
        right.append(float(rate.index(max(rate)) == answer))
    return bits, right


def ends_of(values: list[float]) -> tuple[float, float]:
    interval = bootstrap_interval(values)
    return interval.low, interval.high


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a checkpoint folder (default: the embedded SmolLM2-135M-Instruct)")
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--choices", type=Path, required=True)
    parser.add_argument("--calibrate", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=40)
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--calibration-rows", type=int, default=192, help="texts of 256 tokens")
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.model is None:
        from hornbook.model.embedded import embedded_checkpoint

        given.model = embedded_checkpoint()
    model, tokenizer = load_checkpoint(given.model), Tokenizer.load(given.model)
    draw = random.Random(0)
    texts = [row["text"][:1200] for row in read_rows(given.texts)]
    texts = draw.sample(texts, min(given.documents, len(texts)))
    asked = questions(read_rows(given.choices), tokenizer)
    asked = draw.sample(asked, min(given.questions, len(asked)))
    calibration = calibration_ids(
        tokenizer, [row["text"] for row in read_rows(given.calibrate)], rows=given.calibration_rows
    )
    results: dict[str, Any] = {}
    base: Any = None
    for name in given.formats.split(","):
        began = time.process_time()
        ready: Decoder = model
        if name != "bf16":
            bits, _, how = name.partition(" ")
            ready = quantize(model, cast(Coded, bits), calibration=calibration if how else None)
        made = time.process_time() - began
        engine = Engine(ready, tokenizer, weights="bf16" if name == "bf16" else "auto", max_rows=16)
        pairs = document_bits(engine, tokenizer, texts, window=512)
        bits, right = task(engine, asked, tokenizer)
        base = base or (pairs, bits, right)
        more = [b - a for a, b in zip(base[1], bits)]
        better = [b - a for a, b in zip(base[2], right)]
        results[name] = {
            "bits_per_byte": summarize(pairs).value,
            "more_bits_per_byte": paired_loss(base[0], pairs),
            "task_bits": sum(bits) / len(bits),
            "more_task_bits": [sum(more) / len(more), *ends_of(more)],
            "accuracy": sum(right) / len(right),
            "accuracy_change": [sum(better) / len(better), *ends_of(better)],
            "quantized_in_cpu_seconds": made,
            "weight_bytes": engine.model.weight_bytes(),
        }
        print(name, json.dumps(results[name]), flush=True)
    record = {
        "bench": "quantization",
        "documents": len(texts),
        "questions": len(asked),
        "calibration_tokens": sum(map(len, calibration)),
        "torch": torch.__version__,
        "results": results,
    }
    if given.out:
        given.out.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record))


if __name__ == "__main__":
    main()
