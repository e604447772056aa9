from engine_helpers import ByteTokenizer
from hypothesis import given
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


@given(
    st.text(alphabet="ab\né", max_size=30),
    st.lists(st.text(alphabet="ab\né", min_size=1, max_size=4), max_size=3),
)
def test_stop_strings_are_found_where_find_finds_them(text: str, stop: list[str]) -> None:
    finder = StopFinder(Pieces(ByteTokenizer()), stop)
    shown = 0
    for byte in text.encode():
        if finder.feed(byte):
            break
        settled = finder.settled()
        assert settled >= shown
        shown = settled
    found = [(text.find(s) + len(s), text.find(s)) for s in stop if s in text]
    first = min((end for end, _ in found), default=0)
    cuts = [begin for end, begin in found if end == first]
    expected = text[: min(cuts)] if cuts else text
    assert finder.text() == expected
    assert shown <= len(expected.encode())  # what was shown is never taken back
