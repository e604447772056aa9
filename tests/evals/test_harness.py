"""Our scores equal lm-eval's, item by item: its own tasks on our engine, its own engine on our items."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from hornbook.data.tokenizer import Tokenizer
from hornbook.evals.benchmarks.card import cards
from hornbook.evals.benchmarks.items import make_items
from hornbook.evals.benchmarks.run import Asking, run_card
from hornbook.evals.harness import harness_model
from hornbook.infer.language_model import LocalModel
from hornbook.lm.base import Completion, Request, Sampling
from hornbook.model.decoder import Decoder
from hornbook.model.hf import save_checkpoint
from hornbook.model.presets import student

pytestmark = pytest.mark.oracle

TEXT = "the sun is hot ice cold water falls down tree green why because people run fast slow day night"
WORDS = TEXT.split()
ITEMS = 24


def sentence(draw: random.Random, count: int) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(count))


def rows(task: str) -> list[dict[str, Any]]:
    draw, made = random.Random(task), []
    for n in range(ITEMS):
        q, ends = sentence(draw, 7), [sentence(draw, draw.randrange(1, 5)) for _ in range(4)]
        gold = draw.randrange(4)
        made.append(
            {
                "arc_easy": {
                    "question": q,
                    "choices": {"text": ends, "label": list("ABCD")},
                    "answerKey": "ABCD"[gold],
                },
                "hellaswag": {
                    "activity_label": "Day",
                    "ctx_a": q,
                    "ctx_b": "they",
                    "endings": [f"{e} [step]." for e in ends],
                    "label": str(gold),
                },
                "piqa": {"goal": q, "sol1": ends[0], "sol2": ends[1], "label": gold % 2},
                "winogrande": {
                    "sentence": f"{q} _ {ends[0]}",
                    "option1": "ice",
                    "option2": "sun",
                    "answer": str(1 + gold % 2),
                },
                "boolq": {"passage": q * 3, "question": q, "label": gold % 2, "answer": bool(gold % 2)},
                "mmlu_anatomy": {"question": q, "choices": ends, "answer": gold, "subject": "anatomy"},
                "lambada_openai": {"text": f"{q} {WORDS[n % len(WORDS)]}"},
                "social_iqa": {
                    "context": q,
                    "question": "why?",
                    "answerA": ends[0],
                    "answerB": ends[1],
                    "answerC": ends[2],
                    "label": str(1 + gold % 3),
                },
                "commonsense_qa": {
                    "question": q,
                    "choices": {"text": [*ends, "tree"], "label": list("ABCDE")},
                    "answerKey": "ABCDE"[gold],
                },
                "openbookqa": {
                    "question_stem": q,
                    "choices": {"text": ends, "label": list("ABCD")},
                    "answerKey": "ABCD"[gold],
                },
                "sciq": {
                    "support": q,
                    "question": q,
                    "distractor1": ends[0],
                    "distractor2": ends[1],
                    "distractor3": ends[2],
                    "correct_answer": ends[3],
                },
            }[task]
        )
    return made


CARD = {
    "arc_easy": "arc-easy",
    "mmlu_anatomy": "mmlu",
    "lambada_openai": "lambada",
    "social_iqa": "social-iqa",
    "commonsense_qa": "commonsense-qa",
}
TASKS = [
    "arc_easy",
    "hellaswag",
    "piqa",
    "winogrande",
    "boolq",
    "mmlu_anatomy",
    "lambada_openai",
    "social_iqa",
    "commonsense_qa",
    "openbookqa",
    "sciq",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("model")
    Tokenizer.train([" ".join(WORDS) * 20, "Question: Answer: A B C D yes no"] * 50, 300, where)
    torch.manual_seed(1)
    save_checkpoint(Decoder(student(hidden_size=64, layers=2, vocab_size=300)), where)
    return where


@pytest.fixture(scope="module")
def manager() -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager()


@pytest.fixture(scope="module")
def model(folder: Path) -> LocalModel:
    return LocalModel.open(folder, weights="fp32")


def harness_values(task: str, language_model: Any, where: Path, manager: Any) -> list[dict[str, float]]:
    """lm-eval's own per-item numbers of one of its tasks, its data set replaced by our rows."""
    import lm_eval

    made = where / f"{task}.jsonl"
    made.write_text("".join(json.dumps(row) + "\n" for row in rows(task)))
    known = manager._index[task].yaml_path
    card = where / f"{task}.yaml"
    told = {
        "include": str(known),
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": dict.fromkeys(("train", "validation", "test", "dev"), str(made))},
    }
    card.write_text(json.dumps(told))  # JSON is YAML
    found = lm_eval.simple_evaluate(
        model=language_model,
        tasks=[str(card)],
        num_fewshot=5 if task.startswith("mmlu") else 0,
        bootstrap_iters=0,
        task_manager=manager,
        log_samples=True,
    )
    [samples] = found["samples"].values()
    return sorted(samples, key=lambda sample: sample["doc_id"])


def ours(task: str, model: LocalModel) -> dict[str, Sequence[float]]:
    card, own = cards()[CARD.get(task, task)], rows(task)
    items = make_items(card, own, shots=5 if card.shots else 0, shot_rows=own)
    return run_card(card, model, Asking(), items=items).outcomes


@pytest.mark.parametrize("task", TASKS)
def test_lm_evals_tasks_on_our_engine_score_as_our_cards(
    task: str, model: LocalModel, tmp_path: Path, manager: Any
) -> None:
    theirs = harness_values(task, harness_model(model), tmp_path, manager)
    mine = ours(task, model)
    for name in ("acc", "acc_norm"):
        if name in theirs[0] and name in mine:
            assert list(mine[name]) == [float(sample[name]) for sample in theirs]
    assert "acc" in mine


def test_lm_evals_own_engine_gives_the_same_scores(
    folder: Path, model: LocalModel, tmp_path: Path, manager: Any
) -> None:
    from lm_eval.models.huggingface import HFLM

    engine = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=8)
    theirs = harness_values("arc_easy", engine, tmp_path, manager)
    mine = ours("arc_easy", model)
    assert list(mine["acc"]) == [float(sample["acc"]) for sample in theirs]
    assert list(mine["acc_norm"]) == [float(sample["acc_norm"]) for sample in theirs]


def test_generated_texts_reach_lm_eval(model: LocalModel) -> None:
    from lm_eval.api.instance import Instance

    sampling = Sampling(temperature=0.0, max_tokens=12)
    [whole] = model.complete([Request(prompt="the sun", sampling=sampling)])
    assert isinstance(whole, Completion)
    stop = whole.text[3:5]
    assert len(stop) == 2
    told = {"until": [stop], "max_gen_toks": 12}
    requests = [
        Instance("generate_until", {}, ("the sun", told), 0),
        Instance("generate_until", {}, ("the sun", {**told, "until": []}), 1),
    ]
    assert harness_model(model).generate_until(requests) == [whole.text.split(stop)[0], whole.text]
