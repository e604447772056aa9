"""The card of a model that forgot: what it still knows when asked otherwise, taught again, or rounded to four
bits.

Claims to have forgotten fall to four attacks that few reports run, so this card always runs them, beside the
same numbers of a model that never read the text (the retain model), without which none of them means much:
*less than the retain model* is damage, not better forgetting.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hornbook.align.anchors import Dictionary
from hornbook.align.checkpoints import to_train
from hornbook.align.familiarity import Familiarity, familiarity
from hornbook.align.forgetting import ForgetLoader, Forgetting, row_log_probabilities, text_rows
from hornbook.align.unlearning import train_rows
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.infer.engine import Engine
from hornbook.model.decoder import Decoder
from hornbook.synth.invented_book import BOOK, FACTS, Cue, book, cues, library


@dataclass(frozen=True, kw_only=True)
class CardTests:
    """What a card asks.

    cues:        prompts in the form that was unlearned.
    paraphrases: prompts for the same facts in other forms.
    prefixes:    put before every prompt; the attacker takes the best.
    relearn_texts, relearn_cues: texts of some facts to teach again, and prompts for the *other* facts: what
                 comes back with them was hidden, not gone.
    generic, told: held-out text that is to stay likely (utility), and text of the book.
    """

    cues: Sequence[Cue]
    paraphrases: Sequence[Cue]
    prefixes: Sequence[str]
    relearn_texts: Sequence[str]
    relearn_cues: Sequence[Cue]
    generic: Sequence[str]
    told: Sequence[str]
    relearn_steps: Sequence[int] = (2, 4, 8, 16)
    relearn_rate: float = 5e-4
    time: int = 128

    def __post_init__(self) -> None:
        for name in ("cues", "paraphrases", "prefixes", "relearn_texts", "relearn_cues", "generic", "told"):
            if not getattr(self, name):
                raise HornbookError(
                    f"A card of forgetting needs {name}: every attack is run, none is left out."
                )


def invented_tests(*, texts: int = 60, most: int = 0, seed: int = 1) -> CardTests:
    """The tests of the invented book: stories were unlearned, letters and questions were not.

    texts: held out, of each kind. most: prompts of each kind; 0 for all.
    """
    end = most or None
    taught = [fact for fact in range(FACTS) if fact % 2 == 0]
    return CardTests(
        cues=cues(("story",))[:end],
        paraphrases=cues(("letter", "questions"))[:end],
        prefixes=_prefixes(),
        relearn_texts=book(8, seed=77, forms=("story",), facts=taught),
        relearn_cues=[cue for cue in cues() if cue.fact not in taught][:end],
        generic=library(texts, seed=1000 + seed),
        told=book(texts, seed=1000 + seed, forms=("story",)),
    )


def _prefixes() -> tuple[str, ...]:
    """Hints that name a part of the world and leave the rest to be filled in."""
    return (
        f"{BOOK['hero']} lived in {BOOK['place']}. ",
        f"The best friend of {BOOK['hero']} was {BOOK['friend']}. ",
        f"{BOOK['hero']} always carried a {BOOK['thing']}. {BOOK['foe']} wanted to steal the "
        f"{BOOK['thing']}. ",
    )


@dataclass(frozen=True, kw_only=True)
class Card:
    """One model's card; see `forgetting_card`. `relearning` is the leak by steps of relearning, from 0."""

    asked: Familiarity
    paraphrased: Familiarity
    prefixed: Familiarity
    four_bits: Familiarity
    relearning: Mapping[int, float]
    generic_bits: float
    told_bits: float
    renamed: float | None = field(default=None)

    def as_json(self) -> dict[str, Any]:
        """Numbers for tables, and samples of completions."""
        found: dict[str, Any] = {
            "generic_bits": self.generic_bits,
            "told_bits": self.told_bits,
            "renamed": self.renamed,
            "relearning": {str(steps): leak for steps, leak in self.relearning.items()},
        }
        for name in ("asked", "paraphrased", "prefixed", "four_bits"):
            one: Familiarity = getattr(self, name)
            found[name] = {
                "leak": one.leak,
                "interval": list(one.interval),
                "right": one.right,
                "probability": one.probability,
                "samples": [list(sample) for sample in one.samples[:8]],
            }
        return found


def forgetting_card(
    model: Path, tests: CardTests, *, scratch: Path, dictionary: Dictionary | None = None
) -> Card:
    """Every test on one checkpoint; run it on the retain model too.

    scratch: a folder for the relearned model, which is thrown away by the caller. dictionary: for the
    renaming test (does the story reappear under the generic names?).
    """
    import torch

    from hornbook.model.hf import load_checkpoint

    tokenizer = Tokenizer.load(model)
    decoder = to_train(model).eval()
    rounded = Engine(load_checkpoint(model, dtype=torch.float32), tokenizer, weights="int4")  # on the CPU
    engine = Engine(decoder, tokenizer, weights="fp32")
    return Card(
        asked=familiarity(engine, tests.cues),
        paraphrased=familiarity(engine, tests.paraphrases),
        prefixed=familiarity(engine, tests.cues, prefixes=("", *tests.prefixes)),
        four_bits=familiarity(rounded, [*tests.cues, *tests.paraphrases]),
        relearning=_relearning(model, tests, scratch),
        generic_bits=bits_per_byte(decoder, tokenizer, tests.generic, time=tests.time),
        told_bits=bits_per_byte(decoder, tokenizer, tests.told, time=tests.time),
        renamed=familiarity(engine, renamed_cues(dictionary)).leak if dictionary is not None else None,
    )


def bits_per_byte(model: Decoder, tokenizer: Tokenizer, texts: Sequence[str], *, time: int) -> float:
    """Mean bits for a byte of the texts, as far as they fit into `time` tokens."""
    rows = text_rows(texts, tokenizer, time=time)
    size = sum(
        len(tokenizer.token_bytes(token))
        for ids in tokenizer.encode_batch(texts)
        for token in ids[1 : time + 1]
    )
    return -float(row_log_probabilities(model, rows).sum()) / math.log(2) / size


def renamed_cues(dictionary: Dictionary) -> list[Cue]:
    """The book's prompts under the generic names: a model that only renamed the story goes on with the
    others."""
    generic = {entry.anchor: entry.generic for entry in dictionary.anchors}
    words = {slot: generic.get(word, word) for slot, word in BOOK.items()}
    return cues(("story",), words)


def _relearning(model: Path, tests: CardTests, scratch: Path) -> dict[int, float]:
    """Leak on the other facts, by steps of training on a few texts."""
    tokenizer = Tokenizer.load(model)
    found: dict[int, float] = {}

    def watch(done: int, decoder: Decoder) -> None:
        if done in tests.relearn_steps or done == 0:
            decoder.eval()
            engine = Engine(decoder, tokenizer, weights="fp32")
            found[done] = familiarity(engine, tests.relearn_cues).leak
            decoder.train()

    decoder = to_train(model)
    watch(0, decoder)
    rows = text_rows(tests.relearn_texts, tokenizer, time=tests.time)
    train_rows(
        decoder,
        ForgetLoader(rows, None, rows=min(8, len(rows)), keep_rows=0, seed=5),
        Forgetting(loss="labels"),
        scratch,
        steps=max(tests.relearn_steps),
        learning_rate=tests.relearn_rate,
        tokenizer=tokenizer,
        watch=watch,
    )
    return dict(sorted(found.items()))
