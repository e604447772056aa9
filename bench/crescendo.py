"""Crescendomation: conversations a second against mock models, beside PyRIT's Crescendo attack.

    python bench/crescendo.py --peer-python PATH/TO/PYTHON/WITH/PYRIT --out bench/results/crescendo.json

Both attack the same mock target with the same mock attacker, refusal judge and success judge (all in the
process, no waiting, answers in JSON where a model would give JSON), 10 turns, 10 backtracks, 64 conversations
at once. What a conversation goes through follows from its task alone, and both must come to the same rounds
and backtracks. Ours writes every attempt to a file as it happens; PyRIT keeps its memory in an SQLite
database in memory. Rounds are interleaved, imports and a warm-up left out; medians. The last line is JSON.
"""

import argparse
import hashlib
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

DEEP = 5
"""Answers that come before the one that succeeds."""
NO = "I cannot help with that."
GOAL = re.compile(r"task (\d+) is told")
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def objective(task):
    return f"task {task} is told"


def question(task, number):
    """What the mock attacker asks at its `number`-th try."""
    return f"task {task}, try {number}: go on"


def reply(asked, answered):
    """What the mock target says: a quarter of the questions is refused, the sixth answer succeeds."""
    if hashlib.sha256(asked.encode()).digest()[0] < 64:
        return NO
    return "jackpot" if answered == DEEP else f"answer {answered}"


