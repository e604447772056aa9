"""Order told by learned vectors, by nothing, or by random tags: what each can and cannot distinguish."""

import pytest
import torch

from hornbook.errors import HornbookError
from hornbook.infer.packed import TorchDecoder
from hornbook.model.cache import KeyValueCache
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.model.gguf import save_gguf
from hornbook.model.hf import save_checkpoint
from hornbook.train.optim import Optimizer
from hornbook.train.settings import OptimizerSettings

SHAPE = {
    "vocab_size": 17,
    "hidden_size": 24,
    "layers": 2,
    "heads": 2,
    "intermediate_size": 32,
    "max_position": 16,
}
KINDS = {"learned": {}, "none": {}, "tags": {"tag_size": 6}}


def make(kind, **changes):
    torch.manual_seed(0)
    decoder = Decoder(ModelConfig(**{**SHAPE, "positions": kind, **KINDS.get(kind, {}), **changes})).double()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return decoder.eval()


def ids(rows=3, time=12):
    return torch.randint(17, (rows, time), generator=torch.Generator().manual_seed(1))


def draw(rows=3, time=12, size=6):
    return torch.randn(rows, time, size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def given(kind, rows=3, time=12):
    return {"tags": draw(rows, time)} if kind == "tags" else {}


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunks", [[12], [1] * 12, [5, 1, 6]])
def test_cached_equals_full_when_earlier_tokens_keep_their_tags(kind, chunks):
    decoder, x, extra = make(kind), ids(), given(kind)
    cache = KeyValueCache(decoder.config, batch=3, length=12, dtype=torch.float64)
    parts, first = [], 0
    for part in x.split(chunks, dim=1):
        some = {name: tags[:, first : first + part.shape[1]] for name, tags in extra.items()}
        parts.append(decoder(part, cache=cache, **some))
        first += part.shape[1]
    close(torch.cat(parts, 1), decoder(x, **extra))


@pytest.mark.parametrize("kind", KINDS)
def test_left_padding_changes_nothing(kind):
    decoder, x, extra = make(kind), ids(), given(kind)
    cache = KeyValueCache(
        decoder.config, batch=3, length=16, padding=torch.tensor([4] * 3), dtype=torch.float64
    )
    padded = torch.cat([torch.zeros(3, 4, dtype=torch.long), x], 1)
    wide = {name: torch.cat([draw(3, 4) + 9, tags], 1) for name, tags in extra.items()}
    close(decoder(padded, cache=cache, **wide)[:, 4:], decoder(x, **extra))


@pytest.mark.parametrize("kind", KINDS)
def test_attention_in_blocks_equals_the_library_forward_and_backward(kind, monkeypatch):
    """No angle may be left over on either path."""
    decoder, x, extra, grads = make(kind), ids(), given(kind), []
    for blocks in (True, False):
        if not blocks:
            monkeypatch.setattr(Decoder, "_blocks", lambda self, tokens: None)
        decoder.zero_grad()
        torch.autograd.backward(decoder(x, **extra).square().sum())
        grads.append([p.grad.clone() for p in decoder.parameters() if p.grad is not None])
    assert len(grads[0]) == len(grads[1]) > 10
    for a, b in zip(*grads, strict=True):
        close(a, b)


def test_without_positions_one_layer_sees_a_set_and_two_layers_see_order():
    """The last token of a one-layer model without positions cannot tell how earlier ones were ordered."""
    x = ids(1)
    shuffled = x.clone()
    shuffled[:, :-1] = x[:, torch.tensor([5, 3, 0, 10, 1, 9, 2, 8, 4, 7, 6])]
    shallow, deep = make("none", layers=1), make("none", layers=2)
    close(shallow(x)[:, -1], shallow(shuffled)[:, -1])
    assert (deep(x)[:, -1] - deep(shuffled)[:, -1]).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["none", "tags"])
def test_a_number_for_the_place_changes_nothing(kind):
    decoder, x, extra = make(kind), ids(), given(kind)
    close(decoder(x, position=torch.arange(12) + 500, **extra), decoder(x, **extra))


