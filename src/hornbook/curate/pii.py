"""Personal data and secrets that patterns can find: tagged by count, or masked in the text.

Patterns find forms, not persons: names and addresses are out of reach. Where a form has a checksum (payment
cards, IBAN) it must hold; reserved example domains and private network addresses are nobody's and stay.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hornbook.curate.words import I64, Bool, Words


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One find: kind, and the place text[start:end]."""

    kind: str
    start: int
    end: int


_EXAMPLES = re.compile(
    r"@(?:[\w-]+\.)*(?:example\.(?:com|org|net|edu)|example|test|invalid|localhost)$", re.I
)


def _email(match: re.Match[str]) -> bool:
    return not _EXAMPLES.search(match.group())


def _public_address(match: re.Match[str]) -> bool:
    if "version" in match.string[max(0, match.start() - 12) : match.start()].lower():
        return False
    try:
        return ipaddress.ip_address(match.group()).is_global
    except ValueError:
        return False


def _luhn(match: re.Match[str]) -> bool:
    digits = [int(c) for c in match.group() if c.isdigit()]
    if not 13 <= len(digits) <= 19 or len(set(digits)) < 2:
        return False
    doubled = [d if i % 2 == 0 else d * 2 - 9 * (d > 4) for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


def _iban(match: re.Match[str]) -> bool:
    plain = match.group().replace(" ", "")
    return 15 <= len(plain) <= 34 and int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def _phone(match: re.Match[str]) -> bool:
    return 9 <= sum(c.isdigit() for c in match.group()) <= 15


def _always(match: re.Match[str]) -> bool:
    return True


# (kind, one of these must occur for the pattern to be tried, pattern, check); earlier kinds win overlaps.
_PATTERNS: tuple[tuple[str, tuple[str, ...], re.Pattern[str], Callable[[re.Match[str]], bool]], ...] = (
    (
        "key",
        ("-----BEGIN",),
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]{40,8000}?-----END [A-Z ]*PRIVATE KEY-----"),
        _always,
    ),
    (
        "key",
        ("AKIA", "ASIA", "ghp_", "gho_", "ghs_", "github_pat_", "xox", "sk-", "AIza", "hf_", "eyJ", "glpat-"),
        re.compile(
            r"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pos]_[A-Za-z0-9]{36}|github_pat_\w{60,90}|xox[abprs]-[\w-]{10,80}"
            r"|sk-(?:[a-z]+-)?[A-Za-z0-9_-]{20,160}|AIza[\w-]{35}|hf_[A-Za-z0-9]{30,40}|glpat-[\w-]{20}"
            r"|eyJ[\w-]{10,2000}\.eyJ[\w-]{10,4000}\.[\w-]{10,1000})(?![\w-])"
        ),
        _always,
    ),
    ("iban", (), re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"), _iban),
    (
        "card",
        (),
        re.compile(r"(?<![\d.,-])(?:\d{4}[ -]){3}\d{1,7}(?![\d-])|(?<![\d.,\w])\d{13,19}(?![\d\w])"),
        _luhn,
    ),
    ("ip", (".",), re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)"), _public_address),
    (
        "ip",
        (":",),
        re.compile(r"(?<![\w:.])(?:[0-9a-fA-F]{1,4}:{1,2}){3,7}[0-9a-fA-F]{1,4}(?![\w:])"),
        _public_address,
    ),
    (
        "phone",
        (),
        re.compile(
            r"(?<![\w.+-])\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]?\d{2,4}){2,4}(?![\w-])"
            r"|(?<![\w.+(-])\(\d{3}\) ?\d{3}[ .-]\d{4}(?![\w-])|(?<![\w.+-])\d{3}[.-]\d{3}[.-]\d{4}(?![\w-])"
        ),
        _phone,
    ),
)
KINDS = ("email", "phone", "ip", "card", "iban", "key")


_EMAIL = re.compile(r"[\w.+%-]{1,64}@(?:[A-Za-z0-9][A-Za-z0-9-]{0,62}\.){1,8}[A-Za-z]{2,24}\b")
# Patterns that start anywhere are slow on long texts; each is tried only round what its anchor finds.
_ANCHORS = {
    "iban": re.compile(r"[A-Z]{2}\d{2}[ A-Z0-9]{11,}"),
    "card": re.compile(r"\d[\d -]{11,}\d"),
    "ip": re.compile(r"\d\.\d{1,3}\.\d{1,3}\.\d|:[0-9a-fA-F]{1,4}:[0-9a-fA-F]{1,4}:"),
    "phone": re.compile(r"\d[\d .()-]{6,}\d"),
}
_MARGIN = 48


def _matches(kind: str, pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    anchor = _ANCHORS.get(kind)
    if anchor is None:
        yield from pattern.finditer(text)
        return
    done = 0
    for place in anchor.finditer(text):
        start = max(done, place.start() - _MARGIN)
        for match in pattern.finditer(text, start, min(len(text), place.end() + _MARGIN)):
            done = match.end()
            yield match


def _emails(text: str) -> Iterator[re.Match[str]]:
    at = text.find("@")
    while at >= 0:
        done = at
        for match in _EMAIL.finditer(text, max(0, at - 65), min(len(text), at + 260)):
            if match.start() < at < match.end():
                done = match.end() - 1
                yield match
        at = text.find("@", done + 1)


def find(text: str) -> list[Finding]:
    """All finds of one text, in order, none overlapping another."""
    found: list[Finding] = []

    def take(kind: str, matches: Iterator[re.Match[str]], check: Callable[[re.Match[str]], bool]) -> None:
        for match in matches:
            start, end = match.span()
            if check(match) and not any(start < f.end and f.start < end for f in found):
                found.append(Finding(kind=kind, start=start, end=end))

    for kind, needs, pattern, check in _PATTERNS:
        if not needs or any(need in text for need in needs):
            take(kind, _matches(kind, pattern, text), check)
    take("email", _emails(text), _email)
    return sorted(found, key=lambda f: f.start)


_DIGIT, _DOT, _BETWEEN, _CAPITAL, _COLON, _AT = (1 << i for i in range(6))
# Characters from the first foreign digit on count as digits: too much is looked at rather than too little.
_FOREIGN = 0x0660
_KINDS_OF = np.zeros(_FOREIGN + 1, np.uint8)
for _kind, _characters in (
    (_DIGIT, "0123456789" + chr(_FOREIGN)),
    (_DOT, "."),
    (_BETWEEN, " ()-"),
    (_CAPITAL, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    (_COLON, ":"),
    (_AT, "@"),
):
    _KINDS_OF[[ord(c) for c in _characters]] = _kind


def suspicious(words: Words, texts: Sequence[str]) -> Bool:
    """(documents,) False where `find` certainly finds nothing; told for a whole batch at once.

    What every pattern needs (an at sign, six digits with only separators between them, three dots between
    four digits, two capitals before two digits, three colons close together, the beginning of a key)
    is looked for with a few passes over the array of characters.
    """
    kinds = _KINDS_OF[words.codes if words.codes.dtype == np.uint8 else np.minimum(words.codes, _FOREIGN)]
    digit = kinds & _DIGIT > 0
    capital = kinds & _CAPITAL > 0
    pairs = np.flatnonzero(capital[:-3] & capital[1:-2] & digit[2:-1] & digit[3:])
    colons = np.flatnonzero(kinds & _COLON)
    near = colons[:-2][colons[2:] - colons[:-2] <= 10]
    places = [np.flatnonzero(kinds & _AT), pairs, near]
    marks = np.zeros(words.documents + 1, np.int64)
    for at in places:
        np.add.at(marks, np.searchsorted(words.characters, at, "right") - 1, 1)
    found = marks[:-1] > 0
    before = np.concatenate([[0], np.cumsum(digit, dtype=np.int64)])
    for run, digits, others in ((_DIGIT | _DOT | _BETWEEN, 6, 0), (_DIGIT | _DOT, 4, 3)):
        starts, ends = _runs(kinds & run > 0)
        inside = before[ends] - before[starts]
        rich = (inside >= digits) & (ends - starts - inside >= others)
        # A run may go on from one document to the next ones.
        first = np.searchsorted(words.characters, starts[rich], "right") - 1
        last = np.searchsorted(words.characters, ends[rich] - 1, "right") - 1
        spread = np.zeros(words.documents + 1, np.int64)
        np.add.at(spread, first, 1)
        np.add.at(spread, last + 1, -1)
        found |= np.cumsum(spread[:-1]) > 0
    whole = "\n".join(texts)
    keys = [key for kind, needs, _, _ in _PATTERNS if kind == "key" for key in needs if key in whole]
    if keys:
        found |= np.array([any(key in text for key in keys) for text in texts], np.bool_)
    return found


def _runs(mask: Bool) -> tuple[I64, I64]:
    """(starts, ends) of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return edges[::2], edges[1::2]


def mask(text: str) -> tuple[str, dict[str, int]]:
    """The text with every find replaced by its kind in angle brackets, and how many there were of each."""
    found = find(text)
    counts: dict[str, int] = {}
    parts, last = [], 0
    for finding in found:
        counts[finding.kind] = counts.get(finding.kind, 0) + 1
        parts += [text[last : finding.start], f"<{finding.kind}>"]
        last = finding.end
    return ("".join([*parts, text[last:]]), counts) if found else (text, counts)


def mask_all(texts: Sequence[str]) -> tuple[list[str], dict[str, int]]:
    """`mask` of many texts, with the counts added up."""
    masked, total = [], dict.fromkeys(KINDS, 0)
    for text in texts:
        clean, counts = mask(text)
        masked.append(clean)
        for kind, count in counts.items():
            total[kind] += count
    return masked, {kind: count for kind, count in total.items() if count}
