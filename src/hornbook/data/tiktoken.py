"""Tokenisers of the tiktoken type: byte-level BPE whose merges are implied by ranks (cl100k, o200k).

A rank file has a line for each token: its bytes in base64 and its rank, which is its id. A text is cut by a
pattern; inside a cut, of all neighbouring parts whose joined bytes are a token, those of the lowest rank are
joined first, until none is left. phi-3-small and phi-4 use cl100k's ranks, phi-4-mini o200k's.
"""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hornbook.errors import HornbookError

_END = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
CL100K = _END + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""Cuts of cl100k: a word with what precedes it, up to three digits, other signs, line ends, spaces."""

_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_END}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_END}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Cuts of o200k: as cl100k's, with words cut where lower case turns into upper case."""

CL100K_RANKS = 100_256


def phi3_small_specials() -> dict[str, int]:
    """phi-3-small's special tokens behind cl100k's ranks, and the names of the ids that stand for nothing."""
    named = {
        "<|dummy_id_2|>": 100256,
        "<|endoftext|>": 100257,
        "<|fim_prefix|>": 100258,
        "<|fim_middle|>": 100259,
        "<|fim_suffix|>": 100260,
        "<|system|>": 100261,
        "<|user|>": 100262,
        "<|assistant|>": 100263,
        "<|dummy_id_0|>": 100264,
        "<|dummy_id_1|>": 100265,
        "<|end|>": 100266,
        "<|endofprompt|>": 100276,
    }
    free = [number for number in range(100267, 100352) if number != 100276]
    return named | {f"<|dummy_id_{3 + place}|>": number for place, number in enumerate(free)}


def read_ranks(path: str | Path) -> dict[bytes, int]:
    """The tokens of a `.tiktoken` file with their ranks.

    Raises:
        HornbookError: a line that is no base64 and number, a token or rank that comes twice, or a missing
            byte (then some texts could not be encoded). The line is named.
    """
    path = Path(path)
    if not path.is_file():
        raise HornbookError(f"There is no file {path}.")
    ranks: dict[bytes, int] = {}
    taken: dict[int, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            text, rank_text = line.split()
            token, rank = base64.b64decode(text, validate=True), int(rank_text)
        except (ValueError, binascii.Error):
            raise HornbookError(
                f"{path}, line {number}, is not a token in base64 and its rank: {line[:60]!r}."
            ) from None
        if not token or token in ranks or rank in taken:
            where = f"the rank {rank} of line {taken[rank]}" if rank in taken else "a token that came before"
            raise HornbookError(
                f"{path}, line {number}, repeats {where if token else 'nothing: it is empty'}."
            )
        ranks[token], taken[rank] = rank, number
    absent = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if absent:
        raise HornbookError(
            f"{path} has no token for {len(absent)} of the 256 bytes (the first: 0x{absent[0]:02x}): it is "
            "incomplete. Copy it again."
        )
    return ranks


def merges_of(ranks: Mapping[bytes, int]) -> list[tuple[bytes, bytes]]:
    """Every pair of tokens that joins to a token, by the rank of what it joins to."""
    out = []
    for token in sorted(ranks, key=ranks.__getitem__):
        cuts = ((token[:at], token[at:]) for at in range(1, len(token)))
        pairs = [(left, right) for left, right in cuts if left in ranks and right in ranks]
        out += sorted(pairs, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
    return out


def backend_of(ranks: Mapping[bytes, int], pattern: str, specials: Mapping[str, int]) -> Any:
    """A `tokenizers` object that encodes as these ranks and this pattern say.

    Raises:
        HornbookError: a special token with the id of another token.
    """
    from tokenizers import Tokenizer

    numbers = {number: name for name, number in specials.items()}
    clash = [name for name, number in specials.items() if number in set(ranks.values())]
    if clash or len(numbers) < len(specials):
        raise HornbookError(f"Special tokens share ids with other tokens: {', '.join(clash or specials)}.")
    shown = {token: "".join(map(CHARACTER_OF.__getitem__, token)) for token in ranks}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    vocabulary = {shown[token]: rank for token, rank in ranks.items()}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": n, "content": name, **flags} for n, name in sorted(numbers.items())],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": {**byte_level, "add_prefix_space": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            # A cut that is a token is that token, whatever the ranks of its parts would make of it.
            "ignore_merges": True,
            "vocab": vocabulary | dict(specials),
            "merges": [(shown[left], shown[right]) for left, right in merges_of(ranks)],
        },
    }
    return Tokenizer.from_str(json.dumps(content))


def folder_backend(folder: Path, config: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
    """The tokeniser of a folder with a `.tiktoken` file and its settings; None where there is no such file.

    Special tokens are those of tokenizer_config.json (`added_tokens_decoder`), else phi-3-small's where the
    ranks are as many as cl100k's.

    Raises:
        HornbookError: several rank files, or ranks without any special tokens to go with them.
    """
    files = sorted(folder.glob("*.tiktoken"))
    if not files:
        return None
    if len(files) > 1:
        raise HornbookError(
            f"{folder} holds several rank files ({', '.join(f.name for f in files)}); keep one."
        )
    ranks = read_ranks(files[0])
    stored = config.get("added_tokens_decoder") or {}
    specials = {token["content"]: int(number) for number, token in stored.items()}
    if not specials and len(ranks) == CL100K_RANKS:
        specials = phi3_small_specials()
    if not specials:
        raise HornbookError(
            f"{files[0]} has {len(ranks):,} ranks and nothing says which special tokens follow them: name "
            "them in tokenizer_config.json (added_tokens_decoder)."
        )
    pattern = O200K if "o200k" in files[0].name else CL100K
    end = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    known = {key: value for key, value in config.items() if key != "auto_map"}
    ours = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    return backend_of(ranks, pattern, specials), {**end, **known, **ours}


def _characters() -> Iterator[tuple[int, str]]:
    """Byte-level BPE writes bytes that print badly as characters behind the first 256."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = 0
    for byte in range(256):
        yield byte, chr(byte) if byte in shown else chr(256 + hidden)
        hidden += byte not in shown


CHARACTER_OF = dict(_characters())
"""How byte-level vocabularies write each byte (GPT-2's table)."""
