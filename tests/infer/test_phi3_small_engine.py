"""phi-3-small in the engine: pages and stripes give what whole passes give."""

import pytest
import torch
from engine_helpers import full_logits, naive_greedy, ragged, small

from hornbook.infer import cache
from hornbook.infer.engine import Engine
from hornbook.lm.base import Sampling
from hornbook.model.config import BlockSparse, Multipliers
from hornbook.model.decoder import Decoder


@pytest.fixture(scope="module")
def model() -> Decoder:
    return small(
        family="phi3small",
        heads=6,
        hidden_size=96,
        layers=4,
        norm="layernorm",
        activation="gegelu",
        attention_bias=True,
        mlp_bias=True,
        block_sparse=BlockSparse(block=4, local_blocks=2, stride=5),
        multipliers=Multipliers(embedding=3.0, logits=0.5, attention=4.0),
        unused_ids=(7, 290),
    )


GREEDY = Sampling(temperature=0.0, max_tokens=14)


def test_the_pattern_matters_here(model: Decoder) -> None:
    ids = ragged(1, 60, 61)[0]
    dense = Decoder(model.config).eval()
    dense.load_state_dict(model.state_dict())
    for layer in dense.layers:
        layer.attention.sparse = False
    assert not torch.allclose(full_logits(dense, ids)[-1], full_logits(model, ids)[-1], atol=1e-3)


def test_ragged_prompts_answer_as_whole_passes_do(model: Decoder) -> None:
    engine = Engine(model, weights="fp32", max_rows=3)
    prompts = [*ragged(5, 3, 60), *ragged(1, 70, 71)]
    answers = engine.generate(prompts, GREEDY)
    for prompt, [answer] in zip(prompts, answers, strict=True):
        assert answer.tokens == naive_greedy(model, prompt, len(answer.tokens))
        assert not {7, 290} & set(answer.tokens)


def test_samples_of_one_prompt_and_a_prompt_read_in_pieces(
    model: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = ragged(1, 90, 91, seed=3)[0]
    whole = Engine(model, weights="fp32").generate([prompt], GREEDY, samples=2)[0]
    assert [answer.tokens for answer in whole] == [naive_greedy(model, prompt, 14)] * 2
    monkeypatch.setattr(cache, "_MASK_NUMBERS", 2000)
    again = Engine(model, weights="fp32").generate([prompt], GREEDY)[0]
    assert again[0].tokens == whole[0].tokens


def test_scores_are_those_of_a_whole_pass(model: Decoder) -> None:
    prompt, ending = ragged(1, 50, 51, seed=4)[0], [11, 12, 13, 14]
    [[score]] = Engine(model, weights="fp32").score([prompt], [[ending]])
    logs = full_logits(model, [*prompt, *ending]).log_softmax(-1)
    expected = sum(logs[len(prompt) - 1 + n, token].item() for n, token in enumerate(ending))
    assert score.logprob == pytest.approx(expected, abs=1e-3)
