"""ConceptMix in words: the prompt of a plan, and one yes-or-no question for each of its properties.

Written by rule, so that nothing is paid and nothing is left out; `writer` has a language model
write them as the paper does.
"""

from dataclasses import dataclass

from hornbook.evals.concept_mix.protocol import NUMBERS, Plan, Property, Thing, Vocabulary

_PLURALS = {
    "man": "men",
    "woman": "women",
    "fish": "fish",
    "sheep": "sheep",
    "sushi": "pieces of sushi",
    "broccoli": "heads of broccoli",
    "cactus": "cacti",
}


def plural(noun: str) -> str:
    """Of the objects in the vocabularies."""
    if noun in _PLURALS:
        return _PLURALS[noun]
    if noun.endswith(("s", "x", "ch", "sh", "o")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def article(words: str) -> str:
    """The words with "a" or "an" before them."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def caption(plan: Plan, vocabulary: Vocabulary) -> str:
    """The prompt: every thing with its concepts, every relation, the style. Exact numbers, plain words."""
    parts = [_thing(thing) for thing in plan.things]
    sentences = [f"A picture of {_listed(parts)}."]
    for relation in plan.relations:
        first, second = plan.things[relation.first], plan.things[relation.second]
        verb = "are" if _many(first) else "is"
        sentences.append(f"The {_noun(first)} {verb} {vocabulary.say[relation.name]} the {_noun(second)}.")
    if plan.style:
        sentences.append(f"The style of the picture is {plan.style}.")
    return " ".join(sentences)


def question(plan: Plan, asked: Property, vocabulary: Vocabulary) -> str:
    """The question whether a picture has the property."""
    if asked.category == "style":
        return f"Is the style of the picture {asked.value}?"
    first = plan.things[asked.things[0]]
    noun, many = _noun(first), _many(first)
    verb = "Are" if many else "Is"
    match asked.category:
        case "object":
            return f"Does the picture contain {article(first.name)}?"
        case "number":
            return f"Does the picture contain exactly {NUMBERS[asked.value]} {plural(first.name)}?"
        case "colour":
            return f"{verb} the {noun} {asked.value}?"
        case "size":
            return f"{verb} the {noun} {asked.value} in size?"
        case "shape":
            return f"{verb} the {noun} shaped like a {asked.value}?"
        case "texture":
            return f"{'Do' if many else 'Does'} the {noun} have a {asked.value} texture?"
        case _:
            second = plan.things[asked.things[1]]
            return f"{verb} the {noun} {vocabulary.say[asked.value]} the {_noun(second)}?"


def questions(plan: Plan, vocabulary: Vocabulary) -> list[str]:
    """One for each property, in their order."""
    return [question(plan, asked, vocabulary) for asked in plan.properties]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A plan in words: what is drawn after, and what is asked of each property."""

    plan: Plan
    caption: str
    questions: tuple[str, ...]


def by_rule(plan: Plan, vocabulary: Vocabulary) -> Prompt:
    """The plan's prompt without a language model."""
    return Prompt(plan=plan, caption=caption(plan, vocabulary), questions=tuple(questions(plan, vocabulary)))


def _many(thing: Thing) -> bool:
    return "number" in thing.values


def _noun(thing: Thing) -> str:
    return plural(thing.name) if _many(thing) else thing.name


def _thing(thing: Thing) -> str:
    own = thing.values
    words = [own[c] for c in ("size", "colour", "texture") if c in own]
    if "shape" in own:
        words.append(f"{own['shape']}-shaped")
    words.append(_noun(thing))
    said = " ".join(words)
    return f"exactly {NUMBERS[own['number']]} {said}" if _many(thing) else article(said)


def _listed(parts: list[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    return ", ".join(parts[:-1]) + " and " + parts[-1]
