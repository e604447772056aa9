"""Preference training: against closed forms, one answer at a time, and from SFT through pairs to DPO."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from small_students import chat, context, conversations, tiny_student

from hornbook.align import dpo as dpo_module
from hornbook.align.dpo import divergence, encode_pairs, held_out_measures, prefer
from hornbook.align.pairs import verified_pairs
from hornbook.align.questions import policy_questions
from hornbook.align.rollouts import draw_answers
from hornbook.align.sft import finetune
from hornbook.data.chat import ChatTemplate
from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.infer.language_model import LocalModel
from hornbook.lm.base import Sampling
from hornbook.model.decoder import Decoder
from hornbook.synth.policy import is_refusal
from hornbook.train.batches import to_tensors
from hornbook.train.objectives import Preference
from hornbook.train.preference import PreferenceLoader, reference_log_probabilities
from hornbook.train.pretrain import PhasePlan
from hornbook.train.schedule import Schedule
from hornbook.train.settings import OptimizerSettings, TrainSettings

PHI3 = ChatTemplate("phi3")
TRIPLES = [
    ("one apple?", "yes, one.", "no, it is a pear"),
    ("is the cat red?", "no", "a red cat is in the garden."),
    ("who?", "Tom", "a ball"),
    ("how many apples are there?", "there are 42 apples", "12"),
    ("sum?", "def solution():\n    return 12 + 30", "def solution():\n    return 12 - 30"),
    ("help?", "I cannot help with that.", "a small cat"),
]


def preferences(folder: Path, triples: list[tuple[str, str, str]]) -> Path:
    rows = [
        {
            "id": str(n),
            "messages": chat(request),
            "chosen": chosen,
            "rejected": rejected,
            "source": "test",
            "meta": "{}",
        }
        for n, (request, chosen, rejected) in enumerate(triples)
    ]
    with CorpusWriter(folder, "preferences", lineage={}) as writer:
        writer.write_rows(rows)
    return folder


def loader_of(
    tokenizer: Tokenizer, folder: Path, rows: int = 2, time: int = 256, reference: Decoder | None = None
) -> PreferenceLoader:
    corpus = Corpus.open(preferences(folder, TRIPLES))
    pairs = encode_pairs([corpus], tokenizer, PHI3, time=time).train
    loader = PreferenceLoader(pairs, rows, time, seed=0)
    if reference is None:
        return loader
    return PreferenceLoader(
        pairs, rows, time, seed=0, reference=reference_log_probabilities(loader, reference)
    )


def alone(model: Decoder, tokenizer: Tokenizer, request: str, answer: str) -> tuple[torch.Tensor, int]:
    """log p(answer and its stop token | request) by one unpacked pass over the rendered string."""
    text = PHI3.render(chat(request), add_generation_prompt=True)
    prompt = tokenizer.encode(text, specials=True)
    whole = prompt + tokenizer.encode(answer) + [tokenizer.special("<|end|>")]
    log_p = torch.log_softmax(model.logits(model(torch.tensor([whole[:-1]])))[0].float(), -1)
    at = range(len(prompt) - 1, len(whole) - 1)
    return sum((log_p[i, whole[i + 1]] for i in at), torch.zeros(())), len(at)


def test_the_reference_is_that_of_each_answer_alone(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = tiny_student(tokenizer)
    found = loader_of(tokenizer, tmp_path, reference=model).reference
    with torch.no_grad():
        expected = [
            [float(alone(model, tokenizer, request, answer)[0]) for answer in answers]
            for request, *answers in TRIPLES
        ]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", ["sigmoid", "ipo", "length_normalised"])
@pytest.mark.parametrize(("smoothing", "supervised"), [(0.0, 0.0), (0.1, 0.0), (0.0, 0.7)])
def test_loss_and_gradient_are_the_closed_form_pair_by_pair(
    tokenizer: Tokenizer, tmp_path: Path, kind: str, smoothing: float, supervised: float
) -> None:
    beta = 0.3
    reference, model = tiny_student(tokenizer, seed=1), tiny_student(tokenizer, seed=2)
    loader = loader_of(tokenizer, tmp_path, reference=reference, rows=8)
    objective = Preference(beta=beta, kind=kind, label_smoothing=smoothing, supervised=supervised)  # type: ignore[arg-type]
    packed = objective(model, to_tensors(loader.batch(0)))
    packed.sum.backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    total = torch.zeros(())
    for request, chosen, rejected in TRIPLES:
        (pc, nc), (pr, nr) = (alone(model, tokenizer, request, text) for text in (chosen, rejected))
        with torch.no_grad():
            (rc, _), (rr, _) = (alone(reference, tokenizer, request, text) for text in (chosen, rejected))
        if kind == "sigmoid":
            h = (pc - rc) - (pr - rr)
        else:
            h = (pc - rc) / nc - (pr - rr) / nr
        if kind == "ipo":
            loss = (h - 1 / (2 * beta)) ** 2
        else:
            up, down = torch.log(1 + torch.exp(-beta * h)), torch.log(1 + torch.exp(beta * h))
            loss = (1 - smoothing) * up + smoothing * down
        total = total + loss - supervised * pc / nc
    total.backward()  # type: ignore[no-untyped-call]
    assert int(packed.tokens) == len(TRIPLES)
    torch.testing.assert_close(packed.sum, total, rtol=1e-4, atol=1e-4)
    largest = max(float(g.abs().max()) for g in gradients.values())
    for name, p in model.named_parameters():
        torch.testing.assert_close(gradients[name], p.grad, rtol=1e-3, atol=1e-4 * largest, msg=name)


def test_equal_policies_give_log_two(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = tiny_student(tokenizer)
    loader = loader_of(tokenizer, tmp_path, reference=model, rows=8)
    loss = Preference(beta=0.5)(model, to_tensors(loader.batch(0)))
    assert float(loss.sum.detach()) / len(TRIPLES) == pytest.approx(math.log(2), abs=1e-4)
    assert float(loss.parts["margin"]) == pytest.approx(0, abs=1e-3)
    assert divergence(model, tiny_student(tokenizer), loader, torch.float32) == pytest.approx(0, abs=1e-6)


def test_the_divergence_is_the_sum_over_the_vocabulary(
    tokenizer: Tokenizer, checkpoint: Path, tmp_path: Path
) -> None:
    model, reference = tiny_student(tokenizer, seed=2), tiny_student(tokenizer, seed=1)
    loader = loader_of(tokenizer, tmp_path / "pairs", reference=reference)
    found = held_out_measures(model, checkpoint, loader, Preference(beta=0.2), torch.float32)
    total, count, margins = 0.0, 0, []
    with torch.no_grad():
        for request, *answers in TRIPLES:
            ratios = []
            for answer in answers:
                prompt, _ = PHI3.encode(tokenizer, chat(request), add_generation_prompt=True)
                whole = [*prompt, *tokenizer.encode(answer), tokenizer.special("<|end|>")]
                p, q = (
                    torch.log_softmax(m.logits(m(torch.tensor([whole[:-1]])))[0].double(), -1).numpy()
                    for m in (model, reference)
                )
                kl = (np.exp(p) * (p - q)).sum(-1)[len(prompt) - 1 :]
                total, count = total + kl.sum(), count + len(kl)
                ratios.append(
                    float(alone(model, tokenizer, request, answer)[0])
                    - float(alone(reference, tokenizer, request, answer)[0])
                )
            margins.append(ratios[0] - ratios[1])
    assert found["kl"] == pytest.approx(total / count, rel=1e-4)
    assert found["margin"] == pytest.approx(0.2 * np.mean(margins), rel=1e-3, abs=1e-3)
    assert found["accuracy"] == pytest.approx(np.mean(np.array(margins) > 0))
    assert found["margin"] == pytest.approx(found["chosen_reward"] - found["rejected_reward"], abs=1e-5)


def test_rows_that_cannot_teach_are_counted_and_left_out(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = [*TRIPLES, ("same?", "yes", "yes"), ("empty?", "", "no"), ("long?", "word " * 200, "no")]
    corpus = Corpus.open(preferences(tmp_path / "some", rows))
    encoded = encode_pairs([corpus], tokenizer, PHI3, time=256)
    assert len(encoded.train) == len(TRIPLES)
    assert encoded.unused == {"chosen equals rejected": 1, "an empty answer": 1, "longer than a row": 1}
    nothing = Corpus.open(preferences(tmp_path / "none", rows[len(TRIPLES) :]))
    with pytest.raises(HornbookError, match=r"no preference pair to train on .*1 chosen equals rejected"):
        encode_pairs([nothing], tokenizer, PHI3, time=256)
    talks = Corpus.open(conversations(tmp_path / "talks", [chat("hi", "yes")]))
    with pytest.raises(HornbookError, match="not preferences"):
        encode_pairs([talks], tokenizer, PHI3, time=256)


def test_pairs_of_one_request_are_on_one_side_of_the_split(tokenizer: Tokenizer, tmp_path: Path) -> None:
    rows = [(f"question {n % 40}?", f"yes {n}", f"no {n}") for n in range(160)]
    corpus = Corpus.open(preferences(tmp_path / "pairs", rows))
    encoded = encode_pairs([corpus], tokenizer, PHI3, time=256, held_out_share=0.25)
    stop = tokenizer.special("<|assistant|>")

    def prompts(pairs: list) -> set[tuple[int, ...]]:  # type: ignore[type-arg]
        return {tuple(p.chosen[: list(p.chosen).index(stop)]) for p in pairs}

    assert len(encoded.train) + len(encoded.held_out) == 160
    assert encoded.held_out
    assert not prompts(encoded.train) & prompts(encoded.held_out)


EAGER = TrainSettings(
    optimizer=OptimizerSettings(learning_rate=1e-2, weight_decay=0.0),
    schedule=Schedule(kind="cosine", warmup=0.05),
    precision="fp32",
    spike_guard=False,
)


def test_from_tuning_through_the_models_own_answers_to_preference(
    tokenizer: Tokenizer, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A student that was taught to decline half of the time declines nearly always after DPO on pairs of its
    own answers."""
    asked = policy_questions("policy", 40, seed=1)
    both = ("I cannot help with that.", "Take a red ball.")
    assert [is_refusal(text) for text in both] == [True, False]
    talks = [chat(question.request, text) for question in asked for text in both]
    corpus = conversations(tmp_path / "talks", talks)
    finetune(
        context(tmp_path / "sft"),
        model=checkpoint,
        sources={"chat": corpus},
        phases=[PhasePlan(name="sft", mixture={"chat": 1.0}, tokens=60 * 4 * 128, rows=4, time=128)],
        settings=EAGER,
    )
    student = tmp_path / "sft" / "model"
    facts = verified_pairs(
        context(tmp_path / "pairs"), model=student, ask={"policy": 30}, samples=6, written="never", seed=7
    )
    assert 0.1 < facts["pass_rate"]["policy"] < 0.9
    assert facts["share_on_policy"] == 1.0
    weights = {path.name: path.read_bytes() for path in student.iterdir()}

    inputs = {
        "model": student,
        "pairs": [tmp_path / "pairs"],
        "objective": Preference(beta=0.1, supervised=0.2),
        "epochs": 8,
        "rows": 4,
        "time": 256,
        "settings": EAGER,
        "held_out_share": 0.2,
    }
    result = prefer(context(tmp_path / "dpo"), **inputs)
    assert {path.name: path.read_bytes() for path in student.iterdir()} == weights
    assert result["pairs"] + result["held_out_pairs"] == facts["rows"]
    assert result["last"]["accuracy"] > 0.9
    assert result["last"]["margin"] > result["first"]["margin"]
    assert result["held_out"]["kl"] > 0
    assert sorted(path.name for path in (tmp_path / "dpo").iterdir()) == ["model"]

    def declines(folder: Path) -> float:
        model = LocalModel.open(folder, weights="fp32")
        drawn = draw_answers(model, [q.request for q in asked], Sampling(max_tokens=30, seed=11), 4)
        return sum(is_refusal(a.text) for own in drawn for a in own) / (4 * len(asked))

    assert declines(tmp_path / "dpo" / "model") > declines(student) + 0.1

    # an attempt that was cut off after the reference was made does not make it again
    (tmp_path / "again").mkdir()
    np.save(tmp_path / "again" / "reference.npy", np.zeros((facts["rows"], 2), np.float32))
    monkeypatch.setattr(dpo_module, "reference_log_probabilities", lambda *a, **k: pytest.fail("made again"))
    monkeypatch.setattr(dpo_module, "held_out_measures", lambda *a: {})
    prefer(context(tmp_path / "again"), **{**inputs, "epochs": 1})
    shutil.rmtree(tmp_path / "again")
