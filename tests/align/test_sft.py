"""Fine-tuning end to end on a small student, and its batches against conversations one at a time."""

import json
import os
from pathlib import Path

import pytest
import torch
from small_students import chat, context, conversations, tiny_student

from hornbook.align.conversations import write_conversations
from hornbook.align.sft import finetune
from hornbook.data.chat import ChatTemplate
from hornbook.data.corpus import Corpus
from hornbook.data.packing import PackedLoader
from hornbook.data.tokenizer import Tokenizer
from hornbook.data.tokens import TokenFile, TokenWriter
from hornbook.errors import HornbookError
from hornbook.infer.engine import Engine
from hornbook.lm.base import Sampling
from hornbook.model.hf import load_checkpoint
from hornbook.train.batches import to_tensors
from hornbook.train.objectives import next_token
from hornbook.train.pretrain import PhasePlan
from hornbook.train.schedule import Schedule
from hornbook.train.settings import OptimizerSettings, TrainSettings

FAST = TrainSettings(
    optimizer=OptimizerSettings(learning_rate=1e-2, weight_decay=0.0),
    schedule=Schedule(kind="cosine", warmup=0.05),
    precision="fp32",
    spike_guard=False,
)


def test_packed_conversations_give_the_gradient_of_each_one_alone(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    talks = [chat(f"number {n}?", f"it is {n * n}.", "sure?", "yes " * (n % 4)) for n in range(12)]
    corpus = Corpus.open(conversations(tmp_path / "corpus", talks))
    write_conversations(corpus, tokenizer, ChatTemplate("phi3"), tmp_path / "tokens", time=128)
    loader = PackedLoader([(TokenFile.open(tmp_path / "tokens"), 1.0)], rows=16, time=128, seed=0)
    rows = loader.rows_per_epoch[0]
    assert rows < len(talks) / 2  # conversations share rows, or this test says nothing
    model = tiny_student(tokenizer).double()

    packed = next_token(model, to_tensors(loader.batch(0)).rows(0, rows))
    packed.sum.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    total, count = torch.zeros((), dtype=torch.float64), 0
    for talk in talks:
        ids, mask = ChatTemplate("phi3").encode(tokenizer, talk)
        logits = model.logits(model(torch.tensor([ids[:-1]])))[0]
        at = torch.tensor(mask[1:]).bool()
        total = total + torch.nn.functional.cross_entropy(
            logits[at], torch.tensor(ids[1:])[at], reduction="sum"
        )
        count += int(at.sum())
    total.backward()
    assert int(packed.tokens) == count
    torch.testing.assert_close(packed.sum.double(), total.detach(), rtol=1e-6, atol=0)
    for name, p in model.named_parameters():
        torch.testing.assert_close(gradients[name], p.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_a_student_learns_to_answer_and_to_stop(
    tokenizer: Tokenizer, checkpoint: Path, tmp_path: Path
) -> None:
    answers = {"red?": "a ball", "small?": "a cat", "apples?": "12", "time?": "Once"}
    talks = [chat(question, answer) for question, answer in answers.items()] * 8
    corpus = conversations(tmp_path / "talks", talks)
    with TokenWriter(tmp_path / "replay", tokenizer.vocab_size) as writer:
        for n in range(40):
            writer.write([*tokenizer.encode(f"a red ball {n} in the garden"), tokenizer.end_of_text])
    before = (checkpoint / "model.safetensors").read_bytes()
    facts = finetune(
        context(tmp_path / "step"),
        model=checkpoint,
        sources={"chat": corpus, "replay": tmp_path / "replay"},
        phases=[
            PhasePlan(
                name="sft", mixture={"chat": 0.75, "replay": 0.25}, tokens=120 * 4 * 64, rows=4, time=64
            )
        ],
        settings=FAST,
        validation={"chat": corpus},
    )
    made = tmp_path / "step" / "model"
    assert (checkpoint / "model.safetensors").read_bytes() == before
    assert sorted(os.listdir(tmp_path / "step")) == ["model"]
    assert not (made / "training").exists()
    generation = json.loads((made / "generation_config.json").read_text())
    assert tokenizer.special("<|end|>") in generation["eos_token_id"]
    assert facts["conversations"]["chat"]["whole"] == len(talks)
    assert facts["epochs"]["chat"] > facts["epochs"]["replay"] > 0
    assert facts["bits_per_byte"]["chat"] < 0.5

    tool = Tokenizer.load(made)
    engine = Engine(load_checkpoint(made), tool, weights="fp32")
    prompts = [ChatTemplate("phi3").encode(tool, chat(q), add_generation_prompt=True)[0] for q in answers]
    generations = engine.generate(prompts, Sampling(temperature=0.0, max_tokens=20))
    assert [g[0].text for g in generations] == list(answers.values())
    assert all(g[0].stopped_by == tool.special("<|end|>") for g in generations)


def test_what_cannot_be_trained_is_refused_by_name(
    tokenizer: Tokenizer, checkpoint: Path, tmp_path: Path
) -> None:
    corpus = conversations(tmp_path / "talks", [chat("hi", "yes")])
    phase = PhasePlan(name="sft", mixture={"chats": 1.0}, tokens=64, rows=1, time=32)
    with pytest.raises(HornbookError, match="mixes chats, which was not given"):
        finetune(context(tmp_path / "a"), model=checkpoint, sources={"chat": corpus}, phases=[phase])
    with pytest.raises(HornbookError, match="at least one phase"):
        finetune(context(tmp_path / "b"), model=checkpoint, sources={"chat": corpus}, phases=[])
    tokenizer_without = Tokenizer.load(checkpoint)
    tokenizer_without.config.pop("chat_template")
    tokenizer_without.save(checkpoint)
    with pytest.raises(HornbookError, match="no chat template"):
        finetune(context(tmp_path / "c"), model=checkpoint, sources={"chat": corpus}, phases=[phase])
