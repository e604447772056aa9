import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_helpers import ByteTokenizer, full_logits, naive_greedy, ragged, small
from hypothesis import given, settings
from hypothesis import strategies as st

from hornbook.errors import HornbookError
from hornbook.infer.engine import Engine
from hornbook.lm.base import Sampling
from hornbook.model.config import LongRope
from hornbook.model.decoder import Decoder

NATIVE = [pytest.param(None, id="kernels"), pytest.param(False, id="torch")]
"""With the compiled kernels, where there is a compiler, and without."""

GREEDY = Sampling(temperature=0.0, max_tokens=12)
WARM = Sampling(temperature=1.0, top_p=0.9, seed=3, max_tokens=20)


@pytest.fixture(scope="module")
def model() -> Decoder:
    return small()


@pytest.fixture(scope="module", params=NATIVE)
def engine(model: Decoder, request: pytest.FixtureRequest) -> Engine:
    return Engine(model, ByteTokenizer(), weights="fp32", max_rows=8, native=request.param)


PHI_2 = {
    "family": "phi",
    "block": "parallel",
    "norm": "layernorm",
    "activation": "gelu_new",
    "attention_bias": True,
    "mlp_bias": True,
    "head_bias": True,
    "tied_embeddings": False,
    "rotary_fraction": 0.5,
    "kv_heads": 4,
}
WINDOW = {"sliding_window": 9}


@pytest.mark.parametrize("shape", [{}, {"kv_heads": 4}, {"kv_heads": 1}, PHI_2, WINDOW], ids=str)
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("native", NATIVE)
def test_cached_ragged_and_replaced_rows_equal_full_passes(
    shape: dict[str, object], samples: int, native: bool | None
) -> None:
    """More prompts than rows, unequal lengths: every answer equals the one without cache and batch."""
    model = small(**shape)
    prompts = ragged(13)
    answers = Engine(model, weights="fp32", max_rows=6, native=native).generate(prompts, GREEDY, samples)
    for prompt, own in zip(prompts, answers):
        expected = naive_greedy(model, prompt, 12)
        assert [a.tokens for a in own] == [expected] * samples


def test_unequal_answer_lengths_free_rows_for_others(model: Decoder) -> None:
    prompts = ragged(20)
    each = [Sampling(temperature=0.0, max_tokens=1 + 7 * i % 23) for i in range(20)]
    for samples in (1, 2):
        answers = Engine(model, weights="fp32", max_rows=4).generate(prompts, each, samples)
        for prompt, sampling, own in zip(prompts, each, answers):
            assert own[-1].tokens == naive_greedy(model, prompt, sampling.max_tokens)
            assert own[-1].finish_reason == "length"


def test_more_samples_than_rows_of_one_prompt(model: Decoder) -> None:
    [few] = Engine(model, weights="fp32", max_rows=3).generate([[5, 6, 7]], WARM, 10)
    [many] = Engine(model, weights="fp32", max_rows=64).generate([[5, 6, 7]], WARM, 10)
    assert [a.tokens for a in few] == [a.tokens for a in many]
    assert len({tuple(a.tokens) for a in many}) == 10


@pytest.mark.parametrize("extra", [{}, {"repetition_penalty": 1.3, "frequency_penalty": 0.2}, {"top_k": 7}])
def test_same_seed_alone_or_in_a_batch_gives_the_same_text(engine: Engine, extra: dict[str, float]) -> None:
    sampling = Sampling(temperature=1.0, top_p=0.9, seed=11, max_tokens=24, **extra)
    prompts = ragged(17, seed=1)
    together = engine.generate(prompts, sampling, 3)
    for prompt, own in zip(prompts, together):
        [alone] = engine.generate([prompt], sampling, 3)
        assert [a.tokens for a in alone] == [a.tokens for a in own]
        assert len({tuple(a.tokens) for a in own}) == 3


def test_seeds_differ_and_no_seed_is_fresh(engine: Engine) -> None:
    def draw(seed: int | None) -> list[int]:
        return engine.generate([[9, 8, 7]], Sampling(seed=seed, max_tokens=20))[0][0].tokens

    assert draw(1) == draw(1) != draw(2)
    assert draw(None) != draw(None)


