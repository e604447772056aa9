"""`attend` against a loop over every query and key."""

import itertools
import math

import pytest
import torch

from hornbook.model.attention import attend, visible_in_cache, visible_in_training


def slow(q, k, v, scale, sees):
    """Softmax attention, one query at a time; sees(batch, query, key) decides visibility."""
    out = torch.zeros_like(q)
    group = q.shape[1] // k.shape[1]
    for b, h, i in itertools.product(range(q.shape[0]), range(q.shape[1]), range(q.shape[2])):
        keys = [j for j in range(k.shape[2]) if sees(b, i, j)]
        scores = [scale * float(q[b, h, i] @ k[b, h // group, j]) for j in keys]
        top = max(scores)
        weights = [math.exp(score - top) for score in scores]
        for weight, j in zip(weights, keys, strict=True):
            out[b, h, i] += weight / sum(weights) * v[b, h // group, j]
    return out


def random(batch, heads, kv_heads, queries, keys, size=6):
    generator = torch.Generator().manual_seed(queries * 31 + keys)
    make = lambda h, t: torch.randn(batch, h, t, size, dtype=torch.float64, generator=generator)  # noqa: E731
    return make(heads, queries), make(kv_heads, keys), make(kv_heads, keys)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("window", [None, 1, 3, 9])
@pytest.mark.parametrize("packed", [False, True])
def test_training_paths(kv_heads, window, packed):
    q, k, v = random(2, 4, kv_heads, 9, 9)
    document = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2, 2], [5] * 9]) if packed else None

    def sees(b, i, j):
        same = document is None or document[b, i] == document[b, j]
        return bool(j <= i and same and (window is None or j > i - window))

    visible = visible_in_training(9, document=document, window=window)
    torch.testing.assert_close(attend(q, k, v, visible=visible, scale=0.3), slow(q, k, v, 0.3, sees))


@pytest.mark.parametrize("used", [0, 1, 5])
@pytest.mark.parametrize("time", [1, 2, 4])
@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("padding", [None, [0, 3]])
def test_cached_paths(used, time, window, padding):
    q, k, v = random(2, 4, 2, time, used + time)

    def sees(b, i, j):
        slot = used + i
        if padding is not None and slot < padding[b]:
            return j == slot
        return j <= slot and (window is None or j > slot - window) and (padding is None or j >= padding[b])

    visible = visible_in_cache(used, time, None if padding is None else torch.tensor(padding), window=window)
    torch.testing.assert_close(attend(q, k, v, visible=visible, scale=0.5), slow(q, k, v, 0.5, sees))
