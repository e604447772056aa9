"""Diversity figures against brute force."""

from hypothesis import given
from hypothesis import strategies as st

from hornbook.synth.diversity import distinct, diversity, near_duplicate_share, overlap, rouge_precision
from hornbook.synth.stories import story_rows

TEXT = st.lists(st.sampled_from(["a", "b", "c", "dog"]), min_size=0, max_size=12).map(" ".join)


@given(st.lists(TEXT, max_size=6), st.lists(TEXT, max_size=6), st.integers(1, 4))
def test_overlap_is_what_counting_by_hand_gives(sample: list[str], other: list[str], n: int) -> None:
    total = hits = 0
    for text in sample:
        words = text.split()
        for at in range(len(words) - n + 1):
            gram = words[at : at + n]
            total += 1
            found = False
            for second in other:
                others = second.split()
                found = found or any(others[i : i + n] == gram for i in range(len(others) - n + 1))
            hits += found
    assert overlap(sample, other, n) == (hits / total if total else 0.0)


@given(st.lists(TEXT, min_size=1, max_size=8))
def test_near_duplicates_by_all_pairs(texts: list[str]) -> None:
    def grams(text: str) -> set[tuple[str, ...]]:
        words = text.split()
        return {tuple(words[i : i + 2]) for i in range(len(words) - 1)}

    expected = 0
    for number, text in enumerate(texts):
        mine = grams(text)
        expected += any(
            mine & grams(earlier) and len(mine & grams(earlier)) / len(mine | grams(earlier)) >= 0.5
            for earlier in texts[:number]
        )
    assert near_duplicate_share(texts, 0.5, 2) == expected / len(texts)


def test_rouge_clips_repeats() -> None:
    assert rouge_precision("the cat the cat the cat", "the cat sat", 2) == 1 / 5
    assert rouge_precision("a b c", "a b c", 2) == 1.0
    assert rouge_precision("", "a b", 2) == 0.0


def test_distinct_counts() -> None:
    assert distinct(["a b a b"], 2) == 2 / 3


def test_stories_do_not_repeat_each_other() -> None:
    texts = [row["text"] for row in story_rows(21, 1000)]
    figures = diversity(texts)
    assert figures["overlap_13"] < 0.03
    assert figures["near_duplicates"] < 0.002
    copied = diversity(texts[:500] + [text.replace("One", "Some") for text in texts[:500]])
    assert copied["near_duplicates"] > 0.45, "the figure sees copies"
