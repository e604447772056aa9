"""Skills found in a set of questions of mathematics: name each, cluster the names, name again (2405.12205).

A language model gives every question a fine name, puts the names into clusters, and then picks one cluster
for every question. What comes out is a repository of exemplars by skill, from which MATH^2 draws its pairs.
"""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hornbook.errors import HornbookError
from hornbook.lm.base import Advances, Completion, LanguageModel, Request, Sampling, ask

VERSION = "math-skills-1"
SAMPLING = Sampling(temperature=0.0, max_tokens=400)
LEAST = 5
"""Questions that a skill needs to be kept."""
_BATCH = 80

LABEL = """\
Below is a question of mathematics. Which one skill does it take above all to solve it? Name the skill
precisely, in lower_case_with_underscores, and say in one sentence why.

<<<
{question}
>>>
"""
CLUSTER = """\
These are names of mathematical skills, one a line. Put names that mean the same skill, or skills of one
narrow kind, into one cluster, and give every cluster a name in lower_case_with_underscores. Every name goes
into exactly one cluster; a name that fits nowhere is a cluster of its own.

<<<
{names}
>>>
"""
PICK = """\
Here is a list of mathematical skills, one a line:

{skills}

Which one of them does this question take above all? Answer with a name of the list, and say why.

<<<
{question}
>>>
"""
AGAIN = "\nYour last answer was {name!r}, which is not in the list. Copy a name of the list.\n"

_NAMED = {
    "type": "object",
    "properties": {"skill": {"type": "string"}, "reason": {"type": "string"}},
    "required": ["skill", "reason"],
}
_CLUSTERS = {
    "type": "object",
    "properties": {
        "clusters": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "members": {"type": "array", "items": {"type": "string"}},
                },
                "required": ["name", "members"],
            },
        }
    },
    "required": ["clusters"],
}


@dataclass(frozen=True, kw_only=True)
class Exemplar:
    """A question with its answer, and the solution where one is known."""

    question: str
    answer: str
    solution: str = ""


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """What was found.

    fine, coarse: of every question the first name and the cluster it was put into at last; None where no
        answer could be read.
    clusters: cluster of every fine name.
    repository: questions by cluster, those with fewer than `least` left out.
    dropped: clusters that were too small. nearest: answers that were not in the list, even when asked
        again, and became the nearest name of it.
    """

    fine: tuple[str | None, ...]
    coarse: tuple[str | None, ...]
    clusters: Mapping[str, str]
    repository: Mapping[str, tuple[Exemplar, ...]]
    dropped: tuple[str, ...]
    nearest: int


def extract(
    model: LanguageModel,
    questions: Sequence[Exemplar],
    *,
    least: int = LEAST,
    batch: int = _BATCH,
    salt: str = "",
    progress: Advances | None = None,
) -> Extraction:
    """The three stages on a set of questions.

    Args:
        least: questions that a skill needs to be kept.
        batch: names in one request for clusters; the clusters of several requests are clustered once more.
        salt: separates repetitions, for the stability of labels.

    Raises:
        HornbookError: no question was labelled at all.
    """
    texts = [exemplar.question for exemplar in questions]
    fine = label(model, texts, salt=salt, progress=progress)
    names = sorted({name for name in fine if name is not None})
    if not names:
        raise HornbookError(f"{model.identity} named the skill of none of {len(texts)} questions.")
    clusters = cluster(model, names, batch=batch, salt=salt)
    coarse, nearest = relabel(model, texts, sorted(set(clusters.values())), salt=salt, progress=progress)
    groups: dict[str, list[Exemplar]] = {}
    for exemplar, name in zip(questions, coarse, strict=True):
        if name is not None:
            groups.setdefault(name, []).append(exemplar)
    return Extraction(
        fine=tuple(fine),
        coarse=tuple(coarse),
        clusters=clusters,
        repository={name: tuple(group) for name, group in sorted(groups.items()) if len(group) >= least},
        dropped=tuple(sorted(name for name, group in groups.items() if len(group) < least)),
        nearest=nearest,
    )


def label(
    model: LanguageModel, texts: Sequence[str], *, salt: str = "", progress: Advances | None = None
) -> list[str | None]:
    """Stage 1: a fine name for every question; None where the answer could not be read."""
    requests = [_asked(LABEL.format(question=text), _NAMED, salt) for text in texts]
    return [_skill_of(result) for result in model.complete(requests, progress=progress)]


