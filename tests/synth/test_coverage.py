"""Coverage against counting by hand, and steering against drawing at random, where the truth is known."""

import re
from random import Random

import numpy as np
import pytest

from hornbook.errors import HornbookError
from hornbook.synth.coverage import Cells, Coverage, choose_steered, growth, never_hit, steer, write_steered
from hornbook.synth.stories import story_rows

TEXTS = [row["text"] for row in story_rows(4, 220)]


def test_growth_is_what_counting_each_prefix_gives() -> None:
    lines = growth(TEXTS, [{"topic": str(number % 7)} for number in range(220)])
    assert [line["texts"] for line in lines] == [100, 200, 220]
    for line in lines:
        part = [re.findall(r"[a-z0-9']+", text.lower()) for text in TEXTS[: int(line["texts"])]]
        grams = [tuple(text[at : at + 4]) for text in part for at in range(len(text) - 3)]
        assert line["topic"] == 7
        assert line["grams"] == len(set(grams))
        assert line["distinct_4"] == pytest.approx(len(set(grams)) / len(grams))
    copied = growth([*TEXTS[:110], *TEXTS[:110]])
    assert copied[-1]["near_duplicates"] == pytest.approx(0.5, abs=0.01)
    assert copied[-1]["cells"] == growth(TEXTS[:110], cells=Cells.fit([*TEXTS[:110]] * 2))[-1]["cells"]
    assert copied[-1]["grams"] == growth(TEXTS[:110])[-1]["grams"]
    assert growth([]) == []


def test_an_embedding_puts_like_texts_nearer_than_unlike_ones() -> None:
    cells = Cells.fit(TEXTS)
    vectors = cells.embed([TEXTS[0], TEXTS[0].replace("and", "or"), TEXTS[1]])
    near, far = np.linalg.norm(vectors[0] - vectors[1]), np.linalg.norm(vectors[0] - vectors[2])
    assert near < 0.5 * far
    assert (cells.of(TEXTS) == cells.of(TEXTS)).all()


def test_thin_places_come_first_and_one_batch_spreads_its_calls() -> None:
    coverage = Coverage()
    for _ in range(5):
        coverage.add({"topic": "loops"}, "a loop runs and runs and runs")
    plans = [{"topic": name} for name in ("loops", "sets", "sets", "files", "loops")]
    assert steer(coverage, plans, 3) == [1, 3, 2]
    assert coverage.thinness({"topic": "files"}) == 1.0
    assert coverage.thinness({"topic": "loops"}) < 0.1
    with pytest.raises(HornbookError, match="2 plans to choose from for 3 calls"):
        steer(coverage, plans[:2], 3)
    assert never_hit(plans, "topic", ["sets", "maps", "files"]) == ["maps"]


def test_a_topic_that_brings_nothing_new_is_left_for_one_that_does() -> None:
    coverage = Coverage()
    random = Random(0)
    for _ in range(6):
        coverage.add({"topic": "dull"}, "the same four words every single time again")
        words = [f"w{random.randrange(10_000)}" for _ in range(30)]
        coverage.add({"topic": "rich"}, " ".join(words))
    assert coverage.thinness({"topic": "rich"}) > 5 * coverage.thinness({"topic": "dull"})


def test_steering_covers_more_topics_a_call_than_drawing_at_random() -> None:
    random = Random(3)
    plans = [{"topic": f"t{int(200 * random.random() ** 2)}"} for _ in range(1200)]
    asked: list[int] = []

    def write(numbers: object) -> list[str]:
        asked.extend(numbers)  # type: ignore[call-overload]
        return [f"about {plans[number]['topic']} and nothing else at all" for number in numbers]  # type: ignore

    used = write_steered(plans, 200, write, batch=20)
    assert used == asked
    assert len(set(used)) == 200
    steered = len({plans[number]["topic"] for number in used})
    assert steered > 1.15 * len({plan["topic"] for plan in plans[:200]})


def test_a_batch_ahead_the_choice_is_the_same_whenever_answers_come() -> None:
    """With one batch on its way the next is chosen from the texts before it, and waits for no other."""
    plans = [{"topic": f"t{n % 7}", "form": f"f{n % 3}"} for n in range(90)]
    written = {n: f"text {n % 7} of form {n % 3} and {n % 11} more words {n % 5} here" for n in range(90)}

    def chosen(late: int, ahead: int) -> list[int]:
        texts: list[str] = []
        used: list[int] = []
        waits = 0
        for picked in choose_steered(plans, 30, texts, batch=6, ahead=ahead):
            if picked is None:
                waits += 1
                texts.append(written[used[len(texts)]])
                continue
            used += picked
            while len(texts) < len(used) - late:  # what comes before it must
                texts.append(written[used[len(texts)]])
        assert (waits > 0) == (late > 6 * ahead)
        return used

    assert chosen(0, 1) == chosen(5, 1) == chosen(6, 1) == chosen(11, 1) != chosen(0, 0)
    assert (
        chosen(0, 0) == chosen(6, 0) == write_steered(plans, 30, lambda ns: [written[n] for n in ns], batch=6)
    )
    assert len(set(chosen(0, 1))) == 30
