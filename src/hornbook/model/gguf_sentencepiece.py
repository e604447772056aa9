"""SentencePiece's BPE vocabularies (phi-3-mini, medium, 3.5) between `tokenizer.json` and GGUF metadata.

`tokenizer.json` lists merges in the order they are made; GGUF, like SentencePiece, gives each token a score,
and of all neighbours that join to a token those of the highest score are joined first. The two say the same
where the merges hold every pair that joins to a token.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hornbook.errors import HornbookError
from hornbook.model.gguf_file import GGUFFile

UNKNOWN = 2
_NORMAL, _USER_DEFINED, _BYTE = 1, 4, 6
_SPACE = "\u2581"

BPE: dict[str, Any] = {
    "type": "BPE",
    "dropout": None,
    "unk_token": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "fuse_unk": False,
    "byte_fallback": False,
    "ignore_merges": False,
}
"""The settings of a BPE model in `tokenizer.json`, without vocabulary and merges."""

Pair = tuple[str, str]


def pairs(vocabulary: Mapping[str, int], token: str) -> list[Pair]:
    """Every pair of tokens that joins to `token`, by their ids."""
    cuts = ((token[:at], token[at:]) for at in range(1, len(token)))
    known = [(left, right) for left, right in cuts if left in vocabulary and right in vocabulary]
    return sorted(known, key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))


def scores(
    vocabulary: Mapping[str, int], merges: Sequence[tuple[str, ...]], tokens: Sequence[str], path: Path
) -> list[float]:
    """A score for each id: minus the place of the first merge that makes its token.

    Raises HornbookError where scores cannot say what the merges say.
    """
    place: dict[str, int] = {}
    for number, merge in enumerate(merges):
        place.setdefault("".join(merge), number)
    given = {tuple(merge) for merge in merges}
    lacking = sum(pair not in given for token in place for pair in pairs(vocabulary, token))
    if lacking:
        raise HornbookError(
            f"{path} makes {lacking} joins of tokens to a token by no merge; SentencePiece's scores, which "
            "GGUF has for such a vocabulary, would make them."
        )
    return [-float(place.get(token, len(merges))) for token in tokens]


def kinds(found: Sequence[int], tokens: Sequence[str], unknown: object) -> list[int]:
    """Token types with the bytes and the unknown token told apart."""
    out = list(found)
    for number, token in enumerate(tokens):
        if token == unknown:
            out[number] = UNKNOWN
        elif out[number] == _NORMAL and _is_byte(token):
            out[number] = _BYTE
    return out


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def leads_with_space(content: Mapping[str, Any], path: Path) -> bool:
    """Whether a space is put before a text and after each special token.

    Raises HornbookError where text is prepared in another way than SentencePiece does.
    """
    normalizer, cuts = content.get("normalizer"), content.get("pre_tokenizer")
    steps = normalizer.get("normalizers", [normalizer]) if normalizer else []
    shown = [step for step in steps if step.get("type") == "Replace" and step.get("content") == _SPACE]
    leading = [step for step in steps if step.get("type") == "Prepend" and step.get("prepend") == _SPACE]
    if len(shown) == 1 and len(shown) + len(leading) == len(steps) and cuts is None:
        return bool(leading)
    if not steps and cuts and cuts.get("type") == "Metaspace" and not cuts.get("split", True):
        scheme = cuts.get("prepend_scheme")
        if cuts.get("replacement") == _SPACE and scheme in ("always", "never"):
            return bool(scheme == "always")
    raise HornbookError(
        f"{path} prepares text in a way GGUF export has no name for (normalizer {normalizer!r}, "
        f"pre_tokenizer {cuts!r}); known is SentencePiece's: spaces as {_SPACE!r}, one before every text or "
        "none."
    )


def content(file: GGUFFile, tokens: Sequence[str], found: Sequence[int]) -> dict[str, Any]:
    """What `tokenizer.json` says of normalizer, model and decoder, from a file's tokens and scores."""
    values: Sequence[float] = file.get("tokenizer.ggml.scores") or []
    if len(values) != len(tokens):
        raise HornbookError(
            f"{file.path} has {len(tokens):,} tokens and {len(values):,} scores: its tokenizer is damaged."
        )
    vocabulary = {token: n for n, token in enumerate(tokens) if found[n] in (_NORMAL, _USER_DEFINED)}
    normal = [number for number in vocabulary.values() if found[number] == _NORMAL]
    # A stable sort: tokens of equal score stay in the order of their ids.
    ranked = sorted(normal, key=lambda number: -values[number])
    merges = [list(pair) for number in ranked for pair in pairs(vocabulary, tokens[number])]
    leads = file.get("tokenizer.ggml.add_space_prefix", True)
    steps = [{"type": "Prepend", "prepend": _SPACE}] if leads else []
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": _SPACE})  # type: ignore[dict-item]
    undo: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if leads:
        undo.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    unknown = next((tokens[number] for number, kind in enumerate(found) if kind == UNKNOWN), None)
    everything = {token: n for n, token in enumerate(tokens) if found[n] != 5}
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": undo},
        "model": {
            **BPE,
            "unk_token": unknown,
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": everything,
            "merges": merges,
        },
    }
