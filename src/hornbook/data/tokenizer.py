"""Byte-level BPE tokenisers in Hugging Face files: trained here, or anyone's that lies in a `tokenizer.json`.

Digits stand one by one and spaces lead words, the pre-tokeniser llama.cpp calls `smollm`, so that exported
GGUF files tokenise as we do. Any UTF-8 text survives encode and decode exactly.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from hornbook.data.chat import ChatTemplate
from hornbook.data.tiktoken import CHARACTER_OF, folder_backend
from hornbook.errors import HornbookError

SPECIALS = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
"""Special tokens of every tokeniser trained here; their ids are 0 to 4."""

_BYTES = 256
_FILE = "tokenizer.json"
_CONFIG = "tokenizer_config.json"


class Tokenizer:
    """Text to token ids and back.

    `encode` never produces a special token: text that spells one stays text. Only chat templates and the
    end of a document put special ids in. (`encode(text, specials=True)` is for text this program rendered
    itself.)

    Attributes:
        chat_template: the template saved with the tokeniser (Jinja), or None.
        template: the `ChatTemplate` with exactly that text, or None when it is a foreign one.
    """

    def __init__(self, backend: Any, config: dict[str, Any]):
        self._backend = backend
        # Text is encoded as text; a second tokeniser that sees special tokens is made when it is asked for.
        self._backend.encode_special_tokens = True
        self.config = config
        template = config.get("chat_template")
        self.chat_template: str | None = template if isinstance(template, str) else None
        known = {ChatTemplate(name).jinja: name for name in ChatTemplate.names()}
        self.template = ChatTemplate(known[self.chat_template]) if self.chat_template in known else None
        self.vocab_size: int = max(backend.get_vocab(with_added_tokens=True).values()) + 1

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        folder: str | Path | None = None,
        *,
        chat_template: str = "phi3",
        extra_specials: Sequence[str] = (),
    ) -> "Tokenizer":
        """Learn a byte-level BPE vocabulary from `texts` and, with `folder`, save it there.

        Args:
            texts: an iterable of documents, read once.
            vocab_size: ids in all: 5 special tokens, 256 bytes, merges. Few texts may give fewer merges.
            folder: where to save, or None.
            chat_template: name of the template saved with it.
            extra_specials: more special tokens, with ids from 5 on (a template other than phi3 needs them;
            those
                of `chat_template` are added by themselves).

        Raises:
            HornbookError: a vocabulary too small for the bytes, or no text.
        """
        from tokenizers import Tokenizer as Backend
        from tokenizers import decoders, models, pre_tokenizers, trainers

        template = ChatTemplate(chat_template)
        specials = list(dict.fromkeys([*SPECIALS, *template.specials, *extra_specials]))
        smallest = len(specials) + _BYTES
        if vocab_size < smallest:
            raise HornbookError(
                f"vocab_size is {vocab_size}; it must be at least {smallest}"
                f" ({len(specials)} special tokens and {_BYTES} bytes)."
            )
        backend = Backend(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            special_tokens=specials,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        counted = _Counted(texts)
        backend.train_from_iterator(counted, trainer)
        if counted.characters == 0:
            raise HornbookError("There is no text to train a tokeniser on: the corpora are empty.")
        tokenizer = cls(backend, _config(specials, template))
        if folder is not None:
            tokenizer.save(folder)
        return tokenizer

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        """Load a folder with `tokenizer.json` (ours or anyone's), or that file itself.

        A folder without it may have a rank file of the tiktoken type (phi-3-small): `data/tiktoken.py`.
        """
        from tokenizers import Tokenizer as Backend

        path = Path(folder)
        file = path if path.is_file() else path / _FILE
        if not file.is_file():
            ranked = folder_backend(path, _read_config(path)) if path.is_dir() else None
            if ranked is not None:
                return cls(*ranked)
            raise HornbookError(f"There is no tokeniser at {path}: {_FILE} is missing.")
        try:
            backend = Backend.from_file(str(file))
        except Exception as error:  # the library raises bare Exception
            raise HornbookError(f"{file} is not a tokeniser that can be read: {error}.") from None
        backend.no_padding()
        backend.no_truncation()
        return cls(backend, _read_config(file.parent))

    def encode(self, text: str, *, specials: bool = False) -> list[int]:
        """Ids of `text`, with nothing added. `specials`: let text that spells a special token become it."""
        backend = self._with_specials if specials else self._backend
        try:
            ids: list[int] = backend.encode(text, add_special_tokens=False).ids
        except (TypeError, UnicodeEncodeError):
            raise HornbookError(_not_text(text)) from None
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many texts, on all cores; as `encode` for each."""
        try:
            encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        except (TypeError, UnicodeEncodeError):
            raise HornbookError(
                next((_not_text(t) for t in texts if not _is_text(t)), "A text is not text.")
            ) from None
        return [encoding.ids for encoding in encodings]

    def decode(self, ids: Iterable[int] | NDArray[Any], *, skip_specials: bool = False) -> str:
        """Text of `ids`. Special tokens are spelled out unless skipped; broken UTF-8 becomes U+FFFD."""
        text: str = self._backend.decode([int(i) for i in ids], skip_special_tokens=skip_specials)
        return text

    def special(self, name: str) -> int:
        """Id of the special token `name`, such as `<|end|>`.

        Raises:
            HornbookError: this tokeniser has no such special token.
        """
        found = self.specials.get(name)
        if found is None:
            raise HornbookError(
                f"This tokeniser has no special token {name}; it has {', '.join(self.specials) or 'none'}."
            )
        return found

    @cached_property
    def specials(self) -> dict[str, int]:
        """Every special token and its id, by id."""
        added = self._backend.get_added_tokens_decoder()
        return {token.content: number for number, token in sorted(added.items()) if token.special}

    @property
    def end_of_text(self) -> int:
        """Id of the token that ends a document: `<|endoftext|>`, else `eos_token`, else `</s>`."""
        name = self.config.get("eos_token")
        name = name.get("content") if isinstance(name, dict) else name
        for candidate in (SPECIALS[0], name, "</s>"):
            if isinstance(candidate, str) and candidate in self.specials:
                return self.specials[candidate]
        raise HornbookError("This tokeniser names no end-of-text token (eos_token in tokenizer_config.json).")

    def token_bytes(self, index: int) -> bytes:
        """The bytes token `index` stands for; special tokens give their name."""
        piece = self._backend.id_to_token(index)
        if piece is None:
            raise HornbookError(f"Token id {index} is outside the vocabulary of {self.vocab_size}.")
        if piece in self.specials:
            return str(piece).encode()
        if self._spaces_are_shown:
            if len(piece) == 6 and piece.startswith("<0x"):
                return bytes([int(piece[3:5], 16)])
            return str(piece).replace("\u2581", " ").encode()
        if any(c not in _BYTE_OF for c in piece):
            return str(piece).encode()
        return bytes(_BYTE_OF[c] for c in piece)

    def bytes_per_token(self, texts: Sequence[str]) -> float:
        """UTF-8 bytes a token stands for on average over `texts`; 0.0 when there is no token."""
        tokens = sum(len(ids) for ids in self.encode_batch(texts))
        return sum(len(text.encode()) for text in texts) / tokens if tokens else 0.0

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json`, `tokenizer_config.json` and `special_tokens_map.json` into `folder`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        names = {
            key: self.config[key]
            for key in ("bos_token", "eos_token", "pad_token", "unk_token")
            if key in self.config
        }
        _write(folder / "special_tokens_map.json", json.dumps(names, indent=2, ensure_ascii=False))
        _write(folder / _CONFIG, json.dumps(self.config, indent=2, ensure_ascii=False))
        _write(folder / _FILE, self._backend.to_str(pretty=True))

    @cached_property
    def _spaces_are_shown(self) -> bool:
        """Whether tokens spell spaces as U+2581 and unknown bytes as <0x..>: SentencePiece's vocabularies."""
        return bool(json.loads(self._backend.to_str())["model"].get("byte_fallback"))

    @cached_property
    def _with_specials(self) -> Any:
        from tokenizers import Tokenizer as Backend

        return Backend.from_str(self._backend.to_str())


class _Counted:
    """Texts on their way to the trainer, counted."""

    def __init__(self, texts: Iterable[str]):
        self._texts = texts
        self.characters = 0

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            if not _is_text(text):
                raise HornbookError(_not_text(text))
            self.characters += len(text)
            yield text


def _config(specials: Sequence[str], template: ChatTemplate) -> dict[str, Any]:
    end = SPECIALS[0]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": end,
        "eos_token": end,
        "pad_token": end,
        "unk_token": end,
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": int(1e30),
        "chat_template": template.jinja,
        "added_tokens_decoder": {
            str(number): {
                "content": name,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": True,
            }
            for number, name in enumerate(specials)
        },
    }


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / _CONFIG
    config: dict[str, Any] = {}
    if file.is_file():
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise HornbookError(f"{file} is not JSON: {error}.") from None
    separate = folder / "chat_template.jinja"
    if "chat_template" not in config and separate.is_file():
        config["chat_template"] = separate.read_text(encoding="utf-8")
    return config


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _is_text(text: object) -> bool:
    if not isinstance(text, str):
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _not_text(text: object) -> str:
    if not isinstance(text, str):
        return f"A text to tokenise is a {type(text).__name__}, not a string."
    return (
        f"A text to tokenise holds a lone surrogate (it begins {text[:40]!a}):"
        " it is not Unicode text. Read it through a corpus, which repairs such text."
    )


_BYTE_OF = {shown: byte for byte, shown in CHARACTER_OF.items()}
