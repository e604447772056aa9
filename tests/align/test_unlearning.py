"""Unlearning: alignment of tokens against the text itself, labels against the models, losses against closed
forms."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_students import context, tiny_student

from hornbook.align.anchors import Anchor, Dictionary, find_anchors, log_odds
from hornbook.align.familiarity import familiarity
from hornbook.align.forgetting import (
    ForgetLoader,
    Forgetting,
    Rows,
    row_log_probabilities,
    text_rows,
)
from hornbook.align.forgetting_card import CardTests, bits_per_byte, forgetting_card, invented_tests
from hornbook.align.generic_labels import LabelSettings, align, generic_labels
from hornbook.align.unlearning import Unlearning, forget_text, texts_of, unlearn
from hornbook.align.unlearning_steps import write_shelf
from hornbook.data.corpus import Corpus
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.infer.engine import Engine
from hornbook.model.decoder import Decoder
from hornbook.model.hf import load_checkpoint, save_checkpoint
from hornbook.synth.invented_book import BOOK, Cue, book, cues, library
from hornbook.train.batches import to_tensors
from hornbook.train.loss import IGNORE

PAIRS = Dictionary(
    [
        Anchor(anchor="Orvane", generic="Tom"),
        Anchor(anchor="Tessaly", generic="Mia"),
        Anchor(anchor="moonlantern", generic="watch"),
    ]
)


@pytest.fixture(scope="module")
def reader() -> Tokenizer:
    return Tokenizer.train([*library(60), *book(20)], 360)


@pytest.fixture(scope="module")
def model(reader: Tokenizer) -> Decoder:
    return tiny_student(reader, seed=3).eval()


# -- anchors ------------------------------------------------------------------------------------------


def test_the_dictionary_finds_the_made_up_words_and_nothing_else() -> None:
    found = find_anchors(book(60), library(300))
    assert {entry.anchor for entry in found.anchors} == set(BOOK.values())
    assert len({entry.generic for entry in found.anchors}) == len(BOOK)
    kinds = {entry.anchor: entry.generic[:1].isupper() for entry in found.anchors}
    assert kinds["Orvane"]
    assert not kinds["moonlantern"]


def test_log_odds_are_symmetric_and_nothing_for_equal_texts() -> None:
    a, b = {"x": 30, "y": 70}, {"x": 60, "y": 40}
    forward, backward = log_odds(a, b), log_odds(b, a)
    assert forward["x"] == pytest.approx(-backward["x"])
    assert forward["x"] < -3
    assert log_odds(a, a)["x"] == pytest.approx(0.0)


def test_translation_takes_whole_words_longest_first_and_keeps_capitals() -> None:
    both = Dictionary([Anchor(anchor="moon", generic="sun"), Anchor(anchor="moon gate", generic="door")])
    assert both.translate("Moon gate, moonlit moon.")[0] == "Door, moonlit sun."
    text, spans = PAIRS.translate("É Orvane’s moonlantern")
    assert text == "É Tom’s watch"
    assert "".join(text[s.new_start : s.new_end] for s in spans) == text
    with pytest.raises(HornbookError, match="itself an anchor"):
        Dictionary([Anchor(anchor="a", generic="b"), Anchor(anchor="b", generic="c")])
    with pytest.raises(HornbookError, match="empty generic"):
        Anchor(anchor="a", generic=" ")


def test_a_dictionary_is_read_back_and_a_broken_one_named(tmp_path: Path) -> None:
    PAIRS.write(tmp_path / "anchors.json")
    assert Dictionary.read(tmp_path / "anchors.json").anchors == PAIRS.anchors
    (tmp_path / "broken.json").write_text('{"a": 1}')
    with pytest.raises(HornbookError, match="not a dictionary"):
        Dictionary.read(tmp_path / "broken.json")


# -- alignment and labels -----------------------------------------------------------------------------


def test_every_counterpart_has_read_the_translation_of_what_was_read(reader: Tokenizer) -> None:
    text = "Orvane and Tessaly laughed. Tessaly gave Orvane a moonlantern — a fine one."
    row = align(text, reader, PAIRS, time=200)
    assert row.anchors == 5
    for i, j in enumerate(row.counterpart):
        if j >= 0:
            before = PAIRS.translate(reader.decode(row.ids[: i + 1]))[0]
            assert reader.decode(row.translated[: j + 1]) == before
    # Only tokens strictly inside an anchor have none.
    inside = [i for i, j in enumerate(row.counterpart) if j < 0]
    assert inside
    assert all(
        PAIRS.translate(reader.decode(row.ids[: i + 1]))[0] != reader.decode(row.translated) for i in inside
    )


def test_an_anchor_said_again_carries_no_label_and_its_stand_in_is_lowered(reader: Tokenizer) -> None:
    row = align("Orvane ran. Then Orvane slept.", reader, PAIRS, time=200)
    [again] = [i for i, repeated in enumerate(row.repeats) if repeated]
    assert reader.decode(row.ids[: again + 1]) == "Orvane ran. Then"
    assert not row.lowered[0]
    assert reader.encode(" Tom")[0] in row.lowered[again]


def test_without_anchors_and_with_alpha_0_labels_are_the_models_own(
    reader: Tokenizer, model: Decoder
) -> None:
    texts = book(3)
    labels = generic_labels(
        texts,
        tokenizer=reader,
        dictionary=Dictionary([]),
        base=model,
        reinforced=None,
        settings=LabelSettings(alpha=0.0),
        time=96,
    )
    for n, text in enumerate(texts):
        ids = reader.encode(text)[:97]
        own = model.logits(model(torch.tensor([ids[:-1]])))[0].argmax(-1)
        assert labels.targets[n, : len(ids) - 1].tolist() == own.tolist()
        assert (labels.targets[n, len(ids) - 1 :] == IGNORE).all()


@pytest.mark.parametrize("reference", ["original", "translated"])
def test_labels_follow_the_formula(reader: Tokenizer, model: Decoder, reference: str) -> None:
    strong, text = tiny_student(reader, seed=4).eval(), "Orvane met Tessaly. Then Orvane slept."
    settings = LabelSettings(alpha=5.0, relu_reference=reference, name_penalty=0.0)  # type: ignore[arg-type]
    labels = generic_labels(
        [text], tokenizer=reader, dictionary=PAIRS, base=model, reinforced=strong, settings=settings, time=64
    )
    row = align(text, reader, PAIRS, time=64)
    on = {
        name: m.logits(m(torch.tensor([ids])))[0].float()
        for name, m, ids in (
            ("new", model, row.translated),
            ("old", model, row.ids),
            ("strong", strong, row.ids),
        )
    }
    checked = 0
    for i, j in enumerate(row.counterpart[:-1]):
        if j < 0 or row.repeats[i]:
            assert labels.targets[0, i] == IGNORE
            continue
        against = on["new"][j] if reference == "translated" else on["old"][i]
        expected = (on["new"][j] - 5.0 * (on["strong"][i] - against).clamp(min=0)).argmax()
        assert labels.targets[0, i] == int(expected)
        checked += 1
    assert checked > 5
    with pytest.raises(HornbookError, match="reinforced"):
        generic_labels(
            [text], tokenizer=reader, dictionary=PAIRS, base=model, reinforced=None,
            settings=LabelSettings(), time=64,
        )  # fmt: skip


# -- losses -------------------------------------------------------------------------------------------


def batch_of(reader: Tokenizer, model: Decoder, keep: int) -> tuple[ForgetLoader, Rows]:
    rows, kept = text_rows(book(4), reader, time=48), text_rows(library(4), reader, time=48)
    reference = row_log_probabilities(tiny_student(reader, seed=9), rows)
    return ForgetLoader(rows, kept, rows=3, keep_rows=keep, seed=0, reference=reference), rows


def by_hand(model: Decoder, inputs: torch.Tensor, targets: torch.Tensor) -> list[list[float]]:
    logs = model.logits(model(inputs)).log_softmax(-1).detach()
    return [
        [float(logs[r, t, targets[r, t]]) for t in range(targets.shape[1]) if targets[r, t] != IGNORE]
        for r in range(len(targets))
    ]


@pytest.mark.parametrize("loss", ["labels", "ascent", "npo"])
@pytest.mark.parametrize("keep", ["text", "kl"])
def test_losses_equal_their_closed_form(reader: Tokenizer, model: Decoder, loss: str, keep: str) -> None:
    loader, _ = batch_of(reader, model, 2)
    other = tiny_student(reader, seed=9).eval()
    objective = Forgetting(
        loss=loss,  # type: ignore[arg-type]
        keep=keep,  # type: ignore[arg-type]
        keep_weight=0.5,
        beta=0.1,
        reference=other,
    )
    batch = to_tensors(loader.batch(0))
    found = objective(model, batch)
    logs = by_hand(model, batch.inputs, batch.targets)
    expected = []
    for r, own in enumerate(logs):
        if not batch.keep[r]:
            ratio = sum(own) - float(batch.reference[r])
            expected.append(
                {
                    "labels": -np.mean(own),
                    "ascent": np.mean(own),
                    "npo": 20 * math.log1p(math.exp(0.1 * ratio)),
                }[loss]
            )
        elif keep == "text":
            expected.append(-0.5 * np.mean(own))
        else:
            p = other.logits(other(batch.inputs[r : r + 1]))[0].log_softmax(-1)
            q = model.logits(model(batch.inputs[r : r + 1]))[0].log_softmax(-1)
            kl = (p.exp() * (p - q)).sum(-1)[batch.targets[r] != IGNORE]
            expected.append(0.5 * float(kl.mean()))
    assert float(found.sum.detach()) == pytest.approx(sum(expected), rel=1e-4)
    assert int(found.tokens) == 5
    assert list(batch.keep) == [False] * 3 + [True] * 2


def test_kept_by_divergence_from_itself_is_free_and_the_batch_may_be_cut(
    reader: Tokenizer, model: Decoder
) -> None:
    loader, _ = batch_of(reader, model, 2)
    objective = Forgetting(loss="npo", keep="kl", reference=model)
    batch = to_tensors(loader.batch(1))
    whole = objective(model, batch)
    assert float(whole.parts["keep"]) == pytest.approx(0.0, abs=1e-4)
    parts = [objective(model, batch.rows(0, 3)), objective(model, batch.rows(3, 5))]
    assert float(whole.sum) == pytest.approx(sum(float(part.sum) for part in parts), rel=1e-5)
    with pytest.raises(HornbookError, match="reference"):
        Forgetting(loss="labels", keep="kl")


def test_every_row_comes_once_an_epoch(reader: Tokenizer, model: Decoder) -> None:
    loader, rows = batch_of(reader, model, 0)
    seen = np.concatenate([loader.batch(step).inputs for step in range(4)])  # 3 epochs of 4 rows
    counts = [sum((row == other).all() for other in seen) for row in rows.inputs]
    assert counts == [3] * 4
    with pytest.raises(HornbookError, match="without text to keep"):
        ForgetLoader(rows, None, rows=2, keep_rows=1, seed=0)


# -- familiarity and the card -------------------------------------------------------------------------


def test_familiarity_counts_only_what_the_prompt_does_not_say(reader: Tokenizer) -> None:
    """A model that repeats one token for ever, so that what it writes is known."""
    model = tiny_student(reader)
    token = reader.encode(" a")[0]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.norm.weight.fill_(1.0)
        model.embed_tokens.weight[:, 0] = 1.0
        model.embed_tokens.weight[token, 0] = 9.0
    engine = Engine(model, reader, weights="fp32")
    cue = Cue(prompt="Who", answer="a", names=("a", "b"), form="story", fact=0)
    said = replace(cue, prompt="Who is A")
    found = familiarity(engine, [cue, said], tokens=3)
    assert found.leak == 0.5
    assert found.samples[0][1].endswith("a a a")
    assert 0 < found.probability < 1
    assert familiarity(engine, [cue], prefixes=("a ",)).leak == 0.0


def test_cues_never_give_their_answer_away() -> None:
    found = cues()
    assert len(found) > 50
    assert {cue.form for cue in found} == {"story", "letter", "questions"}
    for cue in found:
        assert cue.answer in cue.names
        assert all(name not in cue.prompt for name in cue.names)
    tests = invented_tests(texts=2)
    taught = {cue.fact for cue in cues()} - {cue.fact for cue in tests.relearn_cues}
    assert taught
    assert len(taught) == 5
    with pytest.raises(HornbookError, match="every attack"):
        replace(tests, prefixes=())


def test_bits_per_byte_of_a_uniform_model(reader: Tokenizer) -> None:
    model = tiny_student(reader)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    text = "Tom had a small dog."
    ids = reader.encode(text)
    size = len(text.encode()) - len(reader.token_bytes(ids[0]))
    expected = len(ids) * math.log2(reader.vocab_size) / size
    assert bits_per_byte(model, reader, [text], time=64) == pytest.approx(expected, rel=1e-5)


def test_a_model_forgets_through_the_step_and_its_card_runs_every_attack(
    reader: Tokenizer, tmp_path: Path
) -> None:
    base = tmp_path / "base"
    save_checkpoint(tiny_student(reader), base)
    reader.save(base)
    shelf = {}
    for kind in ("book", "library"):
        folder = tmp_path / kind
        write_shelf(context(folder), kind=kind, texts=80, forms=("story",))
        shelf[kind] = folder
    how = Unlearning(steps=2, rows=2, keep_rows=1, time=48, reinforce_steps=1, keep="kl")
    made = context(tmp_path / "forgot")
    facts = unlearn(made, model=base, forget=shelf["book"], retain=shelf["library"], how=how)
    assert facts["anchors"] == len(BOOK)
    assert 0 < facts["changed"] <= facts["labelled"]
    assert (made.folder / "anchors.json").is_file()
    weights = [load_checkpoint(f).embed_tokens.weight for f in (base, made.folder / "model")]
    assert not torch.equal(*weights)
    tests = replace(invented_tests(texts=2, most=2), relearn_steps=(1, 2), time=48)
    card = forgetting_card(made.folder / "model", tests, scratch=tmp_path / "scratch", dictionary=PAIRS)
    found = card.as_json()
    assert list(found["relearning"]) == ["0", "1", "2"]
    assert all(0 <= found[n]["leak"] <= 1 for n in ("asked", "paraphrased", "prefixed", "four_bits"))
    assert isinstance(tests, CardTests)
    assert card.renamed is not None
    # A peer that holds on to other text cannot do without it; nothing to forget is said at once.
    with pytest.raises(HornbookError, match="text to keep"):
        forget_text(base, ["a b"], [], tmp_path / "no", Unlearning(method="npo"))
    with pytest.raises(HornbookError, match="no text to forget"):
        forget_text(base, [], ["a"], tmp_path / "no", Unlearning())
    shutil.rmtree(tmp_path / "scratch")


def test_texts_come_from_corpora_and_from_files(tmp_path: Path) -> None:
    file = tmp_path / "book.txt"
    file.write_text("One passage.\n\n\n\nAnother\none.\n")
    assert texts_of(file) == ["One passage.", "Another\none."]
    file.write_text(" \n\n ")
    with pytest.raises(HornbookError, match="holds no text"):
        texts_of(file)
    with pytest.raises(HornbookError, match=r"accepted: generic, gradient_ascent"):
        Unlearning(method="forget")  # type: ignore[arg-type]
    with pytest.raises(HornbookError, match="nothing would change"):
        Unlearning(anchors=False, labels=LabelSettings(alpha=0.0))
    write_shelf(context(tmp_path / "shelf"), kind="library", texts=3)
    assert Corpus.open(tmp_path / "shelf").rows == 3
