"""The skills and topics of Skill-Mix: our own list, lists of your own, and a private split (2310.17567).

The paper keeps nine tenths of its skills and topics to itself, lest models be trained on the test. Ours are
in the open, so the salt is what is kept: who does not know it does not know which tenth is public.
"""

import csv
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hornbook.errors import HornbookError

CATEGORIES = ("literary", "rhetorical", "logical", "reasoning", "theory of mind", "physical knowledge")


@dataclass(frozen=True, kw_only=True)
class Skill:
    """A skill as model and judge are told of it."""

    name: str
    category: str
    definition: str
    example: str


def our_skills() -> tuple[Skill, ...]:
    """The list that comes with Hornbook, in the paper's six categories."""
    return parse_skills(Path(__file__).with_name("skill_list.txt").read_text(encoding="utf-8"))


def parse_skills(text: str) -> tuple[Skill, ...]:
    """Skills of a text with `[category]` lines and blocks of three lines: name, definition, example.

    Raises:
        HornbookError: a block that is not three lines, one before any category, or a name that occurs twice.
    """
    skills, category = list[Skill](), ""
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    for block in "\n".join(lines).split("\n\n"):
        rows = [line.strip() for line in block.splitlines() if line.strip()]
        if len(rows) == 1 and rows[0].startswith("[") and rows[0].endswith("]"):
            category = rows[0][1:-1]
        elif rows:
            if len(rows) != 3 or not category:
                raise HornbookError(
                    f"The skill list has a block that begins {rows[0]!r} with {len(rows)} lines in category "
                    f"{category!r}; accepted is a [category] line and below it blocks of name, definition "
                    "and example."
                )
            skills.append(Skill(name=rows[0], category=category, definition=rows[1], example=rows[2]))
    return _distinct(skills, "The skill list")


def read_skills(path: Path) -> tuple[Skill, ...]:
    """Skills of a CSV file with the columns category, skill, definition, example and perhaps status.

    Rows without a skill, and those whose status is remove, in review or maybe, are left out.

    Raises:
        HornbookError: the file is missing, lacks a column, or names a skill twice.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise HornbookError(f"The skills {path} cannot be read: {error.strerror}.") from None
    missing = {"category", "skill", "definition", "example"} - set(rows[0] if rows else ())
    if missing:
        raise HornbookError(f"The skills {path} lack the columns {', '.join(sorted(missing))}.")
    return _distinct(
        [
            Skill(
                name=(row["skill"] or "").strip(),
                category=(row["category"] or "").strip(),
                definition=(row["definition"] or "").strip(),
                example=(row["example"] or "").strip(),
            )
            for row in rows
            if (row["skill"] or "").strip()
            and (row.get("status") or "").strip().lower() not in ("remove", "in review", "maybe")
        ],
        f"The file {path}",
    )


def _distinct(skills: Sequence[Skill], where: str) -> tuple[Skill, ...]:
    names = [skill.name.lower() for skill in skills]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise HornbookError(f"{where} {'names twice: ' + ', '.join(twice) if twice else 'holds no skill'}.")
    return tuple(skills)


def private_split(names: Iterable[str], *, salt: str, public: float = 0.1) -> tuple[list[str], list[str]]:
    """(public, withheld) names: which are public nobody can tell without the salt.

    The names with the smallest SHA-256 of salt and name are public. A name that is added moves at most one
    other, so a list may grow without giving the withheld ones away.

    Args:
        salt: secret; at least 8 characters.
        public: share that is public, in [0, 1]; rounded to whole names.

    Raises:
        HornbookError: a salt that is too short or a share outside [0, 1].
    """
    if len(salt) < 8:
        raise HornbookError("private_split: the salt has fewer than 8 characters; give a longer secret.")
    if not 0 <= public <= 1:
        raise HornbookError(f"private_split: public is {public}; accepted is a share in [0, 1].")
    order = sorted(set(names), key=lambda name: hashlib.sha256(f"{salt}\0{name}".encode()).digest())
    count = round(public * len(order))
    return sorted(order[:count]), sorted(order[count:])


_TOPICS = """
    bookbinding, falconry, glassblowing, lighthouse keeping, bell ringing, beekeeping, canal locks, fencing,
    chimney sweeping, tide pools, clock repair, ropemaking, mushroom foraging, ice skating, puppet theatres,
    letterpress printing, sheep shearing, cheese caves, sundials, windmills, basket weaving, origami, kites,
    tightrope walking, harbour pilots, paper marbling, stone walls, saddlery, bonsai, cave diving, map making,
    stained glass, ferry timetables, coopers, saffron harvests, hot-air balloons, locksmiths, tapestries,
    snowshoeing, organ tuning, salt pans, pottery kilns, rowing regattas, perfumery, night markets,
    telegraph offices, thatched roofs, quilting, avalanche rescue, fountain pens, maypole dancing, quarries,
    whale watching, tea ceremonies, blacksmithing, hedge mazes, carousels, oyster beds, archery, juggling,
    wool dyeing, lichen, shipwrecks, street organs, peat bogs, darts tournaments, signal flags, orchards,
    mountain huts, wax candles, violin making, pigeon racing, rice terraces, ventriloquism, tin mining,
    calligraphy, dry docks, curling, herb gardens, tram depots, felt hats, meteorites, log driving, fossils,
    stilt walking, sugar maples, parade floats, lock gates, crossword setting, bobsleigh, hop gardens,
    dowsing, marionettes, mosaics, pumice, sled dogs, camel caravans, crystal radios, wicker boats, lacework
"""
TOPICS = tuple(" ".join(topic.split()) for topic in _TOPICS.split(","))
"""A hundred topics that are rare in running text, as the paper's are."""
