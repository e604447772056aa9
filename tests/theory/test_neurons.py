"""Neurons and heads read off a decoder, against its own outputs, built weights and a closed form."""

import pytest
import torch

from hornbook.model.decoder import Decoder
from hornbook.model.presets import student
from hornbook.theory.neurons import (
    activations,
    attention_weights,
    purity,
    share_by_distance,
    silenced,
    strongest_words,
)


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return Decoder(student(hidden_size=32, layers=2, heads=4, vocab_size=50, max_position=64)).eval()


def test_attention_weights_give_what_the_layer_gives(decoder):
    tokens = torch.randint(50, (2, 20))
    (weights, _), seen = attention_weights(decoder, tokens), {}
    attention = decoder.layers[0].attention
    handles = [
        attention.qkv_proj.register_forward_hook(lambda m, a, out: seen.update(qkv=out)),
        attention.o_proj.register_forward_pre_hook(lambda m, a: seen.update(mixed=a[0])),
    ]
    with torch.no_grad():
        decoder(tokens)
    for handle in handles:
        handle.remove()
    heads, size = attention.heads, attention.head_dim
    value = seen["qkv"].view(2, 20, -1, size).transpose(1, 2)[:, -attention.kv_heads :]
    value = value.repeat_interleave(heads // attention.kv_heads, dim=1)
    mixed = (weights @ value).transpose(1, 2).reshape(2, 20, -1)
    torch.testing.assert_close(mixed, seen["mixed"])


def test_a_silenced_neuron_is_as_if_its_column_were_zero(decoder):
    tokens = torch.randint(50, (1, 12))
    with torch.no_grad():
        with silenced(decoder, 1, 3):
            hidden = decoder(tokens)
            assert activations(decoder, tokens)[1].shape == (
                1,
                12,
                decoder.layers[1].mlp.down_proj.in_features,
            )
        free = decoder(tokens)
        decoder.layers[1].mlp.down_proj.weight[:, 3] = 0
        torch.testing.assert_close(hidden, decoder(tokens))
    assert not torch.equal(hidden, free)


def test_activations_are_what_the_projection_is_given(decoder):
    tokens = torch.randint(50, (1, 9))
    mlp, seen = decoder.layers[0].mlp, []
    handle = mlp.register_forward_hook(lambda module, args, out: seen.append(out))
    inner = activations(decoder, tokens)[0]
    handle.remove()
    torch.testing.assert_close(inner @ mlp.down_proj.weight.T, seen[0])


def test_a_head_of_distance_and_a_head_of_words_are_told_apart():
    time, texts = 40, []
    generator = torch.Generator().manual_seed(1)
    for _ in range(6):
        by_distance = torch.eye(time).roll(1, dims=0).tril()  # looks at the token before
        wanted = int(torch.randint(8, (1,), generator=generator))
        by_word = torch.zeros(time, time)
        by_word[:, wanted] = 1  # looks at one word, wherever it stands
        texts.append(torch.stack([by_distance, by_word.tril()]))
    distance, word = share_by_distance(texts)
    assert distance == pytest.approx(1)
    assert word < 0.2


def test_the_share_by_distance_is_that_of_an_analysis_of_variance():
    weights = [torch.rand(3, 20, 20).tril() for _ in range(2)]
    entries = [(q - k, one[:, q, k]) for one in weights for q in range(16, 20) for k in range(q + 1)]
    values = torch.stack([value for _, value in entries], 1)
    fitted = torch.stack(
        [torch.stack([v for other, v in entries if other == d]).mean(0) for d, _ in entries], 1
    )
    mean = values.mean(1, keepdim=True)
    explained = (fitted - mean).square().sum(1) / (values - mean).square().sum(1)
    assert share_by_distance(weights) == pytest.approx(explained.tolist(), abs=1e-5)


def test_each_word_counts_once():
    values = torch.tensor([[9.0], [8.0], [7.0], [1.0]])
    assert strongest_words(values, ["Mia", "Mia", "Tom", "ran"], count=2) == [["Mia", "Tom"]]
    assert purity(["name", "name", "verb"]) == pytest.approx(2 / 3)