def cluster(
    model: LanguageModel, names: Sequence[str], *, batch: int = _BATCH, salt: str = ""
) -> dict[str, str]:
    """Stage 2: {fine name: cluster}; every name is in exactly one.

    A name that the answer puts into two clusters stays in the first; one that it leaves out, or all of a
    request whose answer could not be read, are clusters of their own.
    """
    if batch < 2:
        raise HornbookError(f"cluster: batch is {batch}; accepted is a count of at least 2 names.")
    parts = [names[i : i + batch] for i in range(0, len(names), batch)]
    requests = [_asked(CLUSTER.format(names="\n".join(part)), _CLUSTERS, salt) for part in parts]
    found: dict[str, str] = {}
    for part, result in zip(parts, model.complete(requests), strict=True):
        found |= _clusters_of(result, part)
    heads = sorted(set(found.values()))
    if len(parts) > 1 and len(heads) < len(names):  # the second pass; it ends when nothing is joined any more
        merged = cluster(model, heads, batch=batch, salt=salt)
        return {name: merged[head] for name, head in found.items()}
    return found


def relabel(
    model: LanguageModel,
    texts: Sequence[str],
    skills: Sequence[str],
    *,
    salt: str = "",
    progress: Advances | None = None,
) -> tuple[list[str | None], int]:
    """Stage 3: one skill of the list for every question, and how many answers became the nearest name.

    An answer that is not in the list is asked for once more; then the nearest name counts.
    """
    listed = "\n".join(skills)
    prompts = [PICK.format(skills=listed, question=text) for text in texts]
    first = model.complete([_asked(prompt, _NAMED, salt) for prompt in prompts], progress=progress)
    found = [_skill_of(result) for result in first]
    astray = [i for i, name in enumerate(found) if name is not None and name not in skills]
    second = model.complete(
        [_asked(prompts[i] + AGAIN.format(name=found[i]), _NAMED, salt) for i in astray], progress=progress
    )
    nearest = 0
    for i, result in zip(astray, second, strict=True):
        name = _skill_of(result) or found[i]
        assert name is not None
        if name not in skills:
            nearest += 1
            said = name
            name = max(skills, key=lambda skill: _likeness(skill, said))
        found[i] = name
    return found, nearest


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _asked(prompt: str, schema: Mapping[str, object], salt: str) -> Request:
    return ask(prompt, sampling=SAMPLING, schema=schema, salt=f"{VERSION} {salt}", tag="math-squared skills")


def _skill_of(result: object) -> str | None:
    value = result.value if isinstance(result, Completion) else None
    return normal_name(value["skill"]) or None if isinstance(value, Mapping) else None


def normal_name(name: str) -> str:
    """A name in lower_case_with_underscores."""
    return "_".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def _clusters_of(result: object, names: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    value = result.value if isinstance(result, Completion) else None
    for group in value["clusters"] if isinstance(value, Mapping) else ():
        head = normal_name(group["name"])
        for member in map(normal_name, group["members"]):
            if head and member in names:
                found.setdefault(member, head)
    return {name: found.get(name, name) for name in names}


# How good are the clusters?


@dataclass(frozen=True, kw_only=True)
class Clustering:
    """Clusters against known classes (Rosenberg and Hirschberg 2007), unlabelled questions left out.

    purity: the share of questions that belong to the class most common in their cluster.
    """

    homogeneity: float
    completeness: float
    v_measure: float
    purity: float
    clusters: int
    questions: int


def against(found: Sequence[str | None], truth: Sequence[str]) -> Clustering:
    """Labels that were found against those that are known.

    Raises:
        HornbookError: nothing was labelled.
    """
    pairs = [(name, known) for name, known in zip(found, truth, strict=True) if name is not None]
    if not pairs:
        raise HornbookError("No question has a label, so there is nothing to hold against what is known.")
    from sklearn.metrics import homogeneity_completeness_v_measure

    h, c, v = homogeneity_completeness_v_measure([t for _, t in pairs], [f for f, _ in pairs])
    classes: dict[str, Counter[str]] = {}
    for name, known in pairs:
        classes.setdefault(name, Counter())[known] += 1
    pure = sum(max(counts.values()) for counts in classes.values())
    return Clustering(
        homogeneity=float(h),
        completeness=float(c),
        v_measure=float(v),
        purity=pure / len(pairs),
        clusters=len(classes),
        questions=len(pairs),
    )
