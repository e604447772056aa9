"""What neurons and heads of storytellers do, where every word's kind is known (Eldan and Li 2023, section 5).

The paper reads neurons by eye: the tokens at which each is strongest. In a world of known words the same is
counted: of a neuron's ten strongest different words, the share of the commonest kind. Beside it stand the
same network with weights as they were drawn, and words dealt out at random.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING, Any

from hornbook.data.corpus import Corpus
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.evals.stories.language import Cast
from hornbook.lab.step import Artifact, Estimate, StepContext, step
from hornbook.lab.workers import side_by_side

if TYPE_CHECKING:
    import torch

    from hornbook.model.decoder import Decoder

TOP = 10
"""Different words of a neuron that are looked at."""
PURE = 0.8
"""A neuron with this share of one kind among them is called a neuron of that kind."""
NAME = "name"
_OTHERS = 8
"""Neurons of the same layer that are silenced for comparison."""
_SHOWN = 8

_WORD = re.compile(r"[A-Za-z']+")
_KINDS = {
    "<name>": NAME,
    "<adult>": "adult",
    "<thing>": "thing",
    "<adjective>": "adjective",
    "<kind>": "boy, girl or animal",
    "<small>": "small animal",
    "<trait>": "trait",
    "<place>": "place",
    "<feeling>": "feeling",
    "<verb>": "verb",
    "<past>": "verb, past",
    "<doing>": "verb, -ing",
    **dict.fromkeys(("<he>", "<him>", "<self>"), "pronoun"),
}
_NOBODY = Cast("", "", "", "")


def kind_of(word: str) -> str | None:
    """The kind of a word of the world; None for words that belong to no kind (the, and, suddenly...)."""
    return _KINDS.get(_NOBODY.label(word, roles=False))


def words_of(text: str, pieces: Sequence[str]) -> list[tuple[int, str]]:
    """(token at which it ends, word) for every word of a text, whose `pieces` are its tokens."""
    ends, at = [], 0
    for piece in pieces:
        at += len(piece)
        ends.append(at)
    found, token = [], 0
    for match in _WORD.finditer(text):
        while token < len(ends) and ends[token] < match.end():
            token += 1
        if token < len(ends):
            found.append((token, match.group()))
    return found


def _estimate(*, students: Mapping[str, Path], workers: int = 1, **other: Any) -> Estimate:
    return Estimate(seconds=8 + 2.0 * len(students) / workers, memory_bytes=workers * 600e6, disk_bytes=1e5)


@step(version="1", makes="table", estimate=_estimate)
def read_neurons(
    ctx: StepContext,
    *,
    students: Mapping[str, Path],
    stories: Artifact | Path,
    count: int,
    seed: int = 0,
    workers: int = 1,
) -> dict[str, Any]:
    """Neurons and heads of checkpoints, read over the first `count` of some stories.

    The neuron that is highest where a name comes next is found on one half of the stories, and silenced on
    the other.

    Facts, by student: `purity`, `fresh` (the same network with weights as drawn), `chance` (words dealt out),
    each the mean over all neurons; `pure` {kind: neurons with `PURE` of it}; `neurons`; `heads` [{layer,
    head, distance}], `distance` being the share of its attention's variance that distance explains; `named`
    {layer, neuron, cost, others}: nats that the right name loses, on average, when that neuron, and when each
    of some others of its layer, is silenced; `strongest` [{layer, neuron, purity, kind, words}], the purest,
    at most two of a kind; `shown` [(token, activation)], one story as the name neuron sees it.
    """
    folder = stories.path if isinstance(stories, Artifact) else stories
    texts = [row["text"] for row in Corpus.open(folder).iter_rows(["text"])][:count]
    if len(texts) < max(2, count):
        raise HornbookError(f"neurons: {count} stories are asked of {folder}, which holds {len(texts)}.")
    jobs = {name: partial(_read, student, texts=texts, seed=seed) for name, student in students.items()}
    return dict(side_by_side(jobs, workers=workers, progress=ctx.progress(len(jobs), "students")))


def _read(student: Path, *, texts: Sequence[str], seed: int, progress: Any) -> dict[str, Any]:
    import torch

    from hornbook.model.decoder import Decoder
    from hornbook.model.hf import load_checkpoint
    from hornbook.theory.neurons import attention_weights, share_by_distance

    torch.set_num_threads(1)
    tokenizer = Tokenizer.load(student)
    decoder = load_checkpoint(student).eval()
    rows = [[tokenizer.end_of_text, *tokenizer.encode(text)] for text in texts]
    tokens = [torch.tensor([row]) for row in rows]
    words = [
        [
            (1 + token, word)
            for token, word in words_of(text, [tokenizer.decode([one]) for one in row[1:]])
            if kind_of(word)
        ]
        for text, row in zip(texts, rows, strict=True)
    ]
    torch.manual_seed(seed)
    fresh = Decoder(decoder.config).eval()
    strongest = _strongest(decoder, tokens, words)
    distances = zip(*[[layer[0] for layer in attention_weights(decoder, row)] for row in tokens], strict=True)
    named = _name_neuron(decoder, tokens, words, seed)
    found = {
        "purity": fmean(one["purity"] for one in strongest),
        "fresh": fmean(one["purity"] for one in _strongest(fresh, tokens, words)),
        "chance": _chance({word for row in words for _, word in row}, seed),
        "pure": dict(Counter(one["kind"] for one in strongest if one["purity"] >= PURE)),
        "neurons": len(strongest),
        "heads": [
            {"layer": layer, "head": head, "distance": share}
            for layer, weights in enumerate(distances)
            for head, share in enumerate(share_by_distance(weights))
        ],
        "named": {key: named[key] for key in ("layer", "neuron", "cost", "others")},
        "strongest": _purest(strongest),
        "shown": [
            (tokenizer.decode([one]), value)
            for one, value in zip(rows[0][1:], named["values"][1:], strict=True)
        ],
    }
    progress.advance(1)
    return found


def _at(
    decoder: "Decoder", tokens: Sequence["torch.Tensor"], words: Sequence[Sequence[tuple[int, str]]]
) -> list["torch.Tensor"]:
    """Of every layer, (words of all texts, neurons): activations at the token that stands with each word."""
    import torch

    from hornbook.theory.neurons import activations

    each = [
        [layer[0, [at for at, _ in known]] for layer in activations(decoder, row)]
        for row, known in zip(tokens, words, strict=True)
    ]
    return [torch.cat(layer) for layer in zip(*each, strict=True)]


def _strongest(
    decoder: "Decoder", tokens: Sequence["torch.Tensor"], words: Sequence[Sequence[tuple[int, str]]]
) -> list[dict[str, Any]]:
    from hornbook.theory.neurons import purity, strongest_words

    flat = [word for row in words for _, word in row]
    found = []
    for layer, values in enumerate(_at(decoder, tokens, words)):
        for neuron, top in enumerate(strongest_words(values, flat, count=TOP)):
            kinds = [str(kind_of(word)) for word in top]
            commonest = Counter(kinds).most_common(1)[0][0]
            found.append(
                {"layer": layer, "neuron": neuron, "purity": purity(kinds), "kind": commonest, "words": top}
            )
    return found


def _purest(strongest: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The purest neurons, at most two of a kind."""
    seen: Counter[str] = Counter()
    found = []
    for one in sorted(strongest, key=lambda one: -one["purity"]):
        seen[one["kind"]] += 1
        if seen[one["kind"]] <= 2:
            found.append(one)
    return found[:_SHOWN]


