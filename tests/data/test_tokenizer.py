"""The tokeniser: exact round trips, fixed special ids, and the same ids in transformers."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornbook.data.tokenizer import SPECIALS, Tokenizer
from hornbook.errors import HornbookError

TEXTS = [
    "Once upon a time there was a little girl named Lily. She had 3 apples and 12 pears.\n" * 8,
    'def add(a, b):\n    """Return the sum."""\n    return a + b\n\n\nprint(add(19, 23))\n' * 8,
    "Ein Mädchen aß 7 Äpfel. 日本語のテキスト。 It’s a naïve café — №5, x² + ½.\n" * 8,
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    return Tokenizer.train(TEXTS, 600, folder), folder


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_round_trips_exactly(saved, text):
    tokenizer = saved[0]
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_awkward_texts_round_trip(saved):
    for text in (
        "",
        "\x00",
        "\r\n\u2028\x85",
        " " * 50,
        "<|end|>",
        "a\u0301",
        "\ufeff",
        "\U0010ffff",
        *SPECIALS,
    ):
        assert saved[0].decode(saved[0].encode(text)) == text


def test_specials_have_the_first_ids_in_order(saved):
    assert [saved[0].special(name) for name in SPECIALS] == [0, 1, 2, 3, 4]
    assert saved[0].end_of_text == 0
    assert saved[0].vocab_size <= 600
    with pytest.raises(HornbookError, match=r"no special token <\|nope\|>"):
        saved[0].special("<|nope|>")


def test_digits_stand_one_by_one(saved):
    tokenizer = saved[0]
    for text in ("1234567", "x12", " 12", "a1b2", "½9"):
        pieces = [tokenizer.token_bytes(i).decode("utf-8", "replace") for i in tokenizer.encode(text)]
        assert all(not re.search(r"\d.|.\d", piece) for piece in pieces), pieces


def test_text_never_becomes_a_special_token_unless_asked(saved):
    tokenizer = saved[0]
    text = "a<|end|>b<|endoftext|>"
    assert min(tokenizer.encode(text)) >= 5
    assert min(min(ids) for ids in tokenizer.encode_batch([text, "<|user|>"])) >= 5
    assert tokenizer.encode(text, specials=True) == [*tokenizer.encode("a"), 4, *tokenizer.encode("b"), 0]
    assert min(tokenizer.encode(text)) >= 5  # asking once changes nothing


def test_transformers_loads_the_same_tokeniser(saved):
    from transformers import AutoTokenizer

    tokenizer, folder = saved
    reference = AutoTokenizer.from_pretrained(folder)
    for text in [*TEXTS, "  two  spaces\n\n\tand 2024", "unseen: ∮ Ж 🎈"]:
        assert reference(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text)
        assert reference(text)["input_ids"] == tokenizer.encode(text)
        assert reference.decode(tokenizer.encode(text)) == text
    assert reference.eos_token_id == 0
    assert reference.convert_tokens_to_ids("<|end|>") == 4
    assert len(reference) == tokenizer.vocab_size
    assert reference.chat_template == tokenizer.chat_template


def test_saved_and_loaded_are_equal(saved, tmp_path):
    tokenizer, folder = saved
    again = Tokenizer.load(folder)
    assert again.template is not None
    assert again.template.name == "phi3"
    assert again.specials == tokenizer.specials
    again.save(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    assert Tokenizer.load(tmp_path / "tokenizer.json").encode(TEXTS[2]) == tokenizer.encode(TEXTS[2])


def test_training_twice_gives_the_same_vocabulary(saved):
    again = Tokenizer.train(iter(TEXTS), 600)
    assert again.encode_batch(TEXTS) == saved[0].encode_batch(TEXTS)


def test_batch_equals_one_by_one(saved):
    assert saved[0].encode_batch([*TEXTS, ""]) == [saved[0].encode(t) for t in [*TEXTS, ""]]


def test_bytes_per_token(saved):
    tokenizer = saved[0]
    count = sum(len(tokenizer.encode(t)) for t in TEXTS)
    assert tokenizer.bytes_per_token(TEXTS) == sum(len(t.encode()) for t in TEXTS) / count
    assert tokenizer.bytes_per_token(TEXTS) > 1.5
    assert tokenizer.bytes_per_token([]) == 0.0
    joined = b"".join(tokenizer.token_bytes(i) for i in tokenizer.encode(TEXTS[2]))
    assert joined == TEXTS[2].encode()


def test_a_foreign_tokeniser_is_read_with_its_own_special_tokens(tmp_path):
    """A GPT-2 shaped folder: end of text at the end of the vocabulary, a post-processor that adds tokens."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Backend(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|im_start|>", "<|stop|>"])
    backend.post_processor = processors.TemplateProcessing(
        "<|im_start|> $A", special_tokens=[("<|im_start|>", 256)]
    )
    backend.enable_padding(length=64)
    backend.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<|stop|>"}}))
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.specials == {"<|im_start|>": 256, "<|stop|>": 257}
    assert tokenizer.end_of_text == 257
    assert tokenizer.vocab_size == 258
    assert (tokenizer.chat_template, tokenizer.template) == ("{{ messages }}", None)
    assert len(tokenizer.encode("abc")) == 3
    assert len(tokenizer.encode_batch(["abc", "a"])[1]) == 1


def test_wrong_input_is_named(saved, tmp_path):
    with pytest.raises(HornbookError, match="at least 261"):
        Tokenizer.train(TEXTS, 260)
    with pytest.raises(HornbookError, match="no text"):
        Tokenizer.train([], 600)
    with pytest.raises(HornbookError, match=r"tokenizer\.json is missing"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(HornbookError, match="not a tokeniser"):
        Tokenizer.load(tmp_path)
    for bad in ("a\ud800b", None):
        with pytest.raises(HornbookError, match=r"lone surrogate|not a string"):
            saved[0].encode(bad)
        with pytest.raises(HornbookError, match=r"lone surrogate|not a string"):
            saved[0].encode_batch(["fine", bad])
