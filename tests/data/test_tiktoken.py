"""Rank files against a slow encoder by rank, against `tiktoken` itself, and every fault of a file named."""

import argparse
import base64
import itertools
import json
from pathlib import Path

import pytest
import regex
from hypothesis import example, given
from hypothesis import strategies as st

from hornbook.data.chat import ChatTemplate
from hornbook.data.tiktoken import (
    CL100K,
    O200K,
    backend_of,
    merges_of,
    phi3_small_specials,
    read_ranks,
)
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError

TEXTS = (
    "def f(x):\n\treturn x[1:] + 'é' # 日本語 🎈\n\n\n",
    "don't WE'LL 3.14159 2026 helloWorld HTMLParser\r\n  \t ",
    "aaaaaaaaaaaaaaaa      ....////\n/ \n\n x",
    "<|user|> is text",
)
PATTERNS = {"cl100k": CL100K, "o200k": O200K}


def trained(alphabet_of: str = "argparse") -> dict[bytes, int]:
    """Ranks learned from a file of the standard library, bytes first."""
    text = (Path(argparse.__file__).parent / f"{alphabet_of}.py").read_text() + "aaaa" * 20 + TEXTS[0] * 5
    learned = Tokenizer.train([text], 700)
    return {learned.token_bytes(number): number - 5 for number in range(5, learned.vocab_size)}


RANKS = trained()


def write(folder: Path, ranks: dict[bytes, int], name: str = "small") -> Path:
    folder.mkdir(exist_ok=True)
    lines = [base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items()]
    (folder / f"{name}.tiktoken").write_bytes(b"".join(lines))
    return folder


def by_rank(text: str, pattern: str) -> list[int]:
    """The rule itself: in every cut, join the leftmost of the lowest-ranked neighbours until none is left."""
    out = []
    for cut in regex.findall(pattern, text):
        data = cut.encode()
        if data in RANKS:
            out.append(RANKS[data])
            continue
        parts = [data[i : i + 1] for i in range(len(data))]
        while True:
            joined = [RANKS.get(a + b) for a, b in itertools.pairwise(parts)]
            known = [rank for rank in joined if rank is not None]
            if not known:
                break
            at = joined.index(min(known))
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        out += [RANKS[part] for part in parts]
    return out


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_ids_are_those_of_the_rule(name: str) -> None:
    tokenizer = Tokenizer(backend_of(RANKS, PATTERNS[name], {"<|endoftext|>": 900}), {})

    @given(st.text(max_size=40) | st.text("ab e'lL1\n /", max_size=40))
    @example(TEXTS[0])
    @example(TEXTS[1])
    @example(TEXTS[2])
    def same(text: str) -> None:
        ids = tokenizer.encode(text)
        assert ids == by_rank(text, PATTERNS[name])
        assert b"".join({rank: token for token, rank in RANKS.items()}[i] for i in ids).decode() == text

    same()


@pytest.mark.oracle
@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_ids_are_those_of_tiktoken(name: str, tmp_path: Path) -> None:
    tiktoken = pytest.importorskip("tiktoken")
    specials = {"<|endoftext|>": 900, "<|end|>": 903}
    reference = tiktoken.Encoding(
        name, pat_str=PATTERNS[name], mergeable_ranks=RANKS, special_tokens=specials
    )
    tokenizer = Tokenizer(
        backend_of(read_ranks(write(tmp_path, RANKS) / "small.tiktoken"), PATTERNS[name], specials), {}
    )
    library = Path(argparse.__file__).parent
    for text in (*TEXTS, *((library / f"{module}.py").read_text() for module in ("heapq", "random", "ast"))):
        assert tokenizer.encode(text) == reference.encode(text, disallowed_special=())
    text = "a<|end|>b<|endoftext|>"
    assert tokenizer.encode(text, specials=True) == reference.encode(text, allowed_special="all")


def test_merges_hold_every_pair_that_joins_to_a_token() -> None:
    ranks = {b"a": 0, b"b": 1, b"ab": 2, b"aba": 3, b"ba": 4}
    assert merges_of(ranks) == [(b"a", b"b"), (b"a", b"ba"), (b"ab", b"a"), (b"b", b"a")]


def test_a_folder_with_a_rank_file_is_a_tokenizer_and_saves_as_one_that_transformers_loads(
    tmp_path: Path,
) -> None:
    from transformers import AutoTokenizer

    folder, template = write(tmp_path / "ranks", RANKS), ChatTemplate("phi3_small")
    decoder = {str(800 + 3 * i): {"content": name} for i, name in enumerate(template.specials)}
    settings = {"added_tokens_decoder": decoder, "auto_map": {"AutoTokenizer": ["code.py", None]}}
    settings |= {"tokenizer_class": "Phi3SmallTokenizer", "chat_template": template.jinja}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.specials == {name: 800 + 3 * i for i, name in enumerate(template.specials)}
    assert tokenizer.template is not None
    assert tokenizer.template.name == "phi3_small"
    tokenizer.save(tmp_path / "saved")
    again, theirs = Tokenizer.load(tmp_path / "saved"), AutoTokenizer.from_pretrained(tmp_path / "saved")
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert ids == by_rank(text, CL100K)
        assert again.encode(text) == ids
        assert b"".join(tokenizer.token_bytes(i) for i in ids) == text.encode()
        assert tokenizer.decode(ids) == text
    talk = [{"role": "user", "content": "Hi <there>"}, {"role": "assistant", "content": "Yes"}]
    expected = theirs.apply_chat_template(talk, return_dict=False)
    assert template.encode(tokenizer, talk)[0] == expected
    assert expected[0] == tokenizer.special("<|endoftext|>")


def test_phi3_small_names_every_id_of_its_table_once() -> None:
    specials = phi3_small_specials()
    assert sorted(specials.values()) == list(range(100256, 100352))
    assert specials["<|endoftext|>"] == 100257
    assert (specials["<|system|>"], specials["<|user|>"], specials["<|assistant|>"]) == (
        100261,
        100262,
        100263,
    )
    assert (specials["<|end|>"], specials["<|endofprompt|>"]) == (100266, 100276)
    assert (specials["<|dummy_id_3|>"], specials["<|dummy_id_11|>"]) == (100267, 100275)
    assert specials["<|dummy_id_12|>"] == 100277


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda text: text + b"YWI= x\n", r"line 696, is not a token in base64 and its rank: b'YWI= x'"),
        (lambda text: text + b"!!! 900\n", r"line 696, is not a token in base64"),
        (lambda text: text + b"enp6eno= 3\n", r"line 696, repeats the rank 3 of line 4"),
        (
            lambda text: text + text.splitlines()[0].replace(b" 0", b" 900"),
            "repeats a token that came before",
        ),
        (lambda text: text[len(text.splitlines()[0]) + 1 :], "no token for 1 of the 256 bytes"),
    ],
)
def test_faults_of_a_rank_file_are_named(tmp_path: Path, spoil, sentence: str) -> None:
    path = write(tmp_path, RANKS) / "small.tiktoken"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(HornbookError, match=sentence):
        read_ranks(path)


def test_a_folder_that_does_not_say_its_special_tokens_is_refused(tmp_path: Path) -> None:
    write(tmp_path, RANKS)
    with pytest.raises(HornbookError, match=r"695 ranks and nothing says which special tokens.*added_tokens"):
        Tokenizer.load(tmp_path)
    write(tmp_path, RANKS, "other")
    with pytest.raises(HornbookError, match="several rank files"):
        Tokenizer.load(tmp_path)
    with pytest.raises(HornbookError, match="share ids"):
        backend_of(RANKS, CL100K, {"<|end|>": 5})
