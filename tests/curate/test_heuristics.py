"""Rules recomputed by plain Python, and the documents each rule is meant to catch."""

import re

import numpy as np
import pytest

from hornbook.curate import heuristics as h
from hornbook.curate.words import split
from hornbook.errors import HornbookError

PROSE = (
    "The river that runs past the town was once the border of two kingdoms, and it is still wide enough "
    "to stop an army. People who live on its banks have learned to read its moods with care. In spring it"
    " carries snow from the hills; in autumn it is so low that children cross on stones. Nobody remembers"
    " who built the bridge. "
    "A fisherman told me that his grandfather had helped to mend it after the great flood. I believe him.\n"
)
TEXTS = [
    PROSE,
    "",
    "x",
    "\n\n\n",
    "# Heading ...\n- item one\n* item two\n• item three… and more...\nLast line ends here.",
    "def f(x):\n    return {'a': x, 'b': [1, 2, 3]}\n\n# comment\nclass A:\n    pass\n",
    "Lorem ipsum dolor sit amet. LOREM, ipsum! " + PROSE,
    "123 456 789 !!! ??? “quoted.” Ünïcödé words — with dashes。",
    "abc\0def\x01\x02" + PROSE,
    "wait.... what..... no.. yes...",
]


def naive(text):
    words = re.findall(r"\w+", text)
    lines = [line.strip(" \t\r\0") for line in text.split("\n")]
    full = [line for line in lines if line]
    visible = [c for c in text if not c.isspace() and c != "\0"]

    def part(values, whole):
        return sum(values) / len(whole) if whole else 0.0

    return {
        "characters": len(text),
        "words": len(words),
        "mean_word_length": part(map(len, words), words),
        "hash_ratio": text.count("#") / len(words) if words else 0,
        "ellipsis_ratio": (text.count("...") + text.count("…")) / len(words) if words else 0,
        "bullet_lines": part((line[0] in "-*•‣▶◦●■□–" for line in full), full),
        "ellipsis_lines": part((line.endswith(("...", "…")) for line in full), full),
        "alphabetic_words": part((any(c.isalpha() for c in w) for w in words), words),
        "stop_words": len({w.lower() for w in words} & set(h.STOP_WORDS.split())),
        "curly_brackets": text.count("{"),
        "lorem_ipsum": len(re.findall(r"\blorem\W+ipsum\b", text.lower())),
        "terminal_punctuation": part((line[-1] in ".!?\"'”’»。！？…" for line in full), full),
        "short_lines": part((len(line) <= 30 for line in full), full),
        "line_breaks_per_word": text.count("\n") / len(words) if words else 0,
        "mean_line_length": part(map(len, full), full),
        "longest_line": max(map(len, full), default=0),
        "alphanumeric": part((c.isalnum() for c in visible), visible),
        "letters": part((c.isalpha() for c in visible), visible),
        "control_characters": part((ord(c) < 32 and c not in "\t\n\v\f\r\x1b" for c in text), text),
    }


def test_measures_equal_plain_python():
    got = h.measure(split(TEXTS))
    assert tuple(sorted(got)) == tuple(sorted(h.MEASURES))
    for d, text in enumerate(TEXTS):
        for name, value in naive(text).items():
            assert got[name][d] == pytest.approx(value), (name, text)


def test_measures_do_not_depend_on_the_batch():
    together = h.measure(split(TEXTS))
    for d, text in enumerate(TEXTS):
        alone = h.measure(split([text]))
        assert {k: v[0] for k, v in alone.items()} == {k: v[d] for k, v in together.items()}


def test_sentences():
    texts = [
        "One. Two! Three?",
        "e.g. 3.14 is pi",
        "no end",
        'He said "stop." Then',
        "你好。再见。",
        "a.b.c",
        "",
    ]
    assert h.measure(split(texts))["sentences"].tolist() == [3, 1, 0, 1, 2, 0, 0]


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        (PROSE * 2 + "Some other words end it.", "prose", "duplicate_lines"),
        ("Short text.", "prose", "too_few_words"),
        (PROSE + "\n".join(f"{i} ..." for i in range(20)), "prose", "ellipses"),
        (PROSE + "Lorem ipsum.", "prose", "lorem_ipsum"),
        (PROSE + "function() { return 1 }.", "prose", "curly_brackets"),
        ("buy cheap " * 60 + "the and.", "docs", "top_2gram"),
        ("Wort Satz Haus Baum Tisch Stuhl " * 20, "prose", "stop_words"),
        ("x" * 30 + " " + PROSE.replace(" ", ""), "prose", "too_few_words"),
        ("a = 1  " + "x" * 2000 + "\n" + PROSE, "code", "long_lines"),
        (PROSE + "\0" * 5, "prose", "binary"),
        (" ".join(str(i) for i in range(300)), "code", "words_without_letters"),
    ],
)
def test_a_rule_catches_what_it_is_for(text, kind, reason):
    verdict = h.judge(h.measure(split([text])), [kind], h.DEFAULT_RULES)
    assert verdict.names == [reason]
    rule = verdict.rules[verdict.reason[0]]
    assert rule.breaks(verdict.score)[0]


def test_good_text_passes_and_has_no_score():
    code = "\n".join(
        f"def area_{w}(w, h):\n    '''Area of a {w} shape.'''\n    return w * h + {i}"
        for i, w in enumerate(["round", "flat", "square", "wide", "tall"])
    )
    verdict = h.judge(h.measure(split([PROSE, code])), ["prose", "code"], h.DEFAULT_RULES)
    assert verdict.names == [None, None]
    assert np.isnan(verdict.score).all()


def test_every_default_rule_names_its_source():
    assert all(rule.source and rule.measure in h.MEASURES for rule in h.DEFAULT_RULES)


def test_a_wrong_rule_is_refused():
    with pytest.raises(HornbookError, match="no measure 'wrds'"):
        h.Rule(name="x", measure="wrds", at_most=1)
    with pytest.raises(HornbookError, match="no bound"):
        h.Rule(name="x", measure="words")
    with pytest.raises(HornbookError, match="unknown kind 'poem'"):
        h.Rule(name="x", measure="words", at_most=1, kinds=("poem",))
