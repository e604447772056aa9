"""What CUDA compiles: a whole layer in one graph, one for all layers (tried without code generation)."""

import pytest
import torch
from small_training import tiny_config

from hornbook.model.attention import visible_in_training
from hornbook.model.decoder import Decoder


@pytest.mark.parametrize("documents", [False, True])
def test_a_layer_is_one_graph_for_all_layers_and_gives_what_it_gives_eagerly(documents: bool) -> None:
    from torch._dynamo.utils import counters

    torch._dynamo.reset()
    counters.clear()
    model = Decoder(tiny_config(layers=3))
    x = torch.randn(2, 16, 32, requires_grad=True)
    cos, sin = model.rope(torch.arange(16), 16)
    document = (torch.arange(16) // 7).expand(2, -1) if documents else None
    visible = visible_in_training(16, document=document)
    for layer in model.layers:
        compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
        results = [part(x, cos, sin, visible=visible) for part in (compiled, layer)]
        slopes = [torch.autograd.grad(result.square().sum(), x)[0] for result in results]
        torch.testing.assert_close(*results)
        torch.testing.assert_close(*slopes)
    assert counters["stats"]["unique_graphs"] == 1
