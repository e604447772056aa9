"""What is found and, as important, what looks alike and is left alone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornbook.curate.pii import find, mask, mask_all, suspicious
from hornbook.curate.words import split

KEY = "AKIA" + "IOSFODNN7" + "EXAMPLE"


@pytest.mark.parametrize(
    ("text", "kind", "masked"),
    [
        ("write to jo.smith+x@mail.acme.co.uk, please", "email", "write to <email>, please"),
        ("call +44 20 7946 0958 now", "phone", "call <phone> now"),
        ("call (212) 555-0187 now", "phone", "call <phone> now"),
        ("host 8.8.8.8 answered", "ip", "host <ip> answered"),
        ("card 4111 1111 1111 1111.", "card", "card <card>."),
        ("IBAN DE89 3704 0044 0532 0130 00 is", "iban", "IBAN <iban> is"),
        (f"key = '{KEY}'", "key", "key = '<key>'"),
        ("token ghp_" + "a1B2" * 9 + " leaked", "key", "token <key> leaked"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\n" + "abcd" * 20 + "\n-----END RSA PRIVATE KEY-----",
            "key",
            "<key>",
        ),
        ("2001:4860:4860:0:0:0:0:8888 up", "ip", "<ip> up"),
    ],
)
def test_found_and_masked(text, kind, masked):
    assert [f.kind for f in find(text)] == [kind]
    assert mask(text) == (masked, {kind: 1})


@pytest.mark.parametrize(
    "text",
    [
        "user@example.com and root@localhost",
        "version 3.11.7.1 and 10.0.0.1 and 192.168.1.20 and 999.1.1.1",
        "4111 1111 1111 1112 fails its checksum",
        "DE89 3704 0044 0532 0130 01 fails its checksum",
        "pi is 3.14159265358979323846",
        "@decorator\ndef f(x): return x @ y",
        "2026-11-21 12:30:45 and 0x1234567890 and 1,234,567",
        "sk-learn and risk-averse",
        "12:34:56",
        "0000 0000 0000 0000",
    ],
)
def test_look_alikes_are_left_alone(text):
    assert mask(text) == (text, {})


def test_counts_add_up_and_finds_do_not_overlap():
    texts = ["a@b.org, c@d.org", "nothing", "8.8.4.4 a@b.org"]
    masked, counts = mask_all(texts)
    assert masked == ["<email>, <email>", "nothing", "<ip> <email>"]
    assert counts == {"email": 3, "ip": 1}


def test_hostile_text_takes_no_time():
    for text in (
        "a" * 200_000,
        "1" * 200_000,
        "a@" * 50_000,
        "1.1." * 50_000,
        "+1 " * 50_000,
        "AB12 " * 40_000,
    ):
        assert mask(text) == (text, {})  # and none of it is anybody's


PIECES = [
    *("jo@acme.org", "@", "+44 20 7946 0958", "(212) 555-0187", "212.555.0187", "8.8.8.8", "1.2.3.4", "8.8."),
    *(
        "4111 1111 1111 1111",
        "4111111111111111",
        "DE89 3704 0044 0532 0130 00",
        "DE8",
        "2001:4860:4860:0:0:0:0:8888",
    ),
    *(
        "::",
        ":",
        "a:b:",
        KEY,
        "ghp_" + "a1B2" * 9,
        "word",
        " ",
        ".",
        "+",
        "12",
        "3",
        "é",
        "٣٤٥٦",
        "—",
        "漢字",
        "\n",
        "",
    ),
]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), min_size=1, max_size=8))
def test_what_is_not_suspicious_holds_nothing(texts):
    flags = suspicious(split(texts), texts)
    assert not [text for text, flag in zip(texts, flags) if not flag and find(text)]


def test_most_text_is_not_suspicious():
    texts = [
        "A page of 12 lines, written in 1987: nothing of note.",
        "x = [1, 2, 3]\ny = {'a': 4}",
        "1.5 + 2.25",
    ]
    assert not suspicious(split(texts), texts).any()
