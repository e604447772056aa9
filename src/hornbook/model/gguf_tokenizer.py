"""Byte-level BPE tokenizers between `tokenizer.json` and GGUF metadata.

Those with SentencePiece's spaces (phi-3-mini, phi-3.5) are in `gguf_sentencepiece.py`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hornbook.data.tiktoken import CL100K, O200K
from hornbook.errors import HornbookError
from hornbook.model import gguf_sentencepiece as sentencepiece
from hornbook.model.gguf_file import ARRAY, BOOL, FLOAT32, INT32, STRING, UINT32, GGUFFile, Value

_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5

# How llama.cpp's names cut text before merging. Digits one by one, then GPT-2's own pattern: "smollm".
_BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def _cut_by(pattern: str) -> dict[str, Any]:
    """A pre-tokenizer that cuts by a pattern and then writes bytes."""
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, {**_BYTE_LEVEL, "use_regex": False}]}


_PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL],
    },
    "gpt-2": _BYTE_LEVEL,
    "dbrx": _cut_by(CL100K),
    "gpt-4o": _cut_by(O200K),
}
# The same cuts spelled otherwise in published files.
_SPELLINGS = {
    CL100K.replace("(?i:'s|'t|'re|'ve|'m|'ll|'d)", "'(?i:[sdmt]|ll|ve|re)"): CL100K,
}
# CodeGen's tokenizer (phi-1, 1.5, 2) cuts like GPT-2's.
_SAME_AS = {"phi-2": "gpt-2", "default": "gpt-2"}


def tokenizer_metadata(folder: str | Path, vocab_size: int) -> dict[str, Value]:
    """The `tokenizer.*` metadata of a tokenizer folder, padded with unused ids to `vocab_size`.

    Raises HornbookError where tokenizer.json is missing, is no BPE, cuts text in a way
    that llama.cpp has no name for here, or has more ids than the model has rows.
    """
    folder = Path(folder)
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise HornbookError(f"{folder} holds no tokenizer.json, which a GGUF file needs.")
    content = json.loads(path.read_text(encoding="utf-8"))
    model = content.get("model", {})
    if model.get("type") != "BPE" or not model.get("vocab"):
        raise HornbookError(f"{path} is a {model.get('type')} tokenizer; GGUF export writes BPE only.")
    pieces = bool(model.get("byte_fallback"))
    kind, pre = ("llama", "default") if pieces else ("gpt2", _pre_name(content, path))
    tokens: list[str | None] = [None] * vocab_size
    kinds = [_UNUSED] * vocab_size
    added = content.get("added_tokens", [])
    ids = [*model["vocab"].items(), *((token["content"], token["id"]) for token in added)]
    largest = max(number for _, number in ids)
    if largest >= vocab_size:
        raise HornbookError(
            f"{path} has ids up to {largest}, but the model has only {vocab_size} embeddings."
        )
    for text, number in ids:
        tokens[number], kinds[number] = text, _NORMAL
    for token in added:
        kinds[token["id"]] = _CONTROL if token.get("special") else _USER_DEFINED
    filled = [f"[PAD{number}]" if text is None else text for number, text in enumerate(tokens)]
    merges = [tuple(m.split(" ", 1)) if isinstance(m, str) else tuple(m) for m in model.get("merges", [])]
    out = {
        "tokenizer.ggml.model": Value(kind=STRING, value=kind),
        "tokenizer.ggml.pre": Value(kind=STRING, value=pre),
        "tokenizer.ggml.tokens": Value(kind=ARRAY, items=STRING, value=filled),
    }
    if pieces:
        scores = sentencepiece.scores(model["vocab"], merges, filled, path)
        kinds = sentencepiece.kinds(kinds, filled, model.get("unk_token"))
        out["tokenizer.ggml.scores"] = Value(kind=ARRAY, items=FLOAT32, value=scores)
    out["tokenizer.ggml.token_type"] = Value(kind=ARRAY, items=INT32, value=kinds)
    if not pieces:
        joined = [" ".join(merge) for merge in merges]
        out["tokenizer.ggml.merges"] = Value(kind=ARRAY, items=STRING, value=joined)
    leads = pieces and sentencepiece.leads_with_space(content, path)
    out["tokenizer.ggml.add_bos_token"] = Value(kind=BOOL, value=False)
    out["tokenizer.ggml.add_space_prefix"] = Value(kind=BOOL, value=leads)
    settings = folder / "tokenizer_config.json"
    config = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    numbers = dict(ids)
    for key, name in (
        ("bos", "bos_token"),
        ("eos", "eos_token"),
        ("unknown", "unk_token"),
        ("padding", "pad_token"),
    ):
        text = config.get(name)
        text = text.get("content") if isinstance(text, Mapping) else text
        if text in numbers:
            out[f"tokenizer.ggml.{key}_token_id"] = Value(kind=UINT32, value=numbers[text])
    template = _chat_template(folder, config)
    if template:
        out["tokenizer.chat_template"] = Value(kind=STRING, value=template)
    return out


def _pre_name(content: Mapping[str, Any], path: Path) -> str:
    found = content.get("pre_tokenizer")
    if content.get("normalizer") is None:
        for name, pattern in _PRE_TOKENIZERS.items():
            if _same(found, pattern):
                return name
    raise HornbookError(
        f"{path} cuts text in a way GGUF export has no name for (normalizer {content.get('normalizer')!r}, "
        f"pre_tokenizer {found!r}). Known: {', '.join(_PRE_TOKENIZERS)}."
    )


def _spelled(pattern: object) -> object:
    return _SPELLINGS.get(pattern, pattern) if isinstance(pattern, str) else pattern


def _same(found: Any, pattern: Any) -> bool:
    """Equal up to settings that do not change the cuts (trim_offsets)."""
    if isinstance(pattern, dict):
        if pattern.get("type") == "Split" and isinstance(found, dict):
            found = {**found, "pattern": {"Regex": _spelled((found.get("pattern") or {}).get("Regex"))}}
            if (found.get("behavior"), found.get("invert")) == ("Removed", True):
                found |= {"behavior": "Isolated", "invert": False}  # keeping what matches is the same
        keys = pattern.keys() - {"trim_offsets"}
        return isinstance(found, dict) and all(_same(found.get(key), pattern[key]) for key in keys)
    if isinstance(pattern, list):
        return isinstance(found, list) and len(found) == len(pattern) and all(map(_same, found, pattern))
    return bool(found == pattern)


def _chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    template = config.get("chat_template")
    separate = folder / "chat_template.jinja"
    if not template and separate.is_file():
        return separate.read_text(encoding="utf-8")
    return template if isinstance(template, str) else None


def tokenizer_files(file: GGUFFile) -> dict[str, str]:
    """`tokenizer.json` and `tokenizer_config.json`, by file name, rebuilt from a GGUF file's metadata.

    Raises HornbookError where the vocabulary is no BPE of these kinds or cuts text in an unknown way.
    """
    model, pre = file.get("tokenizer.ggml.model"), file.get("tokenizer.ggml.pre", "default")
    pre = _SAME_AS.get(pre, pre)
    if model != "llama" and (model != "gpt2" or pre not in _PRE_TOKENIZERS):
        raise HornbookError(
            f"{file.path} has a tokenizer of kind {model!r} with cuts {pre!r}; byte-level BPE ('gpt2') with "
            f"{', '.join(_PRE_TOKENIZERS)} and SentencePiece's ('llama') can be rebuilt."
        )
    tokens: list[str] = file.get("tokenizer.ggml.tokens")
    kinds: list[int] = file.get("tokenizer.ggml.token_type", [_NORMAL] * len(tokens))
    special = {
        number: kind != _USER_DEFINED
        for number, kind in enumerate(kinds)
        if kind in (_CONTROL, _USER_DEFINED, sentencepiece.UNKNOWN)
    }
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": number, "content": tokens[number], **flags, "special": is_special}
        for number, is_special in special.items()
    ]
    content: dict[str, Any] = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added}
    if model == "llama":
        content |= sentencepiece.content(file, tokens, kinds)
    else:
        vocabulary = {token: number for number, token in enumerate(tokens) if kinds[number] != _UNUSED}
        merges = [merge.split(" ", 1) for merge in file.get("tokenizer.ggml.merges", [])]
        content |= {
            "normalizer": None,
            "pre_tokenizer": _PRE_TOKENIZERS[pre],
            "post_processor": None,
            "decoder": {**_BYTE_LEVEL, "add_prefix_space": True},
            "model": {**sentencepiece.BPE, "vocab": vocabulary, "merges": merges},
        }
    names = {
        name: tokens[file.get(f"tokenizer.ggml.{key}_token_id")]
        for key, name in (
            ("bos", "bos_token"),
            ("eos", "eos_token"),
            ("unknown", "unk_token"),
            ("padding", "pad_token"),
        )
        if file.get(f"tokenizer.ggml.{key}_token_id") is not None
    }
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **names,
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context_length(file),
    }
    if file.get("tokenizer.chat_template"):
        settings["chat_template"] = file.get("tokenizer.chat_template")
    return {
        "tokenizer.json": json.dumps(content, ensure_ascii=False, indent=2),
        "tokenizer_config.json": json.dumps(settings, ensure_ascii=False, indent=2),
    }


def context_length(file: GGUFFile) -> int:
    """The model's context in tokens, by the file's own metadata."""
    return int(file.get(f"{file.get('general.architecture')}.context_length", 0))