def _chance(known: set[str], seed: int, draws: int = 2_000) -> float:
    """Mean purity of ten different words drawn at random."""
    from hornbook.theory.neurons import purity

    rng, pool = Random(seed), sorted(known)
    return fmean(
        purity([str(kind_of(word)) for word in rng.sample(pool, min(TOP, len(pool)))]) for _ in range(draws)
    )


def _name_neuron(
    decoder: "Decoder",
    tokens: Sequence["torch.Tensor"],
    words: Sequence[Sequence[tuple[int, str]]],
    seed: int,
) -> dict[str, Any]:
    """The neuron that is highest where a name comes next, beside where another word of a kind does (in
    standard deviations), in the first half of the texts; what silencing it costs names in the second."""
    import torch

    from hornbook.theory.neurons import activations, silenced

    half = len(tokens) // 2
    before = [[(at - 1, word) for at, word in row] for row in words[:half]]
    is_name = torch.tensor([kind_of(word) == NAME for row in before for _, word in row])
    layer = neuron = 0
    most = -torch.inf
    for number, values in enumerate(_at(decoder, tokens[:half], before)):
        names, others = values[is_name], values[~is_name]
        lead = (names.mean(0) - others.mean(0)) / (values.std(0) + 1e-12)
        if float(lead.max()) > most:
            most, layer, neuron = float(lead.max()), number, int(lead.argmax())

    def name_logprob() -> float:
        """Mean log-probability (nats) of the last token of every name of the second half."""
        found = []
        for row, known in zip(tokens[half:], words[half:], strict=True):
            places = [at for at, word in known if kind_of(word) == NAME]
            logits = decoder.logits(decoder(row)[0, [at - 1 for at in places]]).float()
            chosen = logits.log_softmax(-1)[range(len(places)), row[0, places]]
            found += [float(value) for value in chosen]
        return fmean(found)

    rivals = [one for one in range(decoder.config.intermediate_size) if one != neuron]
    with torch.no_grad():
        whole = name_logprob()
        costs = []
        for one in [neuron, *Random(seed).sample(rivals, min(_OTHERS, len(rivals)))]:
            with silenced(decoder, layer, one):
                costs.append(whole - name_logprob())
    values = activations(decoder, tokens[0])[layer][0, :, neuron]
    return {
        "layer": layer,
        "neuron": neuron,
        "cost": costs[0],
        "others": fmean(costs[1:]),
        "values": [float(value) for value in values],
    }
