"""Curation beside datatrove: CPU seconds of the same stages on the same documents, with recall beside speed.

    python bench/curation.py                       # this Python installation's text, 8,000 documents
    python bench/curation.py --documents 2000 --words regex

Stages: Gopher quality, Gopher repetition, MinHash signatures (112 hashes, word 5-grams, 14 x 8 bands),
n-gram decontamination. Documents: pieces of the standard library and installed packages; a quarter of them
once more with some words replaced, so that recall can be counted by true Jaccard similarity. Arms are
interleaved batch by batch. datatrove splits words with spaCy if it is installed; otherwise (or with
`--words regex`) it is given a regular expression, which makes it several times faster than it comes; the
output says which. The last line is JSON.
"""

import argparse
import json
import os
import re
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hornbook.curate import heuristics, near
from hornbook.curate.decontaminate import DecontaminationSettings, Decontaminator, EvaluationItem
from hornbook.curate.pipeline import CurateSettings, prepare
from hornbook.curate.words import split
from hornbook.lab.machine import machine_facts

BINS = ((0.8, 1.01), (0.6, 0.8), (0.4, 0.6), (0.0, 0.4))


def corpus(documents: int, seed: int) -> tuple[list[str], list[tuple[int, int]]]:
    """Texts and planted pairs (original, changed copy)."""
    generator = np.random.default_rng(seed)
    base = documents * 4 // 5
    texts: list[str] = []
    roots = [Path(sysconfig.get_path("stdlib")), Path(sysconfig.get_path("purelib"))]
    for root in roots:
        for path in sorted(root.rglob("*.py")):
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            start = 0
            while len(text) - start > 400 and len(texts) < base:
                end = start + int(generator.integers(400, 1600))
                texts.append(text[start:end])
                start = end
        if len(texts) >= base:
            break
    pairs = []
    for original in generator.choice(len(texts), documents - len(texts), replace=False).tolist():
        words = re.split(r"(\W+)", texts[original])
        rate = generator.choice([0.005, 0.01, 0.02, 0.05, 0.1])
        for place in np.flatnonzero(generator.random(len(words)) < rate).tolist():
            if words[place].isalnum():
                words[place] = f"w{generator.integers(10**6)}"
        pairs.append((original, len(texts)))
        texts.append("".join(words))
    return texts, pairs


def shingles(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}


def questions(texts: list[str], seed: int) -> list[str]:
    """Pieces of 50 words of every 80th document stand for an evaluation set."""
    generator = np.random.default_rng(seed)
    out = []
    for text in texts[::80]:
        words = text.split()
        start = int(generator.integers(0, max(1, len(words) - 50)))
        out.append(" ".join(words[start : start + 50]))
    return out


class Ours:
    """The four stages, sharing one split."""

    def __init__(self, asked: list[str]) -> None:
        items = [EvaluationItem(id=str(i), question=q) for i, q in enumerate(asked)]
        self.decontaminator = Decontaminator({"set": items}, DecontaminationSettings(ngram=12))
        self.seconds = dict.fromkeys(("split", "quality_and_repetition", "signature", "decontamination"), 0.0)
        self.signatures: list[Any] = []
        self.flagged: list[bool] = []

    def run(self, texts: list[str]) -> None:
        clock = time.process_time
        t0 = clock()
        words = split(texts)
        t1 = clock()
        heuristics.judge(heuristics.measure(words), ["prose"] * len(texts), heuristics.DEFAULT_RULES)
        t2 = clock()
        self.signatures.append(near.signatures(words))
        t3 = clock()
        hits = {m.document for m in self.decontaminator.ngram_matches(words)}
        t4 = clock()
        self.flagged += [d in hits for d in range(len(texts))]
        for name, spent in zip(self.seconds, (t1 - t0, t2 - t1, t3 - t2, t4 - t3)):
            self.seconds[name] += spent

    def band_rows(self) -> Any:
        return np.concatenate(self.signatures).reshape(-1, 14, 8)


