from collections.abc import Sequence

from hypothesis import example, given, settings
from hypothesis import strategies as st

from hornbook.infer.text import Pieces, StopFinder, whole_utf8


@given(st.text(max_size=20), st.integers(0, 80))
def test_a_cut_never_splits_a_character(text: str, end: int) -> None:
    data = text.encode()
    end = min(end, len(data))
    cut = whole_utf8(data, end)
    assert end - 4 < cut <= end
    data[:cut].decode()
    longest = max(n for n in range(end + 1) if _decodes(data[:n]))
    assert cut == longest


def _decodes(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


class Cut:
    """A tokenizer whose tokens are the given pieces of a text."""

    def __init__(self, text: str, sizes: list[int]) -> None:
        data, self.pieces = text.encode(), list[bytes]()
        while data:
            size = sizes[len(self.pieces) % len(sizes)]
            self.pieces.append(data[:size])
            data = data[size:]
        self.vocab_size = len(self.pieces)

    def token_bytes(self, index: int) -> bytes:
        return self.pieces[index]

    def encode(self, text: str) -> list[int]:
        raise NotImplementedError

    def decode(self, ids: Sequence[int]) -> str:
        raise NotImplementedError


@settings(max_examples=400, deadline=None)
@given(
    st.text(alphabet="ab\né", max_size=30),
    st.lists(st.text(alphabet="ab\né", min_size=1, max_size=4), max_size=3),
    st.lists(st.integers(1, 5), min_size=1, max_size=6),
)
@example("\naé", ["aa", "\naé"], [1])
def test_stop_strings_are_found_where_find_finds_them(text: str, stop: list[str], sizes: list[int]) -> None:
    tokenizer = Cut(text, sizes)
    finder = StopFinder(Pieces(tokenizer), stop)
    read, expected, shown = b"", text, b""
    for token, piece in enumerate(tokenizer.pieces):
        stopped = finder.feed(token)
        read += piece
        places = [place for s in stop if (place := read.find(s.encode())) >= 0]
        assert stopped == bool(places)
        if stopped:
            expected = read[: min(places)].decode()
            break
        settled = finder.settled()
        assert settled >= len(shown)
        shown = read[:settled]
        shown.decode()
    assert finder.text() == expected
    assert expected.encode().startswith(shown)  # what was shown is never taken back
