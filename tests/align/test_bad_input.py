"""What SFT and DPO say to input that cannot be learned from, as the user reads it; and where they train."""

import json
from pathlib import Path

import pytest
import torch
from small_students import chat, context, conversations
from test_dpo import preferences

from hornbook.align.checkpoints import open_student
from hornbook.align.dpo import encode_pairs, prefer, tokenizer_fingerprint
from hornbook.align.lora import LoRA
from hornbook.align.sft import finetune
from hornbook.data.chat import ChatTemplate
from hornbook.data.corpus import Corpus, CorpusWriter
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.infer.chat_format import ChatFormat
from hornbook.train import parallel
from hornbook.train.pretrain import PhasePlan

PHI3 = ChatTemplate("phi3")


def test_a_corpus_without_pairs(checkpoint: Path, tmp_path: Path) -> None:
    nothing = preferences(tmp_path / "pairs", [])
    with pytest.raises(HornbookError) as error:
        prefer(context(tmp_path / "a"), model=checkpoint, pairs=[nothing])
    assert str(error.value) == f"The corpus {nothing} is empty: it holds no rows. Check what was to fill it."


def test_pairs_of_equal_and_of_empty_answers(checkpoint: Path, tmp_path: Path) -> None:
    none = preferences(tmp_path / "pairs", [("same?", "yes", "yes"), ("blank?", " \n", "no"), ("?", "a", "")])
    with pytest.raises(HornbookError) as error:
        prefer(context(tmp_path / "a"), model=checkpoint, pairs=[none])
    assert "(1 chosen equals rejected, 2 an empty answer)" in str(error.value)


def test_pairs_that_are_all_held_out(tokenizer: Tokenizer, tmp_path: Path) -> None:
    corpus = Corpus.open(preferences(tmp_path / "pairs", [("why?", "so", "no")]))
    with pytest.raises(HornbookError, match=r"\(1 held out\)"):
        encode_pairs([corpus], tokenizer, PHI3, time=64, held_out_share=0.999)


def test_pairs_of_equal_tokens(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Only the first tokens of a pair may count, and those may be the same."""
    ids = {
        "prompt": [5, 6],
        "chosen": [7, 8],
        "rejected": [7, 8],
        "tokenizer": tokenizer_fingerprint(tokenizer),
    }
    row = {
        "id": "1",
        "messages": chat("why?"),
        "chosen": "so it is",
        "rejected": "so is it",
        "source": "test",
        "meta": json.dumps({"token_ids": ids}),
    }
    with CorpusWriter(tmp_path / "pairs", "preferences", lineage={}) as writer:
        writer.write_rows([row])
    with pytest.raises(HornbookError, match="1 chosen equals rejected"):
        encode_pairs([Corpus.open(tmp_path / "pairs")], tokenizer, PHI3, time=64)


def test_an_answer_longer_than_the_context(checkpoint: Path, tmp_path: Path) -> None:
    """Rows may hold two texts and be twice the context; one text may not be longer than it."""
    talk = [("long?", "word " * 120, "no"), ("short?", "yes", "no")]
    pairs = preferences(tmp_path / "pairs", talk)
    tokenizer = Tokenizer.load(checkpoint)
    encoded = encode_pairs([Corpus.open(pairs)], tokenizer, PHI3, time=2048, context=256)
    assert encoded.unused == {"longer than the context": 1}
    facts = prefer(
        context(tmp_path / "a"), model=checkpoint, pairs=[pairs], rows=1, time=2048, held_out_share=0.0
    )
    assert facts["unused"] == {"longer than the context": 1}


def test_a_conversation_longer_than_the_context(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The context of the checkpoint is 256; rows of 1024 do not make a longer one."""
    talks = conversations(tmp_path / "talks", [chat("hi", "yes", "and?", "word " * 200)])
    phase = PhasePlan(name="sft", mixture={"chat": 1.0}, tokens=1024, rows=1, time=1024)
    facts = finetune(context(tmp_path / "a"), model=checkpoint, sources={"chat": talks}, phases=[phase])
    assert facts["conversations"]["chat"]["shortened"] == 1
    alone = conversations(tmp_path / "alone", [chat("why " * 300, "no")])
    with pytest.raises(HornbookError) as error:
        finetune(context(tmp_path / "b"), model=checkpoint, sources={"chat": alone}, phases=[phase])
    assert "has an answer that fits into 256 tokens" in str(error.value)


def test_a_template_that_does_not_parse(tokenizer: Tokenizer, checkpoint: Path, tmp_path: Path) -> None:
    broken = Tokenizer.load(checkpoint)
    broken.config["chat_template"] = "{% for message in messages %}{{ message"
    broken.save(checkpoint)
    loaded = Tokenizer.load(checkpoint)
    with pytest.raises(HornbookError) as error:
        ChatFormat(loaded).encode(chat("hi"))
    assert str(error.value).startswith("The model's chat template does not parse (")
    assert str(error.value).endswith("Repair chat_template in its tokenizer_config.json.")
    talks = conversations(tmp_path / "talks", [chat("hi", "yes")])
    phase = PhasePlan(name="sft", mixture={"chat": 1.0}, tokens=64, rows=1, time=32)
    with pytest.raises(HornbookError, match="say which to train with: template is one of"):
        finetune(context(tmp_path / "a"), model=checkpoint, sources={"chat": talks}, phases=[phase])


@pytest.mark.parametrize("lora", [None, LoRA(rank=2)])
def test_students_are_trained_where_the_gpu_is(
    tokenizer: Tokenizer, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, lora: LoRA | None
) -> None:
    """The trainer trains where the parameters lie: they must be put where pretraining puts them."""
    monkeypatch.setattr(parallel, "training_device", lambda: torch.device("meta"))
    student = open_student(checkpoint, tokenizer, PHI3, lora=lora)
    assert {p.device.type for p in student.parameters()} == {"meta"}