class Datatrove:
    """datatrove's blocks called document by document, as its executor does, without its reading and
    writing.
    """

    def __init__(self, asked: list[str], words: str) -> None:
        import datatrove.utils.hashes.xxhash as hashes
        import xxhash

        # datatrove hands text to a hash that, from version 4 on, takes bytes only.
        hashes.xxhash64 = lambda data: xxhash.xxh64_intdigest(
            data.encode() if isinstance(data, str) else data
        )
        import datatrove.utils.word_tokenizers as tokenizers

        self.words = words
        if words == "regex":
            word = re.compile(r"\w+|[^\w\s]+")

            class Regex(tokenizers.WordTokenizer):
                def word_tokenize(self, text: str) -> list[str]:
                    return word.findall(text)

                def sent_tokenize(self, text: str) -> list[str]:
                    return [text]

                def span_tokenize(self, text: str) -> list[tuple[int, int]]:
                    return [(0, len(text))]

            tokenizers.load_word_tokenizer = lambda language: Regex()
        from datatrove.data import Document
        from datatrove.pipeline.decont import n_grams
        from datatrove.pipeline.dedup import minhash
        from datatrove.pipeline.filters import gopher_quality_filter, gopher_repetition_filter
        from datatrove.utils import text as text_utils

        modules: list[Any] = [n_grams, minhash, gopher_quality_filter, gopher_repetition_filter, text_utils]
        for module in modules:
            if words == "regex" and hasattr(module, "load_word_tokenizer"):
                module.load_word_tokenizer = lambda language: Regex()
        if words == "regex":
            text_utils.split_into_words = lambda text, language="english": word.findall(text)
            for module in modules:
                if hasattr(module, "split_into_words"):
                    module.split_into_words = text_utils.split_into_words
        self.document = Document
        self.quality = gopher_quality_filter.GopherQualityFilter()
        self.repetition = gopher_repetition_filter.GopherRepetitionFilter()
        self.signature = minhash.MinhashDedupSignature(output_folder=tempfile.mkdtemp())
        self.decontamination = n_grams.NGramsDecontFilter(index_folder=tempfile.mkdtemp())
        index: dict[int, str] = {}
        for question in asked:
            tokens = self.decontamination.tokenizer.word_tokenize(
                n_grams.simplify_text(question, self.decontamination.config.norm_config)
            )
            for gram in n_grams.ngrams(tokens, 12):
                index[self.decontamination.hash_func(" ".join(gram))] = "set"
        self.decontamination._index_hashes = index
        self.seconds = dict.fromkeys(("quality", "repetition", "signature", "decontamination"), 0.0)
        self.signatures: list[Any] = []
        self.flagged: list[bool] = []

    def run(self, texts: list[str]) -> None:
        made = [self.document(text=text, id=str(i)) for i, text in enumerate(texts)]

        def timed(name: str, work: Callable[[Any], Any]) -> list[Any]:
            start = time.process_time()
            out = [work(document) for document in made]
            self.seconds[name] += time.process_time() - start
            return out

        timed("quality", self.quality.filter)
        timed("repetition", self.repetition.filter)

        def sign(document: Any) -> Any:
            found = self.signature.get_shingles(document.text)
            return self.signature.get_signature(found) if len(found) else [[0] * 8] * 14

        self.signatures += timed("signature", sign)
        self.flagged += [
            result is not True for result in timed("decontamination", self.decontamination.filter)
        ]

    def band_rows(self) -> Any:
        return np.array(self.signatures, np.uint64)


