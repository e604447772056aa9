"""Writes stories from plans: TinyStories section 2 with a simulated teacher.

The teacher plans a small world, then words it act by act: opening, friend, start, [hint], event, [fight],
trouble, [talk], turn, [twist], good or bad ending, [moral]. Acts in brackets come with a feature.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from hornbook.synth import plots_home, plots_outdoors
from hornbook.synth.phrase import Phrases, sentence_case
from hornbook.synth.world import PLOT_NAMES, StoryPlan, pick_favourite, plan_story, slots

VERSION = "stories-2"
SOURCE = "synth/stories"

_VARY = {
    r"^Then ": "[Then|After that,|A little later,] ",
    r"\. Then ": ". [Then|After that,|A moment later,] ",
    r"\bSuddenly ": "[Suddenly|All at once] ",
    r"\bAt last,": "[At last,|In the end,]",
    r"^Soon ": "[Soon|Before long] ",
    r" began to ": " [began to|started to] ",
    r"\beveryone\b": "[everyone|everybody]",
    r"\bnobody\b": "[nobody|no one]",
    r" gave the ": " [gave|handed] the ",
    r" held the \{o\}": " held the [{o}|{adj} {o}]",
    r"^\{H\} and \{F\} ": "[{H} and {F}|The two friends] ",
}


def _vary(source: str) -> str:
    """Other words for the commonest turns of phrase: without them, 13-grams recur more often."""
    for pattern, choice in _VARY.items():
        source = re.sub(pattern, choice, source)
    return source


PLOTS = {
    name: {act: Phrases(_vary(text) for text in texts) for act, texts in plot.items()}
    for name, plot in {
        "lost": plots_outdoors.LOST,
        "rescue": plots_outdoors.RESCUE,
        "brave": plots_outdoors.BRAVE,
        "warning": plots_outdoors.WARNING,
        "treasure": plots_outdoors.TREASURE,
        "race": plots_outdoors.RACE,
        "share": plots_home.SHARE,
        "make": plots_home.MAKE,
        "sorry": plots_home.SORRY,
        "gift": plots_home.GIFT,
        "lonely": plots_home.LONELY,
        "mend": plots_home.MEND,
    }.items()
}

OPENING = Phrases(
    (
        "Once upon a time, there [was|lived] {a_trait} little {kind} named {H}.",
        "Once there was {a_trait} {kind} [named|called] {H}, who lived {at}.",
        "{H} was {a_trait} {kind} who [loved|liked] to {V}.",
        "There was once {a_little} {kind} named {H}. {He} was {trait} and [loved|liked] to {V}.",
        "In a small house {at} lived {a_trait} {kind} named {H}.",
        "{H} was {a_little} {kind}. Everyone [knew|said] that {he} was {trait}.",
        "[Far away|Not far from here], {at}, lived {a_trait} little {kind} [named|called] {H}.",
        "This is the story of {H}, {a_trait} {kind} who lived {at}.",
    )
)
FRIEND = Phrases(
    (
        "{His} best friend was {a_fkind} named {F}.",
        "{He} had a friend [named|called] {F}, {a_fkind} who [laughed a lot|knew songs|was always hungry].",
        "{His} friend {F}, {a_fkind}, lived [next door|close by|on the other side of the road].",
        "{He} often played with {F}, {a_fkind} from [next door|the same street|the village].",
    )
)
STRANGER = Phrases(
    (
        "On the other side of the road lived {a_fkind} [named|called] {F}.",
        "There was also {a_fkind} [named|called] {F}, who [laughed a lot|had many friends].",
    )
)
DETAIL = Phrases(
    (
        "The air smelled of [grass|flowers|rain|warm bread], and a {m} [hummed|sat] close by.",
        "They [talked|laughed] about a {m} they had seen.",
        "[Somewhere|Far away], a bell rang [two|three|four] times.",
        "{A} had packed [bread and cheese|some soup|sweet tea] for them.",
    )
)
SUMMARY = {
    "lost": Phrases(("{H} loses {ao}, and {F} helps to look for it.",)),
    "rescue": Phrases(("{H} and {F} find a {m} in trouble and want to help with {ao}.",)),
    "brave": Phrases(("{H} is afraid, but {F} needs help.",)),
    "warning": Phrases(("{H} does not listen to {A} and gets into trouble with {ao}.",)),
    "treasure": Phrases(("{H} and {F} look for {ao} that is hidden {at}.",)),
    "race": Phrases(("{H} and {F} run a race, and the prize is {ao}.",)),
    "share": Phrases(("{H} has {ao}, and {F} has none.",)),
    "make": Phrases(("{H} and {F} make {ao}.",)),
    "sorry": Phrases(("{H} takes {ao} from {F} and feels bad.",)),
    "gift": Phrases(("{H} wants to give {F} {ao} for a birthday.",)),
    "lonely": Phrases(("{H} is alone with {ao} until {F} comes.",)),
    "mend": Phrases(("{H} and {F} break {ao} that belongs to {A}.",)),
}


@dataclass(frozen=True, kw_only=True)
class Story:
    """A written story with the plan it came from and a one-sentence summary."""

    text: str
    plan: StoryPlan
    summary: str


def tell(plan: StoryPlan, rng: Random) -> Story:
    """Word a plan. The same plan and random state give the same text; 60 to 130 words."""
    table = slots(plan, rng)
    plot = PLOTS[plan.plot]
    acts: list[str] = [OPENING.render(rng, table)]
    acts.append((STRANGER if plan.plot == "lonely" else FRIEND).render(rng, table))
    acts.append(plot["start"].render(rng, table))
    if "Foreshadowing" in plan.features:
        acts.append(plot["hint"].render(rng, table))
    acts.append(_with_verb(plot["event"], rng, table, acts))
    if "Conflict" in plan.features:
        acts.append(plot["fight"].render(rng, table))
    middle = len(acts)
    acts.append(plot["trouble"].render(rng, table))
    if "Dialogue" in plan.features:
        acts.append(plot["talk"].render(rng, table))
    acts.append(plot["turn"].render(rng, table))
    if "Twist" in plan.features:
        acts.append(plot["twist"].render(rng, table))
    acts.append(plot["bad" if "BadEnding" in plan.features else "good"].render(rng, table))
    if "MoralValue" in plan.features:
        acts.append(plot["moral"].render(rng, table))
    if sum(act.count(" ") + 1 for act in acts) < 72:
        acts.insert(middle, DETAIL.render(rng, table))
    text = sentence_case(" ".join(acts))
    return Story(text=text, plan=plan, summary=sentence_case(SUMMARY[plan.plot].render(rng, table)))


def _with_verb(event: Phrases, rng: Random, table: dict[str, str], acts: list[str]) -> str:
    """The event, worded so that the required verb occurs in the story."""
    forms = [table[form].split(" ", 1)[0] for form in ("V", "Ved", "Ving")]
    told = " ".join(acts)
    for _ in range(8):
        text = event.render(rng, table)
        if any(form in text or form in told for form in forms):
            return text
    return f"{text} They {table['Ved']}."


def rng_for(version: str, seed: int, index: int, held_out: bool) -> Random:
    """The random state of one row: any row can be written again without the ones before it."""
    return Random(f"{version}/{seed}/{index}/{'test' if held_out else 'train'}")


def write_story(
    seed: int,
    index: int,
    *,
    held_out: bool = False,
    collapsed: bool = False,
    plots: Sequence[str] = PLOT_NAMES,
) -> Story:
    """Story number `index` of the sample `seed`; held-out stories use word triples never trained on.

    collapsed: as a teacher that is asked for "a story" and nothing else: it comes back to its favourites.
    plots: only these are told.
    """
    rng = rng_for(VERSION, seed, index, held_out)
    if collapsed:
        plan = plan_story(rng, held_out=held_out, plots=plots, features=(), choose=pick_favourite)
    else:
        plan = plan_story(rng, held_out=held_out, plots=plots)
    return tell(plan, rng)


def story_rows(
    seed: int,
    rows: int,
    *,
    start: int = 0,
    held_out: bool = False,
    collapsed: bool = False,
    plots: Sequence[str] = PLOT_NAMES,
) -> Iterator[dict[str, str]]:
    """Rows of a documents corpus, from `start` to `rows`, each with its lineage in `meta`."""
    for index in range(start, rows):
        story = write_story(seed, index, held_out=held_out, collapsed=collapsed, plots=plots)
        yield {
            "id": f"{'favourite' if collapsed else 'story'}-{'test' if held_out else 'train'}-{seed}-{index}",
            "text": story.text,
            "source": SOURCE,
            "meta": meta(VERSION, seed, index, plan=story.plan.as_json(), summary=story.summary),
        }


def meta(version: str, seed: int, index: int, **more: Any) -> str:
    """Lineage of a row as a JSON string: which writer, which seed, which plan."""
    return json.dumps({"writer": version, "seed": seed, "index": index, **more}, ensure_ascii=False)


def sentences(text: str) -> list[str]:
    """Sentences of one of our texts; a closing quote stays with its sentence."""
    out: list[str] = []
    begin = 0
    quoted = False
    for at, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        ends = char in ".!?" and not quoted and text[at - 1] != '"'
        closes = char == '"' and not quoted and text[at - 1] in ".!?"
        after = text[at + 1 : at + 3]
        if (ends or closes) and (not after or (after[0] in " \n" and not after[1:2].islower())):
            # A quote that ends and goes on with a name (`"Yes!" said Mia.`) is one sentence.
            out.append(text[begin : at + 1].strip())
            begin = at + 1
    if text[begin:].strip():
        out.append(text[begin:].strip())
    return out


def continuation_prompt(text: str, share: float = 0.4) -> tuple[str, str]:
    """Cut a story inside a sentence near `share` of its words: (beginning, true ending)."""
    words = text.split(" ")
    at = max(3, round(len(words) * share))
    while at > 3 and words[at - 1].rstrip('"')[-1:] in ".!?,":
        at -= 1
    return " ".join(words[:at]), " " + " ".join(words[at:])
