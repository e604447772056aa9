"""Pages against a plain model of them: a dictionary of what each page was last said to hold."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from hornbook.infer.cache import PAGE
from hornbook.infer.pages import PagePool


def held(pool: PagePool, texts: dict[int, list[int]], tokens: list[int]) -> int:
    """How many of `tokens` the pool says it knows; what it says is checked against the pages' true
    content."""
    pages, partly, source = pool.find(tokens)
    for i, page in enumerate(pages):
        assert texts[page][:PAGE] == tokens[i * PAGE : (i + 1) * PAGE]
    if source is not None:
        begin = len(pages) * PAGE
        assert texts[source][:partly] == tokens[begin : begin + partly]
    for page in pages:
        pool.give_back(page)
    return len(pages) * PAGE + partly


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_nothing_is_found_that_is_not_there(seed: int) -> None:
    """Random lives of sequences over three tokens, so that beginnings often agree, in too little memory."""
    draw = random.Random(seed)
    pool = PagePool(12, keep=draw.choice([2, 12]))
    texts: dict[int, list[int]] = {}
    live: list[tuple[list[int], list[int]]] = []
    for _ in range(60):
        if draw.random() < 0.5 or not live:
            tokens = [draw.randrange(2) for _ in range(draw.randrange(1, 70))]
            if live and draw.random() < 0.7:
                other = draw.choice(live)[1]
                tokens = [*other[: draw.randrange(len(other) + 1)], *tokens][:70]
            pages, _, _ = pool.find(tokens)
            while len(pages) * PAGE < len(tokens):
                page = pool.take()
                if page is None:
                    break
                pages.append(page)
            if len(pages) * PAGE < len(tokens):
                for page in pages:
                    pool.give_back(page)
                continue
            for i, page in enumerate(pages):
                texts[page] = tokens[i * PAGE : (i + 1) * PAGE]
            live.append((pages, tokens))
        else:
            pages, tokens = live.pop(draw.randrange(len(live)))
            if draw.random() < 0.8:
                pool.name(pages, tokens)
            for page in reversed(pages):
                pool.give_back(page)
        held(pool, texts, [draw.randrange(2) for _ in range(40)])
        if live:
            held(pool, texts, draw.choice(live)[1])
    for pages, _ in live:
        for page in pages:
            pool.give_back(page)
    assert pool.free == 12
    assert sorted(page for page in (pool.take() for _ in range(12)) if page is not None) == list(range(12))
    assert pool.take() is None


def test_a_beginning_is_found_to_the_token() -> None:
    pool = PagePool(8, keep=8)
    tokens = list(range(40))
    pages = [page for page in (pool.take() for _ in range(3)) if page is not None]
    pool.name(pages, tokens)
    found, partly, source = pool.find([*tokens[:37], 99, 100])
    assert (found, partly, source) == (pages[:2], 5, pages[2])
    assert pool.find(tokens, long=True) == ([], 0, None)


def test_what_nobody_asked_for_longest_goes_first() -> None:
    pool = PagePool(2, keep=2)
    for first in (0, 1):
        page = pool.take()
        assert page is not None
        pool.name([page], [first] * PAGE)
        pool.give_back(page)
    again, _, _ = pool.find([0] * PAGE)
    pool.give_back(again[0])
    pool.take()
    assert pool.find([0] * PAGE)[0] == again
    assert pool.find([1] * PAGE)[0] == []