def recall(bands: Any, pairs: list[tuple[int, int]], truth: Any) -> dict[str, Any]:
    """Share of planted pairs with an equal band, by true Jaccard similarity."""
    a, b = np.array(pairs).T
    hit = (bands[a] == bands[b]).all(axis=2).any(axis=1)
    out = {}
    for low, high in BINS:
        chosen = (truth >= low) & (truth < high)
        out[f"{low:.1f}-{min(high, 1.0):.1f}"] = {
            "pairs": int(chosen.sum()),
            "recall": round(float(hit[chosen].mean()), 4) if chosen.any() else None,
        }
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=8000)
    parser.add_argument("--words", choices=("auto", "spacy", "regex"), default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="add the result to this file, by the words datatrove had")
    args = parser.parse_args()
    choice = args.words
    if choice == "auto":
        try:
            import spacy  # noqa: F401

            choice = "spacy"
        except ImportError:
            choice = "regex"
    texts, pairs = corpus(args.documents, args.seed)
    asked = questions(texts, args.seed)
    sets = [(shingles(texts[a]), shingles(texts[b])) for a, b in pairs]
    truth = np.array([len(a & b) / max(1, len(a | b)) for a, b in sets])
    characters = sum(map(len, texts))
    print(
        f"{len(texts)} documents, {characters / len(texts):.0f} characters each, {len(pairs)} planted pairs"
    )
    ours, theirs = Ours(asked), Datatrove(asked, choice)
    size = 500
    ours.run(texts[:size])  # warm-up of both, untimed
    theirs.run(texts[:50])
    ours = Ours(asked)
    theirs.signatures, theirs.flagged = [], []
    theirs.seconds = dict.fromkeys(theirs.seconds, 0.0)
    for start in range(0, len(texts), size):
        for arm in (ours, theirs) if start // size % 2 == 0 else (theirs, ours):
            arm.run(texts[start : start + size])
    # All of our stages, duplicates of every kind, language and personal data included.
    examiner = prepare(CurateSettings(), {"set": ours.decontaminator.items})
    start_all = time.process_time()
    import pyarrow as pa

    for start in range(0, len(texts), size):
        examiner.examine(pa.RecordBatch.from_pydict({"text": texts[start : start + size]}))
    everything = time.process_time() - start_all
    result: dict[str, Any] = {"documents": len(texts), "characters": characters, "datatrove_words": choice}
    for name, arm in (("hornbook", ours), ("datatrove", theirs)):
        total = sum(arm.seconds.values())
        result[name] = {
            "cpu_seconds": {k: round(v, 3) for k, v in arm.seconds.items()},
            "documents_per_second": round(len(texts) / total, 1),
            "megabytes_per_second": round(characters / 1e6 / total, 2),
            "recall": recall(arm.band_rows(), pairs, truth),
            "contaminated": int(sum(arm.flagged)),
        }
    result["same_contaminated"] = round(float(np.mean(np.array(ours.flagged) == np.array(theirs.flagged))), 4)
    result["ratio"] = round(
        result["hornbook"]["documents_per_second"] / result["datatrove"]["documents_per_second"], 1
    )
    result["hornbook_all_stages_documents_per_second"] = round(len(texts) / everything, 1)
    spent = ours.seconds
    # Each stage with the split it stands on, as if it ran alone.
    result["signatures_per_second"] = round(len(texts) / (spent["split"] + spent["signature"]), 1)
    result["decontamination_per_second"] = round(len(texts) / (spent["split"] + spent["decontamination"]), 1)
    result["seed"], result["python"] = args.seed, sys.version.split()[0]
    for name in ("hornbook", "datatrove"):
        numbers = result[name]
        print(
            f"{name:10s} {numbers['documents_per_second']:>9.1f} documents/s/core  {numbers['cpu_seconds']}"
        )
        print(f"{'':10s} recall by true Jaccard: {numbers['recall']}")
    same = result["same_contaminated"]
    print(
        f"ratio {result['ratio']} (datatrove's words: {choice}); equal decontamination verdicts: {same:.2%}"
    )
    result["ratio_all_stages"] = round(
        result["hornbook_all_stages_documents_per_second"] / result["datatrove"]["documents_per_second"], 1
    )
    print(
        f"every stage of ours against these four of datatrove: ratio {result['ratio_all_stages']}\n"
        f"signatures {result['signatures_per_second']:.0f}, decontamination "
        f"{result['decontamination_per_second']:.0f}, every stage of the pipeline "
        f"{result['hornbook_all_stages_documents_per_second']:.0f} documents/s/core"
    )
    if args.json:
        known = json.loads(args.json.read_text()) if args.json.is_file() else {}
        known |= {"machine": asdict(machine_facts()), "threads": 1, "clock": "cpu"}
        known.setdefault("datatrove_words", {})[choice] = result | {"load_average": os.getloadavg()[0]}
        args.json.write_text(json.dumps(known, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