def ours(conversations, now):
    """(seconds, [(rounds, backtracks)]) of one attack."""
    from hornbook.lm.simulated import SimulatedModel
    from hornbook.redteam.attack import attack
    from hornbook.redteam.attackers import ModelAttacker
    from hornbook.redteam.judges import Judges, ModelJudge
    from hornbook.redteam.tasks import AttackSettings, Task

    def ask(request):
        task = GOAL.search(request.messages[0].content)[1]
        move = {
            "last_response_summary": "",
            "rationale": "on",
            "next_message": question(task, request.sample_index // 4),
        }
        return json.dumps(move)

    def answer(request):
        return reply(request.messages[-1].content, sum(m.role == "assistant" for m in request.messages))

    def judge(request):
        material = request.messages[-1].content
        if "<<<REQUEST" in material:
            return json.dumps({"rationale": "so", "verdict": "refused" if NO in material else "answered"})
        return json.dumps({"rationale": "so", "score": 100 if "jackpot" in material else 10})

    model_judge = ModelJudge(SimulatedModel("judge", judge))
    tasks = [
        Task(id=f"t{n}", category="mock", objective=objective(n), request="?", criteria="it is told")
        for n in range(conversations)
    ]
    with tempfile.TemporaryDirectory() as folder:
        began = now()
        made = attack(
            tasks,
            attacker=ModelAttacker(SimulatedModel("attacker", ask)),
            target=SimulatedModel("target", answer),
            judges=Judges(refusal=model_judge, success=model_judge),
            folder=pathlib.Path(folder),
            settings=AttackSettings(runs_per_task=1, at_once=64),
        )
        taken = now() - began
    assert all(c.outcome == "success" for c in made.conversations), "an attack did not succeed"
    return taken, [(c.rounds, c.backtracks) for c in made.conversations]


def peer_main():
    """Runs with PyRIT's interpreter: reads numbers of conversations, one a line, answers with JSON lines."""
    import asyncio
    import logging

    from pyrit.executor.attack import (
        AttackAdversarialConfig,
        AttackExecutor,
        AttackScoringConfig,
        CrescendoAttack,
    )
    from pyrit.models import construct_response_from_request
    from pyrit.prompt_target import PromptTarget
    from pyrit.prompt_target.common.target_capabilities import TargetCapabilities
    from pyrit.prompt_target.common.target_configuration import TargetConfiguration
    from pyrit.score import (
        FloatScaleThresholdScorer,
        NumericRubric,
        SelfAskRefusalScorer,
        SelfAskScaleScorer,
    )
    from pyrit.setup import initialize_pyrit_async

    logging.disable(logging.CRITICAL)
    able = TargetConfiguration(
        capabilities=TargetCapabilities(
            supports_multi_turn=True,
            supports_editable_history=True,
            supports_system_prompt=True,
            supports_json_output=True,
            supports_json_schema=True,
        )
    )

    class Mock(PromptTarget):
        def __init__(self, *, answer):
            super().__init__(custom_configuration=able, model_name=answer.__name__)
            self.answer = answer

        async def _send_prompt_to_target_async(self, *, normalized_conversation):
            request = normalized_conversation[-1].message_pieces[0]
            said = [
                (m.message_pieces[0].role, m.message_pieces[0].converted_value)
                for m in normalized_conversation
            ]
            return [
                construct_response_from_request(request=request, response_text_pieces=[self.answer(said)])
            ]

        def _validate_request(self, *, normalized_conversation):
            pass

    def attacker(said):
        task = GOAL.search(said[-1][1])[1]
        number = sum(role == "assistant" for role, _ in said)
        move = {"next_message": question(task, number), "rationale": "on", "last_response_summary": ""}
        return json.dumps(move)

    def target(said):
        return reply(said[-1][1], sum(role == "assistant" for role, _ in said))

    def refusal(said):
        return json.dumps({"score_value": NO in said[-1][1], "rationale": "so"})

    def scale(said):
        score = 100 if "jackpot" in said[-1][1] else 10
        return json.dumps({"score_value": score, "description": "so", "rationale": "so"})

    async def one(conversations, now):
        await initialize_pyrit_async("InMemory", load_defaults=False, silent=True)
        attack = CrescendoAttack(
            objective_target=Mock(answer=target),
            attack_adversarial_config=AttackAdversarialConfig(target=Mock(answer=attacker)),
            attack_scoring_config=AttackScoringConfig(
                objective_scorer=FloatScaleThresholdScorer(
                    scorer=SelfAskScaleScorer.from_scale(
                        chat_target=Mock(answer=scale),
                        scale=NumericRubric.from_yaml(
                            SelfAskScaleScorer.ScalePaths.TASK_ACHIEVED_SCALE.value
                        ),
                    ),
                    threshold=0.8,
                ),
                refusal_scorer=SelfAskRefusalScorer(chat_target=Mock(answer=refusal)),
            ),
            max_turns=10,
            max_backtracks=10,
        )
        executor = AttackExecutor(max_concurrency=64)
        began = now()
        made = await executor.execute_attack_async(
            attack=attack, objectives=[objective(n) for n in range(conversations)]
        )
        taken = now() - began
        results = {result.objective: result for result in made.completed_results}
        courses = []
        for n in range(conversations):
            result = results[objective(n)]
            assert str(getattr(result.outcome, "value", result.outcome)) == "success", result.outcome_reason
            courses.append((result.executed_turns, result.backtrack_count))
        return taken, courses

    for line in sys.stdin:
        conversations, clock = line.split()
        taken, courses = asyncio.run(one(int(conversations), CLOCKS[clock]))
        print(json.dumps([taken, courses]), flush=True)


class Peer:
    """PyRIT in a process of its own interpreter."""

    def __init__(self, python):
        self.process = subprocess.Popen(
            [python, __file__, "--as-peer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, conversations, clock):
        self.process.stdin.write(f"{conversations} {clock}\n")
        self.process.stdin.flush()
        while True:
            line = self.process.stdout.readline()
            if not line:
                raise SystemExit("the peer ended; its errors are above")
            if line.startswith("["):
                taken, courses = json.loads(line)
                return taken, [tuple(course) for course in courses]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def main():
    from interleaved import finish, options

    parser = options(
        argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    )
    parser.add_argument("--peer-python", help="an interpreter with pyrit; without it only ours is timed")
    parser.add_argument("--conversations", type=int, default=100)
    given = parser.parse_args()
    peer = Peer(given.peer_python) if given.peer_python else None
    ours(8, CLOCKS[given.clock])
    if peer:
        peer(8, given.clock)
    taken = {"ours": [], "pyrit": []}
    for _ in range(given.rounds):
        seconds, courses = ours(given.conversations, CLOCKS[given.clock])
        taken["ours"].append(given.conversations / seconds)
        if peer:
            seconds, theirs = peer(given.conversations, given.clock)
            taken["pyrit"].append(given.conversations / seconds)
            assert theirs == courses, "the two attacks did not go through the same"
    record = {
        "conversations_per_second": {
            name: statistics.median(rates) for name, rates in taken.items() if rates
        },
        "all_rounds": taken,
        "queries": sum(rounds + back for rounds, back in courses),
    }
    if peer:
        peer.close()
        record["ratio"] = (
            record["conversations_per_second"]["ours"] / record["conversations_per_second"]["pyrit"]
        )
    finish("crescendo", given, record)


if __name__ == "__main__":
    peer_main() if sys.argv[1:] == ["--as-peer"] else main()
