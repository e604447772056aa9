from hypothesis import given, settings
from hypothesis import strategies as st

from hornbook.infer.speculate import Lookup

TOKENS = st.lists(st.integers(0, 3), max_size=30)


def slow_guess(text: list[int], most: int) -> list[int]:
    """What followed the latest earlier place where the last 4, 3 or 2 tokens stood."""
    for size in (4, 3, 2):
        for end in range(len(text) - 1, size - 1, -1):
            if len(text) >= size and text[end - size : end] == text[-size:]:
                return text[end : end + most]
    return []


@settings(max_examples=300, deadline=None)
@given(TOKENS, st.lists(TOKENS, min_size=1, max_size=6), st.integers(0, 5))
def test_guesses_are_what_followed_last_time(prompt: list[int], grown: list[list[int]], most: int) -> None:
    lookup, tokens = Lookup(prompt), list[int]()
    for more in grown:
        tokens += more
        expected = slow_guess([*prompt, *tokens], most) if most else []
        assert lookup.guess(tokens, most) == expected
