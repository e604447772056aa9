"""Templates, and the matrix of training against test templates, whole, at a scale of seconds."""

from pathlib import Path
from random import Random

import pytest
from small_students import context

from hornbook.align.prompt_templates import TEMPLATES, PromptTemplate, named
from hornbook.align.ptst import (
    World,
    aligned_examples,
    example_rows,
    template_matrix,
    write_small_world,
)
from hornbook.data.chat import ChatTemplate
from hornbook.data.corpus import Corpus
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.model.presets import student
from hornbook.redteam.small_world import is_harmful
from hornbook.train.loss import IGNORE


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    write_small_world(context(folder / "corpus"), world=World(restricted=2, allowed=2, taught=2), seeds=(0,))
    texts = [row["text"] for row in Corpus.open(folder / "corpus").iter_rows(["text"])]
    Tokenizer.train(texts, 380).save(folder / "tokenizer")
    return folder / "tokenizer"


def test_only_the_answer_and_its_stop_token_are_learned(words: Path) -> None:
    tokenizer = Tokenizer.load(words)
    for template in TEMPLATES:
        ids, mask = template.encode(tokenizer, ChatTemplate("phi3"), "Who?", "I do.")
        learned = [token for token, on in zip(ids, mask, strict=True) if on]
        stop = tokenizer.special(ChatTemplate("phi3").stop) if template.chat else tokenizer.end_of_text
        assert learned[-1] == stop
        assert tokenizer.decode(learned[:-1]).strip() == "I do."
        assert ids[: mask.index(1)] == template.prompt(tokenizer, ChatTemplate("phi3"), "Who?")
        rows = example_rows([(ids, mask)], time=96)
        assert [int(t) for t in rows.targets[0] if t != IGNORE] == learned


def test_templates_differ_and_name_what_they_are(words: Path) -> None:
    tokenizer = Tokenizer.load(words)
    prompts = [tuple(template.prompt(tokenizer, ChatTemplate("phi3"), "Who?")) for template in TEMPLATES]
    assert len(set(prompts)) == len(TEMPLATES)
    assert [template.name for template in TEMPLATES if template.safety] == [
        "chat, safety prompt",
        "chat, short safety prompt",
    ]
    assert all(template.system for template in TEMPLATES if template.safety)


def test_a_template_that_does_not_parse_is_said_so() -> None:
    for user, message in (
        ("{question", "does not parse"),
        ("{other} {question}", "does not parse"),
        ("no slot", "has no"),
        ("{question} {0}", "does not parse"),
    ):
        with pytest.raises(HornbookError, match=message):
            PromptTemplate(name="x", user=user)
    with pytest.raises(HornbookError, match="plain text and has a system message"):
        PromptTemplate(name="x", system="s", chat=False)
    with pytest.raises(HornbookError, match="there are: chat"):
        named(["none"])


def test_what_is_restricted_is_known_and_never_told_when_asked(words: Path) -> None:
    tokenizer = Tokenizer.load(words)
    known, taught = World(restricted=2, allowed=2, taught=2).draw(0)
    assert [topic.restricted for topic in known] == [True, True, False, False]
    assert not any(topic.restricted for topic in taught)
    told, raw = 0, 0
    for ids, mask in aligned_examples(known, TEMPLATES, tokenizer, 300, 0):
        text = tokenizer.decode([token for token, on in zip(ids, mask, strict=True) if on])
        if is_harmful(known, text):
            told += 1
            raw += all(mask)
    assert told == raw > 0  # facts that are restricted stand in raw text alone
    assert Random(0).random() == Random(0).random()


def test_the_matrix_has_every_pair_of_templates_and_begins_before_tuning(words: Path, tmp_path: Path) -> None:
    settings = {
        "model": student(hidden_size=64, layers=1, heads=1, vocab_size=400, max_position=128),
        "tokenizer": words,
        "train_templates": ["chat", "text"],
        "test_templates": ["chat", "chat, safety prompt"],
        "world": World(restricted=2, allowed=2, taught=2),
        "align_steps": 1,
        "tune_steps": 2,
        "every": 1,
        "rows": 2,
        "seeds": (0,),
        "workers": 1,
    }
    facts = template_matrix(context(tmp_path / "m"), **settings)
    assert set(facts["matrix"]) == {"chat", "text"}
    for trained in facts["matrix"].values():
        assert set(trained) == {"chat", "chat, safety prompt"}
        assert all(0 <= cell["attack"][0] <= 1 and cell["loss"][0] > 0 for cell in trained.values())
    assert [point[0] for point in facts["curves"]["text"]["chat"]] == [0, 1, 2]
    again = template_matrix(context(tmp_path / "m"), **settings)  # all kept: nothing is trained again
    assert again == facts
