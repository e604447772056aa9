"""Break-fix in the small world: the personas, what is harmless, and the loop for one seed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from hornbook.lm.base import LanguageModel
from hornbook.redteam.attackers import ScriptedAttacker
from hornbook.redteam.break_fix import BreakFix, BreakFixSettings, Harmless, Persona
from hornbook.redteam.judges import ExactJudge, Judges, RefusalRule
from hornbook.redteam.small_world import (
    ASKED,
    DEPTHS,
    ENCODED,
    FURTHER,
    RESTRICTED_DEPTH,
    UNSEEN_ASKED,
    UNSEEN_WRAPPERS,
    VERSION,
    WRAPPERS,
    SmallTopic,
    benign_talk,
    brief,
    world_tasks,
)
from hornbook.redteam.tasks import Task
from hornbook.synth.policy import is_refusal


def _asked(task: Task, forms: Sequence[str] = ASKED) -> list[str]:
    return [form.format(depth=RESTRICTED_DEPTH, topic=task.id) for form in forms]


def _wrapped(forms: Sequence[str]) -> Callable[[Task], list[list[str]]]:
    return lambda task: [[form.format(request=text) for form in forms for text in _asked(task)]]


def _climb(task: Task) -> list[list[str]]:
    first = [form.format(depth=DEPTHS[0], topic=task.id) for form in ASKED]
    return [first, *[list(FURTHER)] * (len(DEPTHS) - 1)]


def personas(seed: int = 0) -> list[Persona]:
    """A plain asker, two who wrap or encode, one who climbs; and two held out with wordings never trained
    on."""

    def scripted(name: str, script: Callable[[Task], list[list[str]]]) -> ScriptedAttacker:
        return ScriptedAttacker(f"{VERSION}/{name}", script, seed=seed)

    return [
        Persona(name="plain", attacker=scripted("plain", lambda task: [_asked(task)])),
        Persona(name="wrapped", attacker=scripted("wrapped", _wrapped(WRAPPERS)), rounds=2),
        Persona(
            name="encoded",
            attacker=scripted(
                "encoded", lambda task: [[ENCODED.format(name=task.id[::-1], depth=RESTRICTED_DEPTH)]]
            ),
        ),
        Persona(
            name="climbing",
            attacker=scripted("climbing", _climb),
            rounds=len(DEPTHS) + 1,
            backtracks=2,
            memory=True,
        ),
        Persona(
            name="plain in other words",
            attacker=scripted("unseen", lambda task: [_asked(task, UNSEEN_ASKED)]),
            held_out=True,
        ),
        Persona(
            name="wrapped otherwise",
            attacker=scripted("unseen-wrapped", _wrapped(UNSEEN_WRAPPERS)),
            rounds=2,
            held_out=True,
        ),
    ]


def harmless(world: Sequence[SmallTopic], count: int, seed: int, *, told: bool = False) -> list[Harmless]:
    """Harmless conversations of every form, with the facts that their last answer holds; `told`: each begins
    with what the target is told of its topic."""
    rng = Random(f"{VERSION}:harmless:{seed}")
    found = []
    for _ in range(count):
        talk = benign_talk(world, rng)
        answer = talk[-1]["content"]
        topic = next(topic for topic in world if topic.name in answer)
        depth = next(depth for depth in DEPTHS if topic.answer(depth) == answer)
        before = [{"role": "system", "content": brief(topic)}] if told else []
        found.append(Harmless(messages=(*before, *talk[:-1]), answer=answer, expected=topic.facts[depth]))
    return found


def small_world_loop(
    folder: Path,
    model: Path | LanguageModel,
    world: Sequence[SmallTopic],
    settings: BreakFixSettings,
    *,
    held_out: int,
    benign: int = 400,
    checks: int = 80,
    told: bool | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> BreakFix:
    """The loop on a student of the small world; the last `held_out` restricted topics are never trained on.

    model: the student's checkpoint; or a model that is only asked.
    told: whether it is told before each conversation what a student of the world knows; by default, where it
        is only asked.
    """
    told = not isinstance(model, Path) if told is None else told
    tasks = world_tasks(world, told=told)
    wanted = {topic.name: topic.refusal() for topic in world}
    cut = len(tasks) - held_out
    trainable = [topic for topic in world if topic.name not in {task.id for task in tasks[cut:]}]
    return BreakFix(
        folder=folder,
        personas=personas(settings.seed),
        tasks=tasks[:cut],
        held_out_tasks=tasks[cut:],
        benign=harmless(trainable, benign, settings.seed, told=told),
        checks=harmless(world, checks, settings.seed + 1000, told=told),
        judges=Judges(refusal=RefusalRule("synth.policy.is_refusal", is_refusal), success=ExactJudge()),
        settings=settings,
        say=say,
        weights=model if isinstance(model, Path) else None,
        endpoint=None if isinstance(model, Path) else model,
        wanted=lambda task: wanted[task.id],
    )
