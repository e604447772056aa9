"""Which language and which kind of text, without a model download.

The language is the one whose most frequent words cover most of the document, or the one its script decides
(Greek, Cyrillic, Han, ...). The kind ("prose", "docs", "code") follows from symbols, indentation and key
words.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from hornbook.curate.repetition import F64, per_document, share
from hornbook.curate.words import I64, Bool, HashSet, Words, hash_words
from hornbook.errors import HornbookError

# The most frequent function words of each language; a word may serve several.
FUNCTION_WORDS = {
    "en": "the of and to in a is that it for was on are as with his they at be this have from or had by "
    "but what some we can out other were all there when use your how said an each she which do "
    "their if will way about many then them would so these her him has more no could my than been "
    "who its now not you",
    "de": "der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an "
    "werden aus er hat dass sie nach wird bei einer um am sind noch wie einem über einen so zum war"
    " haben nur oder aber vor",
    "fr": "de la le et les des en un du une que est pour qui dans a par plus pas au sur ne se ce il sont "
    "avec son cette ou ses mais comme on tout nous sa elle fait leur bien été aussi même aux",
    "es": "de la que el en y a los se del las un por con no una su para es al lo como más o pero sus le "
    "ha me si sin sobre este ya entre cuando todo esta ser son dos también fue había era muy hasta "
    "desde",
    "it": "di e il la che in un a per è una sono con non si da come le dei nel alla più del della anche i"
    " al ma gli ha lo se ai delle questo essere su nella loro stato tra ed cui",
    "pt": "de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele "
    "das tem à seu sua ou ser quando muito há nos já está eu também só pelo pela até isso",
    "nl": "de en van ik te dat die in een hij het niet zijn is was op aan met als voor had er maar om hem"
    " dan zou of wat mijn men dit zo door over ze zich bij ook tot je mij uit der daar haar naar",
    "sv": "och i att det som en på är av för med till den har de inte om ett han men var jag sig från vi "
    "så kan när nu skulle under hade efter eller alla ska också mycket där mot",
    "pl": "i w na z do się nie że to jest o jak po co tak za od przez przy ale dla czy już tylko był jego"
    " jej ich które może być także oraz tego tym",
    "tr": "ve bir bu da de için ile çok daha gibi ama ne o en kadar sonra olarak var olan mi her ben "
    "değil ya bunu",
}
# Scripts that decide alone: (language, first, last code point).
SCRIPTS = (
    ("el", 0x0370, 0x03FF),
    ("ru", 0x0400, 0x052F),
    ("he", 0x0590, 0x05FF),
    ("ar", 0x0600, 0x06FF),
    ("hi", 0x0900, 0x097F),
    ("th", 0x0E00, 0x0E7F),
    ("ja", 0x3041, 0x30FF),
    ("zh", 0x4E00, 0x9FFF),
    ("ko", 0xAC00, 0xD7AF),
)
LANGUAGES = (*FUNCTION_WORDS, *(name for name, _, _ in SCRIPTS))
UNKNOWN = "und"
CODE_WORDS = (
    "def return import self class elif else none true false lambda yield raise except try finally async "
    "await print assert isinstance func var const let function new void int char static public private "
    "struct enum typedef include endif ifdef namespace template typename null nullptr this throw catch "
    "switch case break continue while for if not in is str dict list tuple len range args kwargs init "
    "__init__ __name__ foreach echo fi esac done then end local begin package impl fn pub mut use mod "
    "match trait"
)
_SYMBOLS = np.zeros(129, np.bool_)
_SYMBOLS[[ord(c) for c in "{}()[]=<>;_+*/\\|&%$@#~^`"]] = True


@dataclass(frozen=True, kw_only=True)
class LanguageSettings:
    """keep: accepted languages (empty accepts all). share: least share of a prose document's words that are
    function words of its language; below it the language is unknown. unknown: keep documents of unknown
    language."""

    keep: tuple[str, ...] = ("en",)
    share: float = 0.08
    unknown: bool = False

    def __post_init__(self) -> None:
        strange = [name for name in self.keep if name not in LANGUAGES]
        if strange:
            raise HornbookError(f"language: keep names {strange[0]!r}; known are {', '.join(LANGUAGES)}.")
        if not 0 <= self.share <= 1:
            raise HornbookError(f"language: share = {self.share}; it must lie between 0 and 1.")


@dataclass(frozen=True, kw_only=True)
class Languages:
    """language: (documents,) code or "und". score: (documents,) share of words (or letters) that speak for
    it. kind: (documents,) "prose", "docs" or "code". code: (documents,) the number behind it, 0 prose to 1
    code."""

    language: npt.NDArray[Any]
    score: F64
    kind: npt.NDArray[Any]
    code: F64


@cache
def _vocabulary() -> tuple[HashSet, Bool]:
    """Sorted hashes of all function words, and for each the languages it belongs to (words, languages)."""
    owners = {name: np.unique(hash_words(text)) for name, text in FUNCTION_WORDS.items()}
    vocabulary = np.unique(np.concatenate(list(owners.values())))
    return HashSet(vocabulary), np.stack([np.isin(vocabulary, hashes) for hashes in owners.values()], axis=1)


@cache
def _code_words() -> HashSet:
    return HashSet(hash_words(CODE_WORDS))


def identify(words: Words, settings: LanguageSettings | None = None) -> Languages:
    """Language and kind of every document of a batch."""
    settings = settings or LanguageSettings()
    documents = words.documents
    vocabulary, owners = _vocabulary()
    where, index = vocabulary.find(words.hashes)
    # (documents, words of the vocabulary) would be large: count per language instead.
    document = np.searchsorted(words.offsets, where, "right") - 1
    scores = np.zeros((documents, len(LANGUAGES)))
    for i in range(len(FUNCTION_WORDS)):
        hits = np.bincount(document, weights=owners[index, i], minlength=documents)
        scores[:, i] = share(hits, words.counts)
    scores[:, len(FUNCTION_WORDS) :] = _scripts(words)
    best = scores.argmax(axis=1) if documents else np.zeros(0, np.int64)
    score = scores[np.arange(documents), best]
    code = code_score(words, score)
    kind = np.where(code >= 0.7, "code", np.where(code >= 0.2, "docs", "prose"))
    language = np.array([*LANGUAGES, UNKNOWN])[np.where(score >= settings.share, best, len(LANGUAGES))]
    # Names in programs look like words of any language ("os", "com", "da"): only plenty of them counts.
    language[(kind == "code") & (score < 0.3)] = "en"
    return Languages(language=language, score=score, kind=kind, code=code)


def _scripts(words: Words) -> F64:
    """(documents, scripts) share of the letters written in each script; Kana beside Han means Japanese."""
    out = np.zeros((words.documents, len(SCRIPTS)))
    if words.codes.dtype == np.uint8:
        return out
    wide = np.flatnonzero(words.codes >= 0x0370)
    document = np.searchsorted(words.characters, wide, "right") - 1
    codes = words.codes[wide]
    for i, (_, first, last) in enumerate(SCRIPTS):
        hits = np.bincount(document[(codes >= first) & (codes <= last)], minlength=words.documents)
        out[:, i] = share(hits, words.letters)
    names = [name for name, _, _ in SCRIPTS]
    ja, zh = names.index("ja"), names.index("zh")
    japanese = out[:, ja] > 0.1 * (out[:, ja] + out[:, zh])
    both = out[:, ja] + out[:, zh]
    out[:, ja] = np.where(japanese, both, out[:, ja])
    out[:, zh] = np.where(japanese, 0, out[:, zh])
    return out


def code_score(words: Words, function_words: F64) -> F64:
    """(documents,) between 0 (prose) and 1 (program text).

    A logistic function of the share of symbols among visible characters, of key words and of function words
    among words (`function_words`: (documents,), of the document's own language, or the share of letters in
    its script) and of lines that end like an open statement. Coefficients: logistic regression of library
    code against fiction, stories, encyclopaedia and web text, with Python reference pages on both sides.
    """
    codes = words.codes
    solid = np.diff(words.characters) - words.spaces
    symbol = _SYMBOLS[np.minimum(codes, 128)]
    at = np.flatnonzero(symbol)
    symbols = share(np.diff(np.searchsorted(at, words.characters)), solid)
    where, _ = _code_words().find(words.hashes)
    keys = share(np.diff(np.searchsorted(where, words.offsets)), words.counts)
    lines = words.lines
    full = ~lines.blank
    final = np.full(len(full), 32, codes.dtype)
    final[full] = codes[lines.ends[full] - 1]
    opens = np.isin(final, np.array([ord(c) for c in "{}();:,=[]\\"]))
    edges = share(per_document(opens, lines.offsets), per_document(full, lines.offsets))
    # Without symbols or key words there is nothing that speaks for a program.
    nothing = (symbols < 0.02) & (keys < 0.02)
    z = (
        1.5
        - 6.0 * nothing
        + 11.2 * symbols
        + 23.8 * keys
        - 16.5 * np.minimum(function_words, 0.45)
        + 0.9 * edges
    )
    return np.asarray(1 / (1 + np.exp(-z)), np.float64)


def rejects(found: Languages, settings: LanguageSettings) -> Bool:
    """(documents,) whose language is not accepted."""
    if not settings.keep:
        return np.zeros(len(found.language), np.bool_)
    accepted = np.isin(found.language, settings.keep)
    if settings.unknown:
        accepted |= found.language == UNKNOWN
    return ~accepted


def counts_by(values: npt.NDArray[Any]) -> dict[str, int]:
    """{value: how often}, most frequent first."""
    names, count = np.unique(values, return_counts=True)
    order: I64 = np.argsort(-count, kind="stable")
    return {str(names[i]): int(count[i]) for i in order}
