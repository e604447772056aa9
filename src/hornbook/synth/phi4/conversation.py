"""Conversations of two agents in turn over a seed: one asks, one explains (phi-4, 2.2, multi-agent
prompting).

Each agent is the teacher under instructions of its own and sees the conversation from its own side. What is
kept is the explainer's side as the assistant. The simulated form plans both sides from a concept of the
textbooks, so that what the tutor says is true and what its code prints was printed.
"""

from collections.abc import Sequence
from random import Random
from typing import Any

from hornbook.lm.base import Message
from hornbook.synth import checks
from hornbook.synth.concepts_science import CONCEPTS
from hornbook.synth.diversity import rouge_precision
from hornbook.synth.phrase import Phrases, pick, sentence_case
from hornbook.synth.scripts import Row, Script, Scripted, Work
from hornbook.synth.stories import meta, rng_for
from hornbook.synth.textbooks import run_trusted, slots_of

VERSION = "phi4-conversation-1"
SOURCE = "synth/phi4/conversation"

ASKERS = (
    "You are a curious child of ten. You ask simple questions and say when you do not understand.",
    "You are a beginner who confuses two things; ask so that the difference must be explained.",
    "You are a careful student. You ask for reasons and for an example, and then try one yourself.",
    "You are a sceptic. You doubt what is said and ask how one could know.",
)
_TUTOR = (
    "You are a patient tutor. You explain one step at a time in simple words and correct mistakes kindly."
)
_ABOUT = (
    "\nThe conversation is about this:\n\n{passage}\n\nSay only your next turn, in one to four sentences."
)
_BEGIN = "Begin the conversation."


def _turn_problem(text: str, told: Sequence[str]) -> str:
    problem = checks.length_problem(text, 3, 130) or checks.language_problem(text)
    if problem or not told:
        return problem
    if any(rouge_precision(text, earlier, 4) > 0.5 for earlier in told):
        return "That was said before in almost the same words; go on instead."
    return ""


def conversation_task(
    id: str, passage: str, *, exchanges: int = 3, seed: int = 0, about: str = "all"
) -> Scripted:
    """`exchanges` questions with their answers about a passage or a topic. about: its cluster, or
    the topic."""
    asker = pick(Random(f"{VERSION}/{seed}/{id}"), ASKERS)

    def steps(work: Work) -> Script:
        told: list[str] = []
        for number in range(2 * exchanges):
            asking = number % 2 == 0
            system = (asker if asking else _TUTOR) + _ABOUT.format(passage=passage)

            def read(text: str) -> tuple[str | None, str]:
                text = " ".join(text.split())
                problem = _turn_problem(text, told)
                return (None, problem) if problem else (text, "")

            turns = [Message("system", system)]
            turns += [Message("user", _BEGIN)] if asking else []
            turns += [
                Message("assistant" if (at % 2 == 0) == asking else "user", t) for at, t in enumerate(told)
            ]
            told.append((yield from work.write(turns, read)))
        return conversation_row(
            work.id, told, seed=seed, writer=VERSION, asker=asker, seed_id=id, verified="form"
        )

    facets = {"asker": asker, "about": about}
    return Scripted(id=f"conversation-{seed}-{id}", steps=steps, facets=facets)


def concept_task(index: int, *, exchanges: int = 3, seed: int = 0) -> Scripted:
    """The same about a concept of the textbooks, each in turn."""
    name = CONCEPTS[index % len(CONCEPTS)].name
    return conversation_task(f"{index}", name, exchanges=exchanges, seed=seed, about=name)


def conversation_row(id: str, told: Sequence[str], *, seed: int, **facts: Any) -> Row:
    """Turns told in turn, the asker first, as a row of a conversations corpus."""
    turns = [{"role": "assistant" if at % 2 else "user", "content": text} for at, text in enumerate(told)]
    index = int(facts.pop("index", 0))
    return {
        "id": id,
        "messages": turns,
        "source": SOURCE,
        "meta": meta(facts.pop("writer"), seed, index, **facts),
    }


_ASK = Phrases(
    (
        "What {is} {name}?",
        "I have heard of {name}. What {is} that?",
        "[Can you tell me|Please tell me] what {name} {is}.",
    )
)
_MORE = Phrases(("Why does that matter?", "And what is it good for?", "Is that [important|useful]?"))
_SHOW = Phrases(
    (
        "Can you show me an example?",
        "I do not quite see it. [Show me|Give me an example].",
        "What does that look like?",
    )
)
_WRONG = Phrases(("[Hm, I do not know.|I am not sure.]", "[I forgot.|I cannot say.]"))
_RIGHT = Phrases(("[Right!|Yes, that is it.|Good.] {why}", "[Exactly.|You have it.] {why}"))
_TOLD = Phrases(("The answer is: {answer} {why}", "Look again: {says} So the answer is: {answer}"))


def simulated_conversation(seed: int, index: int) -> Row:
    """Two planned sides on a concept: question, explanation, example, and a check question where there is
    one.

    One asker in three does not know the answer to the check question and is told.
    """
    rng = rng_for(VERSION, seed, index, False)
    concept = pick(rng, CONCEPTS)
    table = slots_of(rng)
    named = {"name": concept.name, "is": concept.verb}
    says, why = pick(rng, concept.says), pick(rng, concept.why)
    told = [sentence_case(_ASK.render(rng, named)), says]
    if rng.random() < 0.5:
        told += [_MORE.render(rng, {}), why]
    if concept.code and (not concept.scenes or rng.random() < 0.6):
        code = pick(rng, concept.code).format_map(table)
        example = f"Here is one:\n\n{code}\n\nIt prints:\n\n{run_trusted(code)}"
    else:
        example = sentence_case(pick(rng, concept.scenes).format_map(table))
    knows = rng.random() < 2 / 3
    told += [_SHOW.render(rng, {}), f"{example} {concept.question}".strip()]
    if concept.question:
        known = {"why": why if why not in told else "", "answer": concept.answer, "says": says}
        told += [concept.answer, _RIGHT.render(rng, known).strip()] if knows else [
            _WRONG.render(rng, {}), _TOLD.render(rng, known).strip()
        ]  # fmt: skip
    return conversation_row(
        f"conversation-{seed}-{index}", told, seed=seed, index=index, writer=f"{VERSION}/simulated",
        concept=concept.name, verified="planned",
    )  # fmt: skip