def test_long_prompt_arriving_late_makes_room(model: Decoder) -> None:
    """Short prompts first, then one longer than everything read so far, in the same batch."""
    prompts = [*ragged(9, 3, 6), ragged(1, 150, 151, seed=5)[0], *ragged(5, 3, 6, seed=2)]
    answers = Engine(model, weights="fp32", max_rows=3).generate(prompts, GREEDY)
    assert [a[0].tokens for a in answers] == [naive_greedy(model, p, 12) for p in prompts]


def test_long_answers_shift_the_slots(model: Decoder) -> None:
    prompts = ragged(12, 3, 30, seed=8)
    each = [Sampling(temperature=0.0, max_tokens=90 if i % 2 else 15) for i in range(12)]
    answers = Engine(model, weights="fp32", max_rows=3, max_tokens_in_memory=3 * 200 + 200).generate(
        prompts, each
    )
    for prompt, sampling, [answer] in zip(prompts, each, answers):
        assert answer.tokens == naive_greedy(model, prompt, sampling.max_tokens)


@pytest.mark.parametrize("native", NATIVE)
def test_prompts_longer_than_one_pass(
    monkeypatch: pytest.MonkeyPatch, model: Decoder, native: bool | None
) -> None:
    monkeypatch.setattr("hornbook.infer.engine._PASS_TOKENS", 16)
    monkeypatch.setattr("hornbook.infer.engine._PASS_TOKENS_TORCH", 16)
    prompts = ragged(6, 20, 60, seed=4)
    answers = Engine(model, weights="fp32", native=native).generate(prompts, GREEDY)
    assert [a[0].tokens for a in answers] == [naive_greedy(model, p, 12) for p in prompts]


@pytest.mark.parametrize("native", NATIVE)
def test_long_rope_factors_follow_the_request_not_the_batch(native: bool | None) -> None:
    rope = LongRope(short_factor=(1.0,) * 8, long_factor=(3.0,) * 8, original_max_position=32)
    engine = Engine(small(long_rope=rope), weights="fp32", native=native)
    short, long = ragged(1, 5, 6)[0], ragged(1, 60, 61)[0]
    together = engine.generate([short, long], GREEDY)
    assert together[0] == engine.generate([short], GREEDY)[0]
    assert together[1] == engine.generate([long], GREEDY)[0]


def test_logprobs_are_those_of_a_full_pass(engine: Engine, model: Decoder) -> None:
    sampling = Sampling(temperature=0.7, top_p=0.8, seed=1, max_tokens=15, logprobs=3)
    for prompt, [answer] in zip(ragged(5), engine.generate(ragged(5), sampling)):
        logs = full_logits(model, [*prompt, *answer.tokens]).log_softmax(-1)
        assert answer.logprobs is not None
        assert answer.top is not None
        for i, token in enumerate(answer.tokens):
            row = logs[len(prompt) - 1 + i]
            assert answer.logprobs[i] == pytest.approx(float(row[token]), abs=2e-5)
            assert [index for index, _ in answer.top[i]] == row.topk(3).indices.tolist()


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "warm"])
def test_stop_token_ends_and_is_not_in_the_tokens(model: Decoder, sampling: Sampling) -> None:
    """Whatever an answer holds, each of its tokens in turn is made the stop token: it ends at the first."""
    engine = Engine(model, weights="fp32", stop_tokens=[])
    for prompt in ragged(4):
        [[free]] = engine.generate([prompt], sampling)
        for token in set(free.tokens):
            [[answer]] = engine.generate([prompt], sampling, stop_tokens=[token])
            assert answer.tokens == free.tokens[: free.tokens.index(token)]
            assert (answer.finish_reason, answer.stopped_by) == ("stop", token)


def test_stop_string_across_token_borders(model: Decoder) -> None:
    """A stop string of the last byte of one token and the first of the next cuts the text before it."""
    tokenizer = ByteTokenizer()
    engine = Engine(model, tokenizer, weights="fp32")
    free = engine.generate(ragged(40, seed=6), Sampling(temperature=1.0, seed=5, max_tokens=30))
    tried = 0
    for prompt, [answer] in zip(ragged(40, seed=6), free):
        for i in range(4, 28):
            pair = answer.text[i : i + 2]
            if len(pair) == 2 and pair.isascii() and answer.text.find(pair) == i:
                stop = Sampling(temperature=1.0, seed=5, max_tokens=30, stop=("never", pair))
                [[cut]] = engine.generate([prompt], stop)
                assert cut.text == answer.text[:i]
                assert (cut.finish_reason, cut.stopped_by) == ("stop", "string")
                assert "".join(engine.stream_text(prompt, stop)) == cut.text
                assert cut.tokens == answer.tokens[: len(cut.tokens)]
                tried += 1
                break
    assert tried > 5


