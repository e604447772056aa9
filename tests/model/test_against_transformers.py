"""Logits, loss and gradients of every family held against `transformers` on small random models."""

import json

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, LlamaConfig, Phi3Config, PhiConfig, PhimoeConfig

from hornbook.model.hf import load_checkpoint, save_checkpoint, tensor_map

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def long_rope(pairs):
    return {
        "type": "longrope",
        "short_factor": [1.0 + 0.05 * i for i in range(pairs)],
        "long_factor": [1.5 + 0.7 * i for i in range(pairs)],
    }


def phi3(**changes):
    return Phi3Config(**(SIZES | {"num_key_value_heads": 4} | changes))


def phimoe(**changes):
    sizes = SIZES | {
        "num_key_value_heads": 2,
        "num_local_experts": 6,
        "rope_theta": 1e4,
        "sliding_window": None,
    }
    return PhimoeConfig(**(sizes | {"attention_bias": True, "lm_head_bias": True} | changes))


CONFIGS = {
    "phi": lambda: PhiConfig(**SIZES, partial_rotary_factor=0.5),
    "phi-0.4": lambda: PhiConfig(**(SIZES | {"hidden_size": 40}), partial_rotary_factor=0.4),
    "phi3-mha": phi3,
    "phi3-gqa": lambda: phi3(num_key_value_heads=2, rope_theta=250000.0),
    "phi3-partial-tied": lambda: phi3(
        num_key_value_heads=1, partial_rotary_factor=0.75, tie_word_embeddings=True, hidden_size=64
    ),
    "phi3-longrope-short": lambda: phi3(
        rope_scaling=long_rope(4), max_position_embeddings=128, original_max_position_embeddings=32
    ),
    "phi3-longrope-long": lambda: phi3(
        rope_scaling=long_rope(4), max_position_embeddings=128, original_max_position_embeddings=16
    ),
    "phi3-window": lambda: phi3(sliding_window=7),
    "llama": lambda: LlamaConfig(**SIZES, num_key_value_heads=2, tie_word_embeddings=True, rope_theta=1e5),
    "phimoe": lambda: phimoe(),
    "phimoe-longrope": lambda: phimoe(
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 1e4,
            "short_mscale": 1.25,
            "long_mscale": 1.25,
            "short_factor": [1.0 + 0.05 * i for i in range(4)],
            "long_factor": [1.5 + 0.7 * i for i in range(4)],
            "original_max_position_embeddings": 32,
        },
        max_position_embeddings=128,
    ),
    "llama-bias": lambda: LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True, head_dim=16),
}
TIME = 24


def reference(name, seed=0, config=None):
    """A random `transformers` model whose norms and biases are not the identity."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config or CONFIGS[name](), attn_implementation="eager").float()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "norm" in key or key.endswith("bias"):
                parameter.add_(0.3 * torch.randn_like(parameter))
            else:
                parameter.mul_(4.0)
    return model


def relative(ours, theirs):
    return ((ours - theirs).norm() / theirs.norm()).item()


def hub_gradients(model):
    """Gradients by checkpoint name; transformers 5 stacks the experts of phimoe in memory."""
    out = {}
    for name, parameter in model.named_parameters():
        prefix, _, leaf = name.partition(".mlp.")
        if leaf == "router.weight":
            out[f"{prefix}.block_sparse_moe.gate.weight"] = parameter.grad
        elif leaf.startswith("experts."):
            for number, grad in enumerate(parameter.grad):
                parts = grad.chunk(2) if leaf.endswith("gate_up_proj") else [grad]
                labels = ("w1", "w3") if leaf.endswith("gate_up_proj") else ("w2",)
                for label, part in zip(labels, parts, strict=True):
                    out[f"{prefix}.block_sparse_moe.experts.{number}.{label}.weight"] = part
        else:
            out[name] = parameter.grad
    return out


@pytest.fixture(params=sorted(CONFIGS))
def pair(request, tmp_path):
    theirs = reference(request.param)
    theirs.save_pretrained(tmp_path)
    return load_checkpoint(tmp_path), theirs


def test_logits_loss_and_gradients(pair):
    ours, theirs = pair
    # Experts are sampled in training mode, so their routing is compared in evaluation mode.
    ours.train(not ours.config.experts)
    theirs.train(not ours.config.experts)
    tokens = torch.randint(3, 97, (2, TIME))
    expected = theirs(tokens, labels=tokens)
    logits = ours.logits(ours(tokens))
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert relative(logits, expected.logits) < 1e-5
    assert abs(loss.item() - expected.loss.item()) < 1e-5 * expected.loss.item()
    expected.loss.backward()
    loss.backward()
    gradients = hub_gradients(theirs)
    for name, parts in tensor_map(ours.config).items():
        mine = dict(ours.named_parameters())[name].grad
        for part in parts:
            if gradients[part.name].norm() > 1e-7:
                assert relative(mine[part.start : part.stop], gradients[part.name]) < 1e-5, part.name


def test_saved_folder_loads_in_transformers(pair, tmp_path):
    ours, theirs = pair
    folder = tmp_path / "saved"
    save_checkpoint(ours, folder)
    again, info = AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokens = torch.randint(3, 97, (2, TIME))
    theirs.eval()
    assert torch.equal(again(tokens).logits, theirs(tokens).logits)


def test_phimoe_reads_beyond_its_original_length_by_its_long_factors(tmp_path):
    """transformers 5 always takes the short list, so it is given the long one there."""
    long = [1.5 + 0.7 * i for i in range(4)]
    rope = {
        "rope_type": "longrope",
        "rope_theta": 1e4,
        "short_mscale": 1.25,
        "long_mscale": 1.25,
        "short_factor": long,
        "long_factor": long,
        "original_max_position_embeddings": 16,
    }
    theirs = reference("phimoe", config=phimoe(rope_parameters=rope, max_position_embeddings=128))
    theirs.eval().save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    values["rope_parameters"]["short_factor"] = [1.0] * 4
    (tmp_path / "config.json").write_text(json.dumps(values))
    ours = load_checkpoint(tmp_path)
    tokens = torch.randint(3, 97, (2, TIME))
    with torch.no_grad():
        assert relative(ours.logits(ours(tokens)), theirs(tokens).logits) < 1e-5
        assert relative(ours.logits(ours(tokens[:, :16])), theirs(tokens[:, :16]).logits) > 1e-3
