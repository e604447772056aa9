"""Skills that a program grades exactly: Skill-Mix offline, and the truth to hold a judge against.

Each skill is a form that a text has or has not, defined so that the definition *is* the program. What a
program cannot see stays outside: "makes sense" is here only that the text is well formed, and a text that
has every form may still be nonsense. So these scores measure composition under rules, not the paper's
skills; what they add is that here a judge's points can be counted right or wrong.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from random import Random

from hornbook.errors import HornbookError
from hornbook.evals.skill_mix.protocol import Combination, Grade, Piece, count_sentences, settle
from hornbook.evals.skill_mix.skills import Skill
from hornbook.lm.base import Request
from hornbook.lm.simulated import SimulatedModel


@dataclass(frozen=True, kw_only=True)
class Checkable:
    """A skill, the program that sees it, and clauses that show it (for a student that is a program).

    clause: may hold {a}, {b} and {c}, different nouns of the topic.
    """

    skill: Skill
    shows: Callable[[str], bool]
    clauses: tuple[str, ...]


def words(text: str) -> list[str]:
    """The words and numbers of a text in lower case."""
    return re.findall(r"[a-z0-9]+(?:'[a-z]+)?", text.lower())


def parts(text: str) -> list[list[str]]:
    """The words between marks (comma, semicolon, colon and sentence ends)."""
    return [found for part in re.split(r"[,;:.!?]+", text) if (found := words(part))]


def pattern(expression: str) -> Callable[[str], bool]:
    """A check that the expression occurs, whatever the case; P, Q and R are written as groups."""
    compiled = re.compile(expression, re.I)
    return lambda text: compiled.search(" ".join(text.split())) is not None


def _begin_alike(text: str) -> bool:
    rows = parts(text)
    return any(len(a) > 1 and a[:2] == b[:2] == c[:2] for a, b, c in zip(rows, rows[1:], rows[2:]))


def _end_alike(text: str) -> bool:
    rows = parts(text)
    return any(len(a) > 1 and a[-1] == b[-1] == c[-1] for a, b, c in zip(rows, rows[1:], rows[2:]))


def _takes_up(text: str) -> bool:
    rows = parts(text)
    return any(len(a) > 1 and len(b) > 2 and a[-1] == b[0] for a, b in pairwise(rows))


def _turned_around(text: str) -> bool:
    rows = parts(text)
    for first, second in pairwise(rows):
        threes = {tuple(first[i : i + 3]) for i in range(len(first) - 2)}
        for i in range(len(second) - 2):
            x, middle, y = second[i : i + 3]
            if x != y and (y, middle, x) in threes:
                return True
    return False


def _same_letter(text: str) -> bool:
    return any(
        a[0].isalpha() and a[0] == b[0] == c[0] and len({a, b, c}) == 3
        for row in parts(text)
        for a, b, c in zip(row, row[1:], row[2:])
    )


def _palindrome(text: str) -> bool:
    return any(len(w) > 4 and w.isalpha() and w == w[::-1] and len(set(w)) > 1 for w in words(text))


def _many_ands(text: str) -> bool:
    return any(words(part).count("and") > 2 for part in re.split(r"[;.!?]+", text))


def _sums(text: str) -> bool:
    found = re.findall(r"\b(\d{1,9}) \+ (\d{1,9}) = (\d{1,10})\b", text)
    return bool(found) and all(int(a) + int(b) == int(c) for a, b, c in found)


def _countdown(text: str) -> bool:
    runs = re.findall(r"\b\d{1,9}(?:, \d{1,9}){2,}\b", text)
    numbers = [[int(n) for n in run.split(", ")] for run in runs]
    return any(a == b + 1 == c + 2 for row in numbers for a, b, c in zip(row, row[1:], row[2:]))


def _hours(text: str) -> bool:
    found = re.findall(r"\b(\d{1,6}) hours?,? or (\d{1,8}) minutes\b", text, re.I)
    return bool(found) and all(60 * int(hours) == int(minutes) for hours, minutes in found)


def _rhyme(text: str) -> bool:
    ends = [row[-1] for row in parts(text)]
    return any(a != b and min(len(a), len(b)) > 3 and a[-3:] == b[-3:] for a, b in pairwise(ends))


_P, _Q, _R = (rf"(?P<{name}>[^;.,]{{2,60}}?)" for name in "pqr")


def _made(
    name: str, category: str, definition: str, example: str, shows: Callable[[str], bool], *clauses: str
) -> Checkable:
    skill = Skill(name=name, category=category, definition=definition, example=example)
    return Checkable(skill=skill, shows=shows, clauses=clauses)


_ALL = (
    _made(
        "simile",
        "literary",
        'A comparison of the form "as ... as a ...".',
        "The road was as straight as a ruler.",
        pattern(r"\bas \w+ as (?:an?|the) \w+"),
        "the {a} was as still as a {b}",
        "each {a} is as old as the {b}",
    ),
    _made(
        "anaphora",
        "rhetorical",
        "Three clauses in a row, parted by commas, that begin with the same two words.",
        "We came early, we came hungry, we came back.",
        _begin_alike,
        "she saw the {a}, she saw the {b}, she saw the {c}",
    ),
    _made(
        "epistrophe",
        "rhetorical",
        "Three clauses in a row, parted by commas, that end with the same word.",
        "He sold the cow, I fed the cow, they miss the cow.",
        _end_alike,
        "he wanted the {a}, they sold the {a}, we kept the {a}",
    ),
    _made(
        "anadiplosis",
        "rhetorical",
        "A clause of three words or more begins with the last word of the clause before the comma.",
        "He gave us time, time we had not asked for.",
        _takes_up,
        "they came for one {a}, {a} that nobody else had",
    ),
    _made(
        "chiasmus",
        "rhetorical",
        "Three words x m y in one clause, and y m x in the clause after the comma.",
        "It is work before rest, never rest before work.",
        _turned_around,
        "it was {a} before {b}, never {b} before {a}",
    ),
    _made(
        "epizeuxis",
        "rhetorical",
        "A word said twice with only a comma or nothing between.",
        "It was a long, long way.",
        pattern(r"\b(\w+),? \1\b"),
        "it was a long, long way to the {a}",
    ),
    _made(
        "polysyndeton",
        "rhetorical",
        'The word "and" three times or more between two marks (semicolon or sentence end).',
        "There was bread and salt and milk and honey.",
        _many_ands,
        "there was {a} and {b} and {c} and nothing more",
    ),
    _made(
        "tricolon",
        "rhetorical",
        'A list of the form "the x, the y and the z".',
        "He counted the cups, the plates and the spoons.",
        pattern(r"\bthe \w+, the \w+,? and the \w+"),
        "he counted the {a}, the {b} and the {c}",
    ),
    _made(
        "antithesis",
        "rhetorical",
        'A phrase of the form "not ... but ...", with at most four words after "not".',
        "It is not the hand but the eye that errs.",
        pattern(r"\bnot \w+(?: \w+){0,3},? but \w+"),
        "it was not the {a} but the {b} that failed",
    ),
    _made(
        "litotes",
        "rhetorical",
        'The word "not" before a word that begins with "un".',
        "The walk was not unpleasant.",
        pattern(r"\bnot un\w{3,}"),
        "the {a} was not unusual",
    ),
    _made(
        "alliteration",
        "literary",
        "Three different words in a row, without a mark between, that begin with the same letter.",
        "Seven silent swans passed.",
        _same_letter,
        "seven silent strangers watched the {a}",
        "big brown boxes hid the {a}",
    ),
    _made(
        "palindrome",
        "literary",
        "A word of five letters or more that reads the same backwards.",
        "The table stood level.",
        _palindrome,
        "the {a} stayed level",
        "they sent the {a} by kayak",
    ),
    _made(
        "rhyme",
        "literary",
        "Two clauses in a row end with different words, of four letters or more, that share the last three.",
        "We met at night, far from the light.",
        _rhyme,
        "the {a} came by night, without any light",
    ),
    _made(
        "modus ponens",
        "logical",
        '"If P, then Q; P, so Q", with P and Q in the same words.',
        "If it rains, then we stay; it rains, so we stay.",
        pattern(rf"\bif {_P}, then {_Q}[;.] (?P=p), so (?P=q)\b"),
        "if the {a} is wet, then the {b} is slow; the {a} is wet, so the {b} is slow",
    ),
    _made(
        "modus tollens",
        "logical",
        '"If P is X, then Q is Y; Q is not Y, so P is not X".',
        "If the tea is hot, then the cup is warm; the cup is not warm, so the tea is not hot.",
        pattern(
            rf"\bif {_P} is (\w+), then {_Q} is (\w+)[;.] (?P=q) is not (\4), so (?P=p) is not (\2)\b",
        ),
        "if the {a} is new, then the {b} is clean; the {b} is not clean, so the {a} is not new",
    ),
    _made(
        "hypothetical syllogism",
        "logical",
        '"If P, then Q; if Q, then R; so if P, then R".',
        "If he calls, then she wakes; if she wakes, then we leave; so if he calls, then we leave.",
        pattern(rf"\bif {_P}, then {_Q}[;.] if (?P=q), then {_R}[;.] so if (?P=p), then (?P=r)\b"),
        "if the {a} goes, then the {b} goes; if the {b} goes, then we stop; so if the {a} goes, then we stop",
    ),
    _made(
        "disjunctive syllogism",
        "logical",
        '"Either P or Q; it is not P, so it is Q".',
        "It is either the cat or the wind; it is not the cat, so it is the wind.",
        pattern(rf"\beither {_P} or {_Q}[;.] it is not (?P=p), so it is (?P=q)\b"),
        "it is either the {a} or the {b}; it is not the {a}, so it is the {b}",
    ),
    _made(
        "transitive inference",
        "logical",
        '"X is more than Y, Y is more than Z, so X is more than Z", with a comparative in -er.',
        "Ann is older than Ben, Ben is older than Cy, so Ann is older than Cy.",
        pattern(rf"\b{_P} is (\w+er) than {_Q}, (?P=q) is \2 than {_R}, so (?P=p) is \2 than (?P=r)\b"),
        "the {a} is older than the {b}, the {b} is older than the {c}, so the {a} is older than the {c}",
    ),
    _made(
        "categorical syllogism",
        "logical",
        '"All Xs are Y, this is an X, so this is Y".',
        "All ravens are black, this is a raven, so this is black.",
        pattern(r"\ball (\w+)s are (\w+), (?:and )?this is an? \1, so this is \2\b"),
        "all {a}s are costly, this is a {a}, so this is costly",
    ),
    _made(
        "counterfactual reasoning",
        "reasoning",
        '"If ... had ..., ... would have ...".',
        "If we had known, we would have waited.",
        pattern(r"\bif [^;.,]+ had \w+[^;.,]*, [^;.,]+ would have \w+"),
        "if the {a} had moved, the {b} would have fallen",
    ),
    _made(
        "addition",
        "reasoning",
        "An equation of the form a + b = c in digits, and every such equation right.",
        "They had 3 + 4 = 7 chairs.",
        _sums,
        "they had 3 + 4 = 7 {a}s",
        "someone noted 12 + 9 = 21 beside the {a}",
    ),
    _made(
        "countdown",
        "reasoning",
        "Three whole numbers in a row, parted by commas, each one less than the one before.",
        "They called 3, 2, 1 and ran.",
        _countdown,
        "someone called 3, 2, 1 behind the {a}",
    ),
    _made(
        "unit conversion",
        "physical knowledge",
        'A time of the form "x hours or y minutes", and every such pair equal.',
        "It took 2 hours or 120 minutes.",
        _hours,
        "the {a} took 2 hours or 120 minutes",
        "the {a} needs 3 hours or 180 minutes",
    ),
    _made(
        "parenthesis",
        "literary",
        "An aside of two words or more in round brackets.",
        "The door (it was never locked) stood open.",
        pattern(r"\(\w+ [^()]+\)"),
        "the {a} (much older than the {b}) held",
    ),
)

CHECKABLE = {item.skill.name: item for item in _ALL}
"""The skills by name."""

TOPIC_WORDS = {
    "beekeeping": ("hive", "smoker", "keeper", "swarm", "frame", "veil"),
    "sailing": ("sail", "mast", "rope", "anchor", "deck", "harbor"),
    "baking": ("oven", "roll", "baker", "tray", "crust", "cake"),
    "gardening": ("garden", "spade", "seed", "hedge", "root", "pot"),
    "railways": ("train", "track", "tunnel", "signal", "driver", "platform"),
    "astronomy": ("telescope", "comet", "planet", "mirror", "star", "dome"),
    "carpentry": ("plank", "chisel", "hammer", "nail", "bench", "carpenter"),
    "weaving": ("loom", "thread", "shuttle", "weaver", "carpet", "fringe"),
    "mountaineering": ("summit", "glacier", "climber", "ledge", "tent", "ridge"),
    "printing": ("printer", "page", "letter", "roller", "poster", "margin"),
    "pottery": ("kiln", "bowl", "potter", "glaze", "wheel", "jug"),
    "music": ("violin", "trumpet", "singer", "drum", "chord", "concert"),
}
"""Topics with the nouns that make a text be about them: two different ones, also in the plural with s."""


def about(text: str, topic: str) -> bool:
    """Whether the text has two different nouns of the topic."""
    found = set(words(text))
    return sum(noun in found or f"{noun}s" in found for noun in _nouns(topic)) > 1


def well_formed(text: str) -> bool:
    """Begins with a capital, a digit or a quote, ends with . ! or ?; brackets and quotes in pairs; no word
    three times running; no sentence twice. All that a program says of "makes sense"."""
    plain = " ".join(text.split())
    if not re.match(r"[\"'“(]*[A-Z0-9]", plain) or not re.search(r"[.!?][\"'”)]*$", plain):
        return False
    row = words(plain)
    sentences = [" ".join(words(part)) for part in re.split(r"[.!?]+(?:\s|$)", plain) if words(part)]
    return (
        plain.count("(") == plain.count(")")
        and plain.count('"') % 2 == 0
        and not any(a == b == c for a, b, c in zip(row, row[1:], row[2:]))
        and len(set(sentences)) == len(sentences)
    )


def _nouns(topic: str) -> tuple[str, ...]:
    if topic not in TOPIC_WORDS:
        raise HornbookError(
            f"No program checks the topic {topic!r}; accepted are {', '.join(sorted(TOPIC_WORDS))}."
        )
    return TOPIC_WORDS[topic]


def _checkable(name: str) -> Checkable:
    if name not in CHECKABLE:
        raise HornbookError(
            f"No program checks the skill {name!r}; accepted are {', '.join(sorted(CHECKABLE))}."
        )
    return CHECKABLE[name]


def exact_points(text: str, skills: Sequence[str], topic: str, limit: int) -> tuple[int, ...]:
    """The k + 3 points of a text.

    Raises:
        HornbookError: a skill or topic that no program checks.
    """
    return (
        *(int(_checkable(name).shows(text)) for name in skills),
        int(about(text, topic)),
        int(well_formed(text)),
        int(bool(text.strip()) and count_sentences(text) <= limit),
    )


def exact_grade(piece: Piece, *, deduct_names: bool = True) -> Grade:
    """The true grade of a piece whose skills and topic are checkable; a piece never written has none."""
    task = piece.task
    if piece.text is None:
        return Grade(piece=piece, points=None)
    points = exact_points(piece.text, [skill.name for skill in task.skills], task.topic, task.limit)
    return settle(piece, [points], deduct_names=deduct_names)


def compose(task: Combination, rng: Random, *, success: float = 1.0) -> str:
    """A text in one sentence that shows each skill with probability `success`, by itself."""
    nouns = _nouns(task.topic)
    a, b = rng.sample(nouns, 2)
    clauses = [f"the {a} stood beside the {b}"]
    for skill in task.skills:
        if rng.random() < success:
            x, y, z = rng.sample(nouns, 3)
            clauses.append(rng.choice(_checkable(skill.name).clauses).format(a=x, b=y, c=z))
    text = "; ".join(clauses)
    return text[0].upper() + text[1:] + "."


def mechanical_student(*, success: float, seed: int = 0) -> SimulatedModel:
    """A student that reads the prompt and shows each skill with probability `success`: a model whose true
    full marks at k are success**k for each piece."""

    def answer(request: Request) -> str:
        prompt = next(m.content for m in request.messages or () if m.role == "user")
        topic, names = _asked(prompt)
        skills = tuple(_checkable(name).skill for name in names)
        rng = Random(f"{seed}:{topic}:{names}:{request.sample_index}")
        task = Combination(id="", skills=skills, topic=topic)
        return f"Answer: {compose(task, rng, success=success)}\n\nExplanation: one clause for each."

    return SimulatedModel(f"skill-mix student {success} {seed}", answer)


def mechanical_judge(
    *, sensitivity: float, specificity: float, unreadable: float = 0.0, seed: int = 0
) -> SimulatedModel:
    """A judge of known error: the exact points, each seen with `sensitivity` and denied with `specificity`,
    every round anew; with probability `unreadable` no table at all."""

    def answer(request: Request) -> str:
        prompt = next(m.content for m in request.messages or () if m.role == "user")
        rng = Random(f"{seed}:{prompt}:{request.sample_index}")
        if rng.random() < unreadable:
            return "I would rather talk about something else."
        text = prompt.split("<<<\n", 1)[1].rsplit("\n>>>", 1)[0]
        found = re.search(r"in the context of (.+?) that shows all of these skills: (.+?)\.\n", prompt)
        assert found is not None
        names = found.group(2).split(", ")
        points = exact_points(text, names, found.group(1), max(1, len(names) - 1))
        seen = [int(rng.random() < (sensitivity if point else 1 - specificity)) for point in points]
        rows = "\n".join(f"| {i + 1} | {point} |" for i, point in enumerate(seen))
        return f"| Criteria | Points Earned |\n| --- | --- |\n{rows}\n| Total | {sum(seen)} |"

    return SimulatedModel(f"skill-mix judge {sensitivity} {specificity} {unreadable} {seed}", answer)


def _asked(prompt: str) -> tuple[str, list[str]]:
    found = re.search(r"in the context of (.+?) that shows all of these skills:", prompt)
    assert found is not None
    return found.group(1), re.findall(r"^- \*\*(.+?)\*\*:", prompt, re.M)