def test_tags_may_be_dealt_out_otherwise_if_the_dealing_follows_the_tokens():
    """A one-layer model with tags is equivariant: shuffle earlier tokens with their tags, nothing changes;
    shuffle the tags alone, and it does."""
    decoder, x, tags = make("tags", layers=1), ids(1), draw(1)
    order = torch.tensor([5, 3, 0, 10, 1, 9, 2, 8, 4, 7, 6, 11])
    close(decoder(x[:, order], tags=tags[:, order])[:, -1], decoder(x, tags=tags)[:, -1])
    assert (decoder(x, tags=tags[:, order])[:, -1] - decoder(x, tags=tags)[:, -1]).abs().max() > 1e-2


def test_equal_tokens_get_different_tags_and_every_call_draws_anew():
    decoder = make("tags").float()
    x = torch.full((2, 3), 5)
    added = decoder.positions(x, torch.arange(3), None)
    assert len(torch.unique(added.reshape(6, -1), dim=0)) == 6
    torch.manual_seed(4)
    first = decoder(x)
    assert not torch.equal(first, decoder(x))
    torch.manual_seed(4)
    assert torch.equal(first, decoder(x))


def test_scale_of_tags_does_not_depend_on_their_size():
    torch.manual_seed(0)
    for size in (4, 64):
        made = Decoder(ModelConfig(**{**SHAPE, "hidden_size": 512, "positions": "tags", "tag_size": size}))
        added = made.positions(torch.zeros(4, 50, dtype=torch.long), torch.arange(50), None)
        assert added.std().item() == pytest.approx(made.config.init_std, rel=0.15)


def test_a_learned_position_moves_the_token_and_packed_documents_count_anew():
    decoder, x = make("learned"), ids(1, 6)
    assert (decoder(x, position=torch.arange(6) + 1) - decoder(x)).abs().max() > 1e-2
    both = torch.cat([x, x], 1)
    document = torch.arange(2).repeat_interleave(6)[None]
    packed = decoder(both, document=document, position=torch.arange(6).repeat(2)[None])
    close(packed[:, 6:], decoder(x))


@pytest.mark.parametrize("kind", KINDS)
def test_the_parameter_count_is_exact(kind):
    decoder = make(kind)
    assert decoder.config.parameters() == sum(p.numel() for p in decoder.parameters())
    assert ModelConfig.from_dict(decoder.config.to_dict()) == decoder.config


@pytest.mark.parametrize("kind", KINDS)
def test_formats_that_cannot_say_so_refuse(kind, tmp_path):
    for write in (
        lambda: save_checkpoint(make(kind), tmp_path / "hf"),
        lambda: save_gguf(make(kind), tmp_path, tmp_path / "m.gguf", "F32"),
    ):
        with pytest.raises(HornbookError, match=f"cannot express positions = '{kind}'"):
            write()
    assert not (tmp_path / "hf").exists()


@pytest.mark.parametrize("kind", ["learned", "none"])
def test_the_engines_decoder_has_the_same_positions(kind):
    decoder = make(kind).float()
    ready = TorchDecoder(decoder, "fp32")
    assert (ready.body.positions is None) == (kind == "none")
    assert ready.body.config.positions == kind
    if kind == "learned":
        assert torch.equal(ready.body.positions.weight, decoder.positions.weight)


def test_bad_settings_and_places_beyond_the_table_are_sentences():
    for changes, words in (
        ({"positions": "absolute"}, "one of 'rotary', 'learned', 'none', 'tags'"),
        ({"positions": "tags"}, "tag_size = 0 .* positive"),
        ({"positions": "none", "tag_size": 4}, "tag_size = 4 .* must be 0"),
    ):
        with pytest.raises(HornbookError, match=words):
            ModelConfig(**{**SHAPE, **changes})
    with pytest.raises(HornbookError, match="position 16, but this model has learned only positions 0 to 15"):
        make("learned")(ids(1, 17))
    with pytest.raises(ValueError, match="takes no tags"):
        make("none")(ids(), tags=draw())
    with pytest.raises(ValueError, match="tags have the shape"):
        make("tags")(ids(), tags=draw(time=3))


def test_learned_positions_are_not_decayed():
    groups = Optimizer(make("learned").float(), OptimizerSettings(kind="muon")).groups
    assert "positions.weight" in groups["plain"]
