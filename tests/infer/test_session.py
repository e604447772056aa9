from dataclasses import replace
from typing import Any

import pytest
from engine_helpers import ByteTokenizer, ragged, small

from hornbook.errors import HornbookError
from hornbook.infer.engine import Engine
from hornbook.infer.session import Session
from hornbook.lm.base import Sampling
from hornbook.model.config import LongRope

WARM = Sampling(temperature=1.0, top_p=0.9, seed=3, max_tokens=20)


def conversation(seed: int) -> list[list[int]]:
    """Prompts that each go on where the one before stopped, then one that parts in the middle."""
    parts = ragged(5, 8, 40, seed=seed)
    grown = [[token for part in parts[: i + 1] for token in part] for i in range(5)]
    return [*grown, [*grown[2], 1, 2, 3], grown[0], parts[1]]


@pytest.mark.parametrize("shape", [{}, {"sliding_window": 9}, {"kv_heads": 1}], ids=str)
@pytest.mark.parametrize("chunk", [7, 512])
@pytest.mark.parametrize("native", [None, False])
def test_turns_equal_fresh_answers_and_read_only_what_is_new(
    shape: dict[str, object], chunk: int, native: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hornbook.infer.engine._PASS_TOKENS", chunk)
    monkeypatch.setattr("hornbook.infer.engine._PASS_TOKENS_TORCH", chunk)
    engine = Engine(small(**shape), ByteTokenizer(), weights="fp32", native=native)
    fresh = Engine(small(**shape), ByteTokenizer(), weights="fp32", native=native)
    session = Session(engine)
    known: list[list[int]] = []
    for prompt in conversation(1):
        pieces, turn = session.stream_text(prompt, WARM)
        text = "".join(pieces)
        [[expected]] = fresh.generate([prompt], WARM)
        assert (text, turn.tokens) == (expected.text, expected.tokens)
        assert turn.finish_reason == expected.finish_reason
        assert turn.read == len(prompt) - max((agreement(k, prompt) for k in known), default=0)
        assert turn.prompt_tokens == len(prompt)
        known.append([*prompt, *turn.tokens[:-1]])


def agreement(known: list[int], prompt: list[int]) -> int:
    """Tokens of the prompt that are there already; the last one is read for its logits."""
    return next(
        (i for i, (a, b) in enumerate(zip(known, prompt[:-1])) if a != b), min(len(known), len(prompt) - 1)
    )


def test_an_answer_broken_off_leaves_the_session_good() -> None:
    engine = Engine(small(), ByteTokenizer(), weights="fp32")
    session = Session(engine)
    first, second = conversation(2)[:2]
    pieces, turn = session.stream_text(first, WARM)
    for _ in range(3):
        next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert turn.finish_reason == "cancelled"
    pieces, _ = session.stream_text(second, WARM)
    assert "".join(pieces) == engine.generate([second], WARM)[0][0].text


def test_interrupted_inside_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(small(), ByteTokenizer(), weights="fp32")
    session = Session(engine)
    prompts = conversation(3)
    "".join(session.stream_text(prompts[0], WARM)[0])
    calls = 0
    run = engine.model.run

    def interrupted(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        out = run(*given)
        if calls == 4:
            raise KeyboardInterrupt
        return out

    monkeypatch.setattr(engine.model, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        "".join(session.stream_text(prompts[1], WARM)[0])
    for prompt in prompts[1:4]:
        assert "".join(session.stream_text(prompt, WARM)[0]) == engine.generate([prompt], WARM)[0][0].text


def test_long_rope_is_read_anew_beyond_the_original_context() -> None:
    rope = LongRope(short_factor=(1.0,) * 8, long_factor=(3.0,) * 8, original_max_position=64)
    engine = Engine(small(long_rope=rope), ByteTokenizer(), weights="fp32")
    session = Session(engine)
    prompt = ragged(1, 30, 31)[0]
    for length in (10, 30, 60, 90, 20):
        text = "".join(session.stream_text((prompt * 3)[:length], WARM)[0])
        assert text == engine.generate([(prompt * 3)[:length]], WARM)[0][0].text


def test_stop_strings_and_refusals() -> None:
    engine = Engine(small(), ByteTokenizer(), weights="fp32")
    session = Session(engine)
    tried = 0
    for prompt in ragged(10, seed=9):
        [[free]] = engine.generate([prompt], WARM)
        end = next((c for c in free.text[3:] if c.isascii()), None)
        if end is None:
            continue
        stop = replace(WARM, stop=(end,))
        [[cut]] = engine.generate([prompt], stop)
        pieces, turn = session.stream_text(prompt, stop)
        assert ("".join(pieces), turn.finish_reason, turn.tokens) == (cut.text, "stop", cut.tokens)
        tried += 1
    assert tried
    with pytest.raises(HornbookError, match="empty"):
        session.stream_text([])
    with pytest.raises(HornbookError, match="context holds 256"):
        session.stream_text([1] * 256)
