"""The instructions of IFEval (arXiv 2311.07911) as checks of a text."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from hornbook.curate.language import LANGUAGES, identify
from hornbook.curate.words import split

_ABBREVIATIONS = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|e\.g|i\.e|[A-Z])\.")


def follows(text: str, name: str, arguments: Mapping[str, Any]) -> bool | None:
    """Whether a text follows one instruction; None: no checker for it. Empty text never does."""
    check = _CHECKS.get(name)
    if check is None or (check is _language and arguments.get("language") not in LANGUAGES):
        return None
    if not text.strip():
        return False
    return check(text, {key: value for key, value in arguments.items() if value is not None})


def sentences(text: str) -> int:
    """How many sentences a text has, by its full stops."""
    text = _ABBREVIATIONS.sub(lambda found: found[0].replace(".", ""), text)
    text = re.sub(r"(?<=\d)\.(?=\d)", "", text)
    return sum(bool(re.search(r"\w", part)) for part in re.split(r"[.!?]+[\"')\]]*(?:\s|$)|\n\s*\n", text))


def _compare(count: float, relation: str, wanted: float) -> bool:
    return count < wanted if relation == "less than" else count >= wanted


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def _paragraphs(text: str) -> list[str]:
    """Cut at lines of three asterisks, empty first and last left out."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", text)]
    if parts and not parts[0]:
        parts = parts[1:]
    if parts and not parts[-1]:
        parts = parts[:-1]
    return parts


def _nth_paragraph(text: str, a: Mapping[str, Any]) -> bool:
    parts = [part.strip() for part in text.split("\n\n")]
    full = [part for part in parts if part]
    n = int(a["nth_paragraph"])
    if len(full) != int(a["num_paragraphs"]) or not 0 < n <= len(parts) or not parts[n - 1]:
        return False
    first = re.match(r"[\"']*([^\s.,?!\"']+)", parts[n - 1].split()[0])
    return first is not None and first[1].lower() == str(a["first_word"]).lower()


def _json(text: str, a: Mapping[str, Any]) -> bool:
    inner = text.strip()
    for mark in ("```json", "```Json", "```JSON", "```"):
        inner = inner.removeprefix(mark)
    try:
        json.loads(inner.removesuffix("```").strip())
    except ValueError:
        return False
    return True


def _highlights(text: str, a: Mapping[str, Any]) -> bool:
    single = [found for found in re.findall(r"\*[^\n*]*\*", text) if found.strip("*").strip()]
    double = [found for found in re.findall(r"\*\*[^\n*]*\*\*", text) if found.strip("*").strip()]
    return len(single) + len(double) >= int(a["num_highlights"])


def _postscript(text: str, a: Mapping[str, Any]) -> bool:
    marker = str(a["postscript_marker"])
    pattern = {"P.P.S": r"\s*p\.\s?p\.\s?s", "P.S.": r"\s*p\.\s?s\."}.get(
        marker, r"\s*" + re.escape(marker.lower())
    )
    return bool(re.search(pattern, text.lower()))


def _letters(text: str, a: Mapping[str, Any]) -> bool:
    return _compare(
        text.lower().count(str(a["letter"]).lower()), str(a["let_relation"]), int(a["let_frequency"])
    )


def _keyword(text: str, a: Mapping[str, Any]) -> bool:
    count = len(re.findall(re.escape(str(a["keyword"])), text, re.IGNORECASE))
    return _compare(count, str(a["relation"]), int(a["frequency"]))


def _language(text: str, a: Mapping[str, Any]) -> bool:
    found = identify(split([text]))
    return bool(found.language[0] == str(a["language"]))


def _two_responses(text: str, a: Mapping[str, Any]) -> bool:
    parts = [part.strip() for part in text.split("******")]
    inner = [part for i, part in enumerate(parts) if part or 0 < i < len(parts) - 1]
    return len(inner) == 2 and all(inner) and inner[0] != inner[1]


def _repeats(text: str, a: Mapping[str, Any]) -> bool:
    return text.strip().lower().startswith(str(a["prompt_to_repeat"]).strip().lower())


_ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


_CHECKS: Mapping[str, Callable[[str, Mapping[str, Any]], bool]] = {
    "punctuation:no_comma": lambda text, a: "," not in text,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:title": lambda text, a: any(
        found.strip("<>").strip() for found in re.findall(r"<<[^\n]+>>", text)
    ),
    "detectable_format:number_bullet_lists": lambda text, a: (
        len(re.findall(r"^\s*\*[^\*].*$", text, re.MULTILINE))
        + len(re.findall(r"^\s*-.*$", text, re.MULTILINE))
        == int(a["num_bullets"])
    ),
    "detectable_format:multiple_sections": lambda text, a: (
        len(re.findall(rf"\s?{re.escape(str(a['section_spliter']))}\s?\d+\s?", text))
        >= int(a["num_sections"])
    ),
    "detectable_format:json_format": _json,
    "detectable_format:constrained_response": lambda text, a: any(answer in text for answer in _ANSWERS),
    "detectable_content:number_placeholders": lambda text, a: (
        len(re.findall(r"\[.*?\]", text)) >= int(a["num_placeholders"])
    ),
    "detectable_content:postscript": _postscript,
    "length_constraints:number_words": lambda text, a: _compare(
        len(_words(text)), str(a["relation"]), int(a["num_words"])
    ),
    "length_constraints:number_sentences": lambda text, a: _compare(
        sentences(text), str(a["relation"]), int(a["num_sentences"])
    ),
    "length_constraints:number_paragraphs": lambda text, a: (
        len(_paragraphs(text)) == int(a["num_paragraphs"]) and all(_paragraphs(text))
    ),
    "length_constraints:nth_paragraph_first_word": _nth_paragraph,
    "change_case:english_capital": lambda text, a: text.isupper(),
    "change_case:english_lowercase": lambda text, a: text.islower(),
    "change_case:capital_word_frequency": lambda text, a: _compare(
        sum(word.isupper() for word in re.findall(r"[\w'-]+", text)),
        str(a["capital_relation"]),
        int(a["capital_frequency"]),
    ),
    "startend:quotation": lambda text, a: (
        len(text.strip()) > 1 and text.strip()[0] == '"' and text.strip()[-1] == '"'
    ),
    "startend:end_checker": lambda text, a: (
        text.strip().strip('"').lower().endswith(str(a["end_phrase"]).strip().lower())
    ),
    "combination:repeat_prompt": _repeats,
    "combination:two_responses": _two_responses,
    "keywords:letter_frequency": _letters,
    "keywords:existence": lambda text, a: all(
        re.search(re.escape(word), text, re.IGNORECASE) for word in a["keywords"]
    ),
    "keywords:forbidden_words": lambda text, a: (
        not any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in a["forbidden_words"])
    ),
    "keywords:frequency": _keyword,
    "language:response_language": _language,
}