def test_streaming_equals_batch(engine: Engine) -> None:
    for prompt in ragged(6):
        [[answer]] = engine.generate([prompt], WARM)
        assert list(engine.stream(prompt, WARM)) == answer.tokens
        pieces = list(engine.stream_text(prompt, WARM))
        assert "".join(pieces) == answer.text
        assert len(pieces) > 1


def test_cancel_keeps_what_was_drawn(engine: Engine) -> None:
    calls = 0

    def after_five() -> bool:
        nonlocal calls
        calls += 1
        return calls > 5

    answers = engine.generate(ragged(12), Sampling(seed=0, max_tokens=50), cancel=after_five)
    assert {a.finish_reason for [a] in answers} == {"cancelled"}
    assert 0 < max(len(a.tokens) for [a] in answers) < 10


def test_closed_stream_stops_working(engine: Engine) -> None:
    stream = engine.stream([1, 2, 3], Sampling(seed=0, max_tokens=200))
    first = [next(stream) for _ in range(3)]
    stream.close()
    assert first == engine.generate([[1, 2, 3]], Sampling(seed=0, max_tokens=3))[0][0].tokens


def test_answers_are_reported_as_they_finish(engine: Engine) -> None:
    seen: dict[tuple[int, int], list[int]] = {}
    answers = engine.generate(
        ragged(9), WARM, 2, on_finish=lambda prompt, sample, got: seen.update({(prompt, sample): got.tokens})
    )
    assert seen == {(i, j): a.tokens for i, own in enumerate(answers) for j, a in enumerate(own)}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(0, 30))
def test_score_equals_full_passes(seed: int, ends: int, length: int) -> None:
    model = small()
    engine = Engine(model, weights="fp32")
    prompt = ragged(1, length, length + 1, seed=seed)[0]
    continuations = ragged(ends, 1, 12, seed=seed + 1)
    [scores] = engine.score([prompt], [continuations])
    for end, score in zip(continuations, scores):
        ids = [*prompt, *end]
        logs = full_logits(model, ids).log_softmax(-1)
        first = max(len(prompt), 1)
        expected = [float(logs[i - 1, ids[i]]) for i in range(first, len(ids))]
        assert score.tokens == len(expected)
        assert score.logprob == pytest.approx(math.fsum(expected), abs=1e-4)
        assert score.greedy == all(int(logs[i - 1].argmax()) == ids[i] for i in range(first, len(ids)))


@pytest.mark.parametrize("shape", [{}, WINDOW], ids=str)
def test_score_with_a_shared_prompt_equals_separate(shape: dict[str, object]) -> None:
    engine = Engine(small(**shape), weights="fp32")
    prompt, ends = ragged(1, 100, 101)[0], ragged(7, 1, 20, seed=3)
    [together] = engine.score([prompt], [ends])
    apart = [engine.score([prompt], [[end]])[0][0] for end in ends]
    for one, other in zip(together, apart):
        assert one.token_logprobs == pytest.approx(other.token_logprobs, abs=1e-4)


@pytest.mark.parametrize("native", NATIVE)
def test_weights_formats_stay_close_to_fp32(model: Decoder, native: bool | None) -> None:
    texts = ragged(12, 30, 60)
    expected = [
        s.logprob
        for [s] in Engine(model, weights="fp32").score([[t[0]] for t in texts], [[t[1:]] for t in texts])
    ]
    for weights, tolerance in (("bf16", 0.02), ("int8", 0.03), ("int4", 0.25)):
        scored = Engine(model, weights=weights, native=native).score(
            [[t[0]] for t in texts], [[t[1:]] for t in texts]
        )
        for a, [b] in zip(expected, scored):
            assert b.logprob / b.tokens == pytest.approx(a / b.tokens, abs=tolerance * abs(a / b.tokens))


@pytest.mark.parametrize("weights", ["bf16", "int8", "int4"])
@pytest.mark.parametrize("native", NATIVE)
def test_other_weights_generate_in_batches(model: Decoder, weights: str, native: bool | None) -> None:
    engine = Engine(model, weights=weights, max_rows=12, native=native)
    answers = engine.generate(ragged(20), Sampling(seed=0, max_tokens=10), 2)
    assert all(len(a.tokens) == 10 for own in answers for a in own)
    assert engine.model.weight_bytes() > 0


