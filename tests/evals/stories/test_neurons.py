"""Words of a story by the tokens at which they end, their kinds, and a neuron that is built to know names."""

import pytest
import torch

from hornbook.evals.stories.neurons import NAME, _name_neuron, kind_of, words_of
from hornbook.model.decoder import Decoder
from hornbook.model.presets import student


def test_words_end_at_the_token_that_holds_their_last_letter():
    pieces = ["Once", ",", " M", "ia", " ran", "."]
    assert words_of("".join(pieces), pieces) == [(0, "Once"), (3, "Mia"), (4, "ran")]
    assert words_of("Mia ran", ["Mi", "a ran"]) == [(1, "Mia"), (1, "ran")]


def test_kinds_are_those_of_the_world():
    assert kind_of("Mia") == NAME
    assert kind_of("she") == kind_of("Her") == "pronoun"
    assert kind_of("orchard") == "place"
    assert kind_of("the") is kind_of("suddenly") is None


def test_the_neuron_that_makes_names_is_found_and_names_need_it():
    words = ["the", "named", "Mia", "saw", "park"]  # token ids are places in this list
    torch.manual_seed(0)
    shape = student(
        hidden_size=16, layers=1, heads=1, vocab_size=len(words), max_position=64, tied_embeddings=False
    )
    decoder = Decoder(shape).eval()
    layer, known = decoder.layers[0], len(words)
    with torch.no_grad():
        for weight in (layer.attention.o_proj.weight, decoder.embed_tokens.weight, decoder.lm_head.weight):
            weight.zero_()
        decoder.embed_tokens.weight[:, :known] = torch.eye(known)
        decoder.lm_head.weight[:, :known] = torch.eye(known)
        layer.mlp.down_proj.weight.zero_()
        layer.mlp.gate_up_proj.weight.zero_()
        layer.mlp.gate_up_proj.weight[5] = layer.mlp.gate_up_proj.weight[5 + shape.intermediate_size] = (
            2 * torch.eye(16)[words.index("named")]
        )
        layer.mlp.down_proj.weight[words.index("Mia"), 5] = 1  # fires at "named", asks for Mia
    text = ["the", "named", "Mia", "saw", "the", "park", "named", "Mia", "saw"]
    row = torch.tensor([[words.index(word) for word in text]])
    places = [(at, word) for at, word in enumerate(text) if kind_of(word)]
    found = _name_neuron(decoder, [row] * 4, [places] * 4, seed=0)
    assert (found["layer"], found["neuron"]) == (0, 5)
    assert found["cost"] > 0.5
    assert found["others"] == pytest.approx(0, abs=1e-6)
    assert max(found["values"]) == found["values"][1] == found["values"][6]
