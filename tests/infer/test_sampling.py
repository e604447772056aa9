import numpy as np
import pytest
import torch

from hornbook.infer.sampling import RowSettings, row_key, uniforms
from hornbook.lm.base import Sampling

CPU = torch.device("cpu")


def frequencies(sampling: Sampling, logits: torch.Tensor, draws: int = 60_000) -> np.ndarray:
    """How often each token is drawn, from `draws` rows with the same logits."""
    rows = 2000
    settings = RowSettings(rows, len(logits), CPU)
    for row in range(rows):
        settings.place(row, sampling, row_key(0, [1], row), [])
    counts = np.zeros(len(logits))
    for _ in range(draws // rows):
        chosen = settings.draw(logits.expand(rows, -1).clone(), np.arange(rows))
        counts += np.bincount(chosen.numpy(), minlength=len(logits))
    return counts / counts.sum()


LOGITS = torch.tensor([2.0, 1.5, 1.4, 0.3, 0.0, -0.5, -1.0, -3.0])


def reference(sampling: Sampling) -> np.ndarray:
    """The target distribution, by sorting."""
    scaled = LOGITS.double() / sampling.temperature
    if sampling.top_k:
        edge = scaled.topk(sampling.top_k).values[-1]
        scaled[scaled < edge] = -torch.inf
    p = scaled.softmax(-1)
    p[p < sampling.min_p * p.max()] = 0
    p /= p.sum()
    order = p.argsort(descending=True)
    before = p[order].cumsum(0) - p[order]
    p[order[before >= sampling.top_p]] = 0
    return (p / p.sum()).numpy()


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.5),
        Sampling(top_p=0.8),
        Sampling(top_p=0.05),
        Sampling(top_p=0.95, temperature=1.7),
        Sampling(top_k=3),
        Sampling(top_k=4, top_p=0.7),
        Sampling(min_p=0.3),
        Sampling(min_p=0.1, top_p=0.9, top_k=6, temperature=0.8),
    ],
    ids=str,
)
def test_draws_follow_the_narrowed_distribution(sampling: Sampling) -> None:
    expected = reference(sampling)
    found = frequencies(sampling, LOGITS)
    assert (found[expected == 0] == 0).all()
    assert np.abs(found - expected).max() < 5 * 0.5 / np.sqrt(60_000)


def test_greedy_takes_the_likeliest_next_to_warm_rows() -> None:
    settings = RowSettings(3, 8, CPU)
    for row, temperature in enumerate((0.0, 1.0, 0.0)):
        settings.place(row, Sampling(temperature=temperature, top_p=0.9), row_key(0, [row], 0), [])
    logits = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    chosen = settings.draw(logits, np.arange(3))
    assert chosen[0] == logits[0].argmax()
    assert chosen[2] == logits[2].argmax()


def test_penalties_follow_their_definitions() -> None:
    settings = RowSettings(1, 4, CPU)
    sampling = Sampling(temperature=0.0, repetition_penalty=2.0, frequency_penalty=0.5, presence_penalty=0.25)
    settings.place(0, sampling, 0, [1])
    logits = torch.tensor([[1.0, 1.5, -1.0, 0.7]])
    assert settings.draw(logits, np.arange(1)).item() == 0  # 1.5 / 2 = 0.75 falls behind 1.0
    # token 0 was drawn once: 1.0 / 2 - 0.5 - 0.25 = -0.25; token 1, prompt only: 0.75
    assert settings.draw(logits, np.arange(1)).item() == 1
    # token 1: 1.5 / 2 - 0.75 = 0; token 3 is untouched at 0.7
    assert settings.draw(logits, np.arange(1)).item() == 3


def test_uniforms_are_uniform_and_independent_of_the_batch() -> None:
    keys = np.asarray([row_key(5, [1, 2], i) for i in range(3000)], dtype=np.uint64)
    u = np.stack([uniforms(keys, np.full(3000, p)) for p in range(20)])
    assert 0 <= u.min() < 1e-3
    assert 1 - 1e-3 < u.max() < 1
    assert np.abs(np.histogram(u, bins=10, range=(0, 1))[0] / u.size - 0.1).max() < 0.006
    assert abs(np.corrcoef(u[0], u[1])[0, 1]) < 0.07
    assert uniforms(keys[7:8], np.asarray([4]))[0] == u[4, 7]


def test_keys_separate_seed_prompt_and_sample() -> None:
    keys = {row_key(s, p, i) for s in (0, 1, -1) for p in ([1, 2], [2, 1], [1], [1, 2, 0]) for i in range(3)}
    assert len(keys) == 36
    assert row_key(None, [1], 0) != row_key(None, [1], 0)