class TestRefusals:
    def test_prompt_longer_than_the_context(self, engine: Engine) -> None:
        with pytest.raises(HornbookError, match=r"Prompt 1 has 300 tokens.*256"):
            engine.generate([[1], [1] * 300], GREEDY)

    def test_answer_is_cut_at_the_context(self, engine: Engine) -> None:
        [[answer]] = engine.generate([[1] * 250], Sampling(temperature=0.0, max_tokens=100))
        assert (len(answer.tokens), answer.finish_reason) == (6, "length")

    def test_empty_prompt(self, engine: Engine) -> None:
        with pytest.raises(HornbookError, match="Prompt 0 is empty"):
            engine.generate([[]], GREEDY)

    def test_ids_of_another_vocabulary(self, engine: Engine) -> None:
        with pytest.raises(HornbookError, match="another tokenizer"):
            engine.generate([[5000]], GREEDY)

    def test_memory_that_does_not_hold_one_answer(self, model: Decoder) -> None:
        with pytest.raises(HornbookError, match="fit"):
            Engine(model, max_tokens_in_memory=50).generate([[1] * 40], Sampling(max_tokens=60))

    def test_memory_that_does_not_hold_the_weights(
        self, model: Decoder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hornbook.infer.engine.memory_available", lambda: 100_000)
        with pytest.raises(HornbookError, match=r"MiB for fp32 weights .* are free"):
            Engine(model, weights="fp32")

    def test_little_memory_means_fewer_rows_not_other_answers(self, model: Decoder) -> None:
        prompts = ragged(10)
        tight = Engine(model, weights="fp32", max_tokens_in_memory=64).generate(prompts, GREEDY)
        assert tight == Engine(model, weights="fp32").generate(prompts, GREEDY)

    def test_stop_strings_without_a_tokenizer(self, model: Decoder) -> None:
        with pytest.raises(HornbookError, match="tokenizer"):
            Engine(model).generate([[1]], Sampling(stop=("x",)))

    def test_unknown_weights(self, model: Decoder) -> None:
        with pytest.raises(HornbookError, match="int4"):
            Engine(model, weights="int3")  # type: ignore[arg-type]


def test_the_model_is_not_changed() -> None:
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for weights in ("fp32", "bf16", "int4"):
        Engine(model, weights=weights).generate([[1, 2]], GREEDY)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    model.train()
    assert model(torch.tensor([[1, 2]])).requires_grad


def test_a_prompt_read_before_is_not_read_again(model: Decoder) -> None:
    """The second of two prompts that begin alike reads only what is its own, and answers as if alone."""
    engine = Engine(model, weights="fp32")
    begin = ragged(1, 90, 91, seed=20)[0]
    first, second = [*begin, 1, 2, 3], [*begin, 7, 8]
    assert engine.submit(first, GREEDY).result().tokens == naive_greedy(model, first, 12)
    ticket = engine.submit(second, GREEDY)
    assert ticket.result().tokens == naive_greedy(model, second, 12)
    assert ticket.reused == 90


def test_prompts_that_begin_alike_are_read_once_in_one_call(
    model: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(model, weights="fp32")
    read = 0
    run = engine.model.run

    def counted(ids: np.ndarray, *rest: Any) -> Any:
        nonlocal read
        read += len(ids)
        return run(ids, *rest)

    monkeypatch.setattr(engine.model, "run", counted)
    begin = ragged(1, 100, 101, seed=21)[0]
    prompts = [[*begin, i] for i in range(8)]
    answers = engine.generate(prompts, Sampling(temperature=0.0, max_tokens=2), 2)
    assert read < 100 + 8 * (100 % 16 + 1 + 16) + 8 * 2 * 2 * 8
    assert [a.tokens for own in answers for a in own] == [
        naive_greedy(model, p, 2) for p in prompts for _ in range(2)
    ]


def test_memory_taken_from_the_younger_changes_no_answer(model: Decoder) -> None:
    """Answers outgrow the cache on the way: the younger begin anew, with their own numbers."""
    prompts = ragged(8, 20, 30, seed=12)
    sampling = Sampling(temperature=1.0, seed=4, max_tokens=60, repetition_penalty=1.2)
    tight = Engine(model, weights="fp32", max_rows=8, max_tokens_in_memory=160).generate(prompts, sampling)
    assert tight == Engine(model, weights="fp32").generate(prompts, sampling)


def test_every_page_comes_back(model: Decoder) -> None:
    engine = Engine(model, weights="fp32", max_rows=4, max_tokens_in_memory=512)
    for seed in range(6):
        engine.generate(ragged(7, seed=seed), Sampling(seed=seed, max_tokens=9), 2)
        engine.score([[1, 2, 3]], [ragged(3, seed=seed)])
        next(iter(engine.stream([seed, 2, 3], GREEDY)))
    engine.generate([[1]], GREEDY)
    assert engine.scheduler.pool.free == 512 // 16
    assert engine.scheduler.idle


@pytest.mark.parametrize("sampling", [GREEDY, WARM], ids=["greedy", "warm"])
@pytest.mark.parametrize("native", NATIVE)
def test_drafts_change_no_token(sampling: Sampling, native: bool | None) -> None:
    """Prompts that repeat themselves, so that guesses are made; most are wrong, some are right."""
    model = small()
    prompts = [p * 4 for p in ragged(6, 5, 12, seed=3)]
    asked = replace(sampling, max_tokens=60, logprobs=2, repetition_penalty=1.05)
    plain = Engine(model, weights="fp32", native=native, drafts=0).generate(prompts, asked)
    engine = Engine(model, weights="fp32", native=native, drafts=5)
    for prompt, [expected] in zip(prompts, plain):
        [[found]] = engine.generate([prompt], asked)
        assert found.tokens == expected.tokens
        assert found.logprobs == pytest.approx(expected.logprobs, abs=1e-4)


def test_drafts_save_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that copies: its next token is the one that followed last time."""
    model = small()
    with torch.no_grad():  # no attention, no MLP: the next token is a function of the last one
        for layer in model.layers:
            layer.attention.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    engine = Engine(model, weights="fp32", drafts=6)
    passes = 0
    run = engine.model.run

    def counted(*given: Any) -> Any:
        nonlocal passes
        passes += 1
        return run(*given)

    monkeypatch.setattr(engine.model, "run", counted)
    [[answer]] = engine.generate([[5]], Sampling(temperature=0.0, max_tokens=200))
    assert answer.tokens == naive_greedy(model, [5], 200)
    assert passes < 120


def test_threads_share_the_passes(model: Decoder) -> None:
    """Many threads ask one engine at once: each gets its own answer."""
    engine = Engine(model, ByteTokenizer(), weights="fp32", max_rows=6)
    prompts = ragged(12, seed=30)
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda p: list(engine.stream(p, GREEDY)), prompts))
    assert found == [naive_greedy(model, p, 12) for p in prompts]


def test_hidden_states_are_those_of_a_full_pass(engine: Engine, model: Decoder) -> None:
    texts = ragged(5, 3, 60, seed=40)
    for text, states in zip(texts, engine.hidden(texts)):
        with torch.no_grad():
            expected = model(torch.tensor([text]))[0]
        torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-4)


def test_a_grammar_narrows_every_token(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the sampling, tokens come from what the grammar allows; the text is not another's business."""

    class Odd:
        def __init__(self) -> None:
            self.taken: list[int] = []

        def mask(self) -> np.ndarray:
            return np.arange(300) % 2 == len(self.taken) % 2

        def take(self, token: int) -> None:
            self.taken.append(token)

    monkeypatch.setattr(engine, "_grammar", lambda schema, stops: Odd())
    for sampling in (GREEDY, replace(WARM, logprobs=1)):
        prompts = ragged(3)
        answers = engine.generate(prompts, sampling, 2, schemas=[{}, None, {}], stop_tokens=[])
        for narrowed in (answers[0], answers[2]):
            for answer in narrowed:
                assert [t % 2 for t in answer.tokens] == [i % 2 for i in range(len(answer.tokens))]
        free = engine.generate(prompts[1:2], sampling, 2, stop_tokens=[])[0]
        assert [a.tokens for a in answers[1]] == [a.tokens for a in free]


def test_nothing_heavy_is_imported() -> None:
    import subprocess
    import sys

    heavy = "('httpx', 'tokenizers', 'pyarrow', 'rich', 'transformers')"
    code = f"import sys, hornbook.infer.engine; print([m for m in {heavy} if m in sys.modules])"
    env = {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env).stdout.strip()
        == "[]"
    )
