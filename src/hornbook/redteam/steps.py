"""An attack in several arms as a step: one artifact with all transcripts, resumable inside itself."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hornbook.errors import HornbookError
from hornbook.lab.step import StepContext, step
from hornbook.lm.base import LanguageModel, Sampling
from hornbook.redteam.attack import Campaign, attack, regrade
from hornbook.redteam.attackers import Attacker, ModelAttacker
from hornbook.redteam.conversation import Conversation
from hornbook.redteam.judges import Judges, ModelJudge
from hornbook.redteam.rates import AttackRates, attack_rates
from hornbook.redteam.tasks import AttackSettings, read_tasks, redacted
from hornbook.redteam.world import BASELINES, Odds, climber, exact_judges, policy_tasks, simulated_target

SIMULATED = "simulated"


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Who plays: models by word (see `infer.open.open_model`), or what the invented world offers offline.

    target:   "simulated": known `odds` of refusing. A model is told the world's tales, and which words of
              them it must keep to itself (`redteam.world.brief`); with tasks of yours, nothing but those say.
    attacker: "simulated": climbs the world's ladder of questions; it cannot attack with tasks of yours.
    judge:    "simulated": exact, for tasks with `expected` texts; a model judges refusal and success and
              reviews its verdicts.
    held_out: a model that grades again what the loop steered by; empty for none.
    """

    target: str = SIMULATED
    attacker: str = SIMULATED
    judge: str = SIMULATED
    held_out: str = ""
    odds: Odds = field(default_factory=Odds)
    system_prompt: str = ""
    max_tokens: int = 512
    temperature: float = 1.0

    def files(self) -> list[Path]:
        """The models among the roles that lie on this machine."""
        specs = (self.target, self.attacker, self.judge, self.held_out)
        return [Path(spec) for spec in dict.fromkeys(specs) if spec and Path(spec).exists()]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to attack: `kind` is "crescendo", or a single-turn baseline: "direct", "wrapped", "encoded".

    A baseline's `rounds` are its queries; it has no backtracks to spend.
    """

    kind: str = "crescendo"
    rounds: int = 10
    backtracks: int = 0
    keep_refusals: bool = False

    def __post_init__(self) -> None:
        if self.kind != "crescendo" and self.kind not in BASELINES:
            raise HornbookError(
                f"Arm.kind is {self.kind!r}; accepted: crescendo, {', '.join(sorted(BASELINES))}."
            )
        if self.kind != "crescendo" and self.backtracks:
            raise HornbookError(f"The arm {self.kind!r} is single-turn: it has nothing to take back.")


@step(version="1", makes="transcripts")
def red_team(
    ctx: StepContext,
    *,
    arms: Mapping[str, Arm],
    roles: Roles,
    files: Sequence[Path] = (),
    tasks: int,
    tasks_file: Path | None = None,
    runs: int = 10,
    at_once: int = 64,
    seed: int = 0,
) -> dict[str, Any]:
    """Attacks one target in every arm, with the same tasks; transcripts lie in `artifact / arm`.

    files: `roles.files()`, so that a model changed in its place counts as another.
    tasks: how many of the invented world, or the most to take of `tasks_file` (JSON Lines; see `read_tasks`).
    runs: independent conversations for each task and arm.

    Facts, by arm: `arm_facts`. Conversations put aside (a service that could not be reached) fail the step;
    what was finished is kept and the next run goes on.
    """
    if tasks_file is None:
        chosen = policy_tasks(tasks, seed, told=roles.target != SIMULATED)
    else:
        chosen = read_tasks(tasks_file)[:tasks]
    if roles.system_prompt:  # a task's own system text would stand in its place
        chosen = [
            replace(t, system="\n\n".join(filter(None, [roles.system_prompt, t.system]))) for t in chosen
        ]
    target = open_target(roles, seed)
    judges = open_judges(roles)
    progress = ctx.progress(len(arms) * len(chosen) * runs, "conversations")
    facts: dict[str, Any] = {}
    for name, arm in arms.items():
        made = attack(
            chosen,
            attacker=open_attacker(roles, arm, seed),
            target=target,
            judges=judges,
            folder=ctx.folder / name,
            settings=arm_settings(arm, roles, runs=runs, at_once=at_once, seed=seed),
            progress=progress,
        )
        if made.suspended:
            where, why = next(iter(made.suspended.items()))
            raise HornbookError(
                f"{name}: {len(made.suspended)} conversations could not go on ({where}: {why}). All that was "
                "said is kept; give the same command again when the service answers."
            )
        verdicts = regrade(made, judges) if judges.held_out else None
        facts[name] = arm_facts(made, withhold=tasks_file is not None)
        if verdicts is not None:
            facts[name]["held_out"] = _rates_json(attack_rates(made, verdicts=verdicts))
        ctx.log(arm=name, average=facts[name]["average"], binary=facts[name]["binary"])
    return facts


def arm_settings(arm: Arm, roles: Roles, *, runs: int, at_once: int, seed: int) -> AttackSettings:
    """The settings of the loop for an arm."""
    return AttackSettings(
        max_rounds=arm.rounds,
        max_backtracks=arm.backtracks,
        runs_per_task=runs,
        when_backtracks_are_spent="keep" if arm.keep_refusals else "drop",
        memory=arm.kind == "crescendo",
        system_prompt=roles.system_prompt,
        sampling=Sampling(temperature=roles.temperature, max_tokens=roles.max_tokens),
        at_once=at_once,
        seed=seed,
    )


def open_target(roles: Roles, seed: int) -> LanguageModel:
    """The model under attack."""
    if roles.target == SIMULATED:
        return simulated_target(roles.odds, seed=seed)
    return _open(roles.target)


def open_attacker(roles: Roles, arm: Arm, seed: int) -> Attacker:
    """Who asks in an arm."""
    if arm.kind != "crescendo":
        return BASELINES[arm.kind]
    return climber(seed) if roles.attacker == SIMULATED else ModelAttacker(_open(roles.attacker))


def open_judges(roles: Roles) -> Judges:
    """Who judges."""
    if roles.judge == SIMULATED:
        judges = exact_judges()
    else:
        judge = ModelJudge(_open(roles.judge))
        judges = Judges(refusal=judge, success=judge, second=judge)
    return replace(judges, held_out=ModelJudge(_open(roles.held_out))) if roles.held_out else judges


def _open(spec: str) -> LanguageModel:
    from hornbook.infer.open import open_model

    return open_model(spec)


def arm_facts(made: Campaign, *, withhold: bool) -> dict[str, Any]:
    """Rates, the share of successful runs by task (`shares`), and a conversation that succeeded and one that
    did not (`examples`; successful replies withheld where asked)."""
    found = _rates_json(attack_rates(made))
    wins: dict[str, list[bool]] = {}
    for conversation in made.conversations:
        if conversation.outcome in ("success", "failure"):
            wins.setdefault(conversation.task.id, []).append(conversation.outcome == "success")
    found["shares"] = {task: sum(own) / len(own) for task, own in wins.items()}
    won = _longest(made.conversations, "success")
    lost = _longest(made.conversations, "failure")
    found["examples"] = {
        outcome: _transcript(conversation, withhold)
        for outcome, conversation in (("success", won), ("failure", lost))
        if conversation is not None
    }
    return found


def _longest(conversations: Sequence[Conversation], outcome: str) -> Conversation | None:
    """The conversation with the most attempts of those that ended so: where there is most to see."""
    own = [c for c in conversations if c.outcome == outcome]
    return max(own, key=lambda c: len(c.attempts)) if own else None


def _transcript(conversation: Conversation, withhold: bool) -> list[dict[str, str]]:
    attempts = redacted(conversation.attempts) if withhold else conversation.attempts
    messages = []
    for attempt in attempts:
        fate = "taken back" if attempt.backtracked else f"round {attempt.round}"
        score = "" if attempt.score is None else f", score {attempt.score}"
        messages.append({"role": "user", "content": attempt.question, "note": attempt.rationale})
        said = attempt.reply or f"[{attempt.status}]"
        messages.append({"role": "assistant", "content": said, "note": fate + score})
    return messages


def _rates_json(rates: AttackRates) -> dict[str, Any]:
    found = asdict(rates)
    for name in ("average", "binary"):
        rate = getattr(rates, name)
        found[name], found[f"{name}_interval"] = rate.value, list(rate.interval)
    found["at"] = {str(k): value for k, value in rates.at.items()}
    return found
