"""Seeds from organic text in two stages: pages worth teaching from, then the best passage of each (phi-4,
2.2).

With a teacher both stages are graded by rubric. Without one they are graded by rules that count what
explanation looks like on the surface (sentences, connectives, definitions, numbers); those know nothing of
truth.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hornbook.synth.rubric import PAGE, PASSAGE
from hornbook.synth.safety import unsafe_problem
from hornbook.synth.scripts import Asking, Rejected, Row, Script, Scripted, Work
from hornbook.synth.stories import meta

VERSION = "phi4-seeds-1"
SOURCE = "synth/phi4/seeds"
PAGE_WORDS = 1200
PASSAGE_WORDS = (50, 220)
LEAST_OF_PAGE: Mapping[str, int] = {"educational": 3, "self_contained": 2}
LEAST_OF_PASSAGE: Mapping[str, int] = {"facts": 3, "reasoning": 3}
_MOST_PASSAGES = 8  # graded of a page: the best of its beginning is enough

_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[A-Z])")
_REASONS = re.compile(
    r"\b(?:because|therefore|thus|hence|since|so that|as a result|which means|this means|it follows"
    r"|in order to|if|then|unless|otherwise|although|however|for example|for instance|such as)\b",
    re.I,
)
_MARKED = re.compile(r"^\s*(?:#|>>>|\||//|\* \* )|```|[{};]\s*$", re.M)
_DEFINES = re.compile(r"\b(?:is|are) (?:a|an|the|called|known as|defined)\b|\bmeans\b|\brefers to\b", re.I)


def sentences(text: str) -> list[str]:
    """Sentences of organic prose, roughly."""
    return [part.strip() for part in _SENTENCE.split(" ".join(text.split())) if part.strip()]


def prose(text: str) -> str:
    """The paragraphs of a text that read as prose: two sentences or more, mostly letters, no code or
    tables."""
    kept = []
    for paragraph in re.split(r"\n\s*\n", text):
        if _MARKED.search(paragraph):
            continue
        flat = " ".join(paragraph.split())
        letters = sum(char.isalpha() or char == " " for char in flat)
        if (
            len(flat) >= 80
            and letters >= 0.85 * len(flat)
            and len(sentences(flat)) >= 2
            and flat[-1:] in tuple(".!?")
        ):
            kept.append(flat)
    return "\n\n".join(kept)


def pages(texts: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """(id, prose) of at most `PAGE_WORDS` words each, from (id, text) of documents of any length."""
    for id, text in texts:
        page: list[str] = []
        number = size = 0
        for paragraph in prose(text).split("\n\n"):
            if page and size + paragraph.count(" ") > PAGE_WORDS:
                yield f"{id}#{number}", "\n\n".join(page)
                page, size, number = [], 0, number + 1
            page.append(paragraph)
            size += paragraph.count(" ") + 1
        if size >= PASSAGE_WORDS[0]:
            yield f"{id}#{number}", "\n\n".join(page)


def passages(page: str) -> list[str]:
    """Whole sentences, cut where a passage is long enough; what is too short, or unsafe, is left out."""
    least, most = PASSAGE_WORDS
    found: list[str] = []
    for paragraph in page.split("\n\n"):
        current: list[str] = []
        size = 0
        for sentence in sentences(paragraph):
            count = sentence.count(" ") + 1
            if current and size + count > most:
                found.append(" ".join(current))
                current, size = [], 0
            current.append(sentence)
            size += count
        if size >= least:
            found.append(" ".join(current))
    fit = [text for text in found if least <= text.count(" ") + 1 <= most and not unsafe_problem(text)]
    return fit[:_MOST_PASSAGES]


def rule_grades(text: str) -> dict[str, int]:
    """Grades 1 to 5 by counting: `reasoning` (connectives), `facts` (definitions and numbers), per
    sentence."""
    count = max(1, len(sentences(text)))

    def grade(found: float) -> int:
        return 1 + sum(found / count >= bound for bound in (0.15, 0.35, 0.6, 0.9))

    reasons = len(_REASONS.findall(text))
    facts = len(_DEFINES.findall(text)) + 0.5 * len(re.findall(r"\b\d+(?:\.\d+)?\b", text))
    return {"facts": grade(facts), "reasoning": grade(reasons)}


def _row(
    id: str, passage: str, page: Mapping[str, int], scores: Mapping[str, int], by: str, seed: int
) -> Row:
    facts = {"page": dict(page), "scores": dict(scores), "graded_by": by, "from": id.split("#")[0]}
    return {"id": f"seed-{id}", "text": passage, "source": SOURCE, "meta": meta(VERSION, seed, 0, **facts)}


def best_by_rules(id: str, page: str, *, seed: int = 0) -> tuple[Row | None, str]:
    """The best passage of a page by rules alone, or why there is none."""
    whole = rule_grades(page)
    if sum(whole.values()) < 5:
        return None, "page: explains too little"
    graded = [(rule_grades(passage), passage) for passage in passages(page)]
    graded = [one for one in graded if all(one[0][k] >= v for k, v in LEAST_OF_PASSAGE.items())]
    if not graded:
        return None, "no passage states facts and reasons"
    scores, best = max(graded, key=lambda one: sum(one[0].values()))
    return _row(id, best, whole, scores, "rules", seed), ""


def by_rules(
    pages: Iterable[tuple[str, str]], count: int, *, seed: int = 0
) -> Iterator[tuple[Row | None, str]]:
    """What the rules find on page after page, until they have `count` passages."""
    for id, page in pages:
        found = best_by_rules(id, page, seed=seed)
        yield found
        count -= found[0] is not None
        if not count:
            return


def seed_task(id: str, page: str, *, seed: int = 0, about: str = "all") -> Scripted:
    """The same by a teacher's grades: the page first, its passages only if it is good. about: its cluster."""

    def steps(work: Work) -> Script:
        grades = yield from PAGE.grade(work, page[:6000])
        low = grades.low(LEAST_OF_PAGE)
        if low:
            raise Rejected(f"page: {low}", page)
        best = yield from _best(work, page)
        return _row(id, best[1], grades.scores, best[0], "teacher", seed)

    return Scripted(id=f"seed-{id}", steps=steps, facets={"about": about})


def _best(work: Work, page: str) -> Asking[tuple[Mapping[str, int], str]]:
    graded: list[tuple[Mapping[str, Any], str]] = []
    reason = "no passage of the right length"
    for passage in passages(page):
        grades = yield from PASSAGE.grade(work, passage)
        low = grades.low(LEAST_OF_PASSAGE)
        if low:
            reason = f"passage: {low}"
        else:
            graded.append((grades.scores, passage))
    if not graded:
        raise Rejected(reason, page)
    return max(graded, key=lambda one: one[0]["facts"] + one[0]["reasoning"] - one[0]["obscurity"])
