"""Adapters: nothing changes at first, only they are trained, merged logits are equal, PEFT's layout."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_students import chat, context, conversations, tiny_student

from hornbook.align.lora import TARGETS, LoRA, add_lora, apply_adapter, merge_lora, save_adapter
from hornbook.align.sft import finetune
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.model.decoder import Decoder
from hornbook.model.hf import load_checkpoint
from hornbook.train.pretrain import PhasePlan
from hornbook.train.settings import OptimizerSettings, TrainSettings

PARALLEL = {
    "family": "phi",
    "block": "parallel",
    "norm": "layernorm",
    "activation": "gelu_new",
    "attention_bias": True,
    "mlp_bias": True,
    "tied_embeddings": False,
    "head_bias": True,
    "kv_heads": 2,
}


def trained(decoder: Decoder, lora: LoRA) -> Decoder:
    """With adapters that do something."""
    add_lora(decoder, lora)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if name.endswith("lora_b"):
                parameter.normal_(std=0.3)
    return decoder


def logits(decoder: Decoder) -> torch.Tensor:
    tokens = torch.arange(60).view(2, 30) % decoder.config.vocab_size
    with torch.no_grad():
        return decoder.logits(decoder(tokens))


@pytest.mark.parametrize("changes", [{}, PARALLEL, {"family": "llama"}])
def test_merged_logits_are_equal_to_the_bit(tokenizer: Tokenizer, changes: dict[str, object]) -> None:
    plain = tiny_student(tokenizer, **changes).eval()
    before = logits(plain)
    model = add_lora(tiny_student(tokenizer, **changes), LoRA(rank=4)).eval()
    torch.testing.assert_close(logits(model), before, rtol=0, atol=0)
    model = trained(tiny_student(tokenizer, **changes), LoRA(rank=4, alpha=6)).eval()
    merged = merge_lora(model).eval()
    assert torch.equal(logits(merged), logits(model))
    assert not torch.allclose(logits(merged), before, atol=1e-2)
    assert {n: p.shape for n, p in merged.named_parameters()} == {
        n: p.shape for n, p in plain.named_parameters()
    }
    # the two thin products while training
    torch.testing.assert_close(logits(model.train()), logits(merged), rtol=1e-4, atol=1e-4)


def test_only_the_adapters_have_gradients(tokenizer: Tokenizer) -> None:
    model = trained(tiny_student(tokenizer), LoRA(rank=2, targets=("qkv_proj", "down_proj")))
    model.train()
    model.logits(model(torch.arange(20)[None])).square().mean().backward()  # type: ignore[no-untyped-call]
    moved = {name for name, p in model.named_parameters() if p.grad is not None}
    assert moved == {
        f"layers.{n}.{layer}.lora_{part}"
        for n in range(2)
        for layer in ("attention.qkv_proj", "mlp.down_proj")
        for part in "ab"
    }
    with pytest.raises(HornbookError, match="already"):
        add_lora(model, LoRA())


@pytest.mark.parametrize("changes", [{}, PARALLEL, {"family": "llama"}])
def test_the_adapter_folder_is_pefts_and_gives_the_merged_model(
    tokenizer: Tokenizer, tmp_path: Path, changes: dict[str, object]
) -> None:
    lora = LoRA(rank=3, alpha=5)
    model = trained(tiny_student(tokenizer, **changes), lora).eval()
    save_adapter(model, tmp_path, lora, base="base")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 3, 5)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    leaves = {name.split(".")[-3] for name in tensors}
    assert leaves == set(config["target_modules"])
    assert all(name.startswith("base_model.model.model.layers.") for name in tensors)
    fused = "self_attn.qkv_proj" if not changes else "self_attn.q_proj"
    assert f"base_model.model.model.layers.0.{fused}.lora_A.weight" in tensors
    applied = apply_adapter(tiny_student(tokenizer, **changes).eval(), tmp_path)
    torch.testing.assert_close(logits(applied), logits(model), rtol=1e-5, atol=1e-5)


def test_an_adapter_that_does_not_belong_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    lora = LoRA(rank=2)
    save_adapter(trained(tiny_student(tokenizer), lora), tmp_path, lora)
    with pytest.raises(HornbookError, match="belong to no matrix"):
        apply_adapter(tiny_student(tokenizer, layers=1), tmp_path)
    with pytest.raises(HornbookError, match="does not fit"):
        apply_adapter(tiny_student(tokenizer, intermediate_size=96), tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    with pytest.raises(HornbookError, match="use_dora"):
        apply_adapter(tiny_student(tokenizer), tmp_path)
    with pytest.raises(HornbookError, match="holds no adapter"):
        apply_adapter(tiny_student(tokenizer), tmp_path / "nowhere")


def test_adapters_of_parts_with_their_own_a_are_read(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """As PEFT trains them on a llama: q, k and v each with A of its own, k left out."""
    lora = LoRA(rank=2, alpha=4, targets=("qkv_proj",))
    model = tiny_student(tokenizer, family="llama").eval()
    save_adapter(trained(tiny_student(tokenizer, family="llama"), lora), tmp_path, lora)
    torch.manual_seed(5)
    tensors = {
        name: torch.randn_like(tensor)
        for name, tensor in load_file(tmp_path / "adapter_model.safetensors").items()
        if ".k_proj." not in name
    }
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    before = {name: p.clone() for name, p in model.named_parameters()}
    apply_adapter(model, tmp_path)
    weight = model.get_parameter("layers.1.attention.qkv_proj.weight")
    change = weight - before["layers.1.attention.qkv_proj.weight"]
    name = "base_model.model.model.layers.1.self_attn.{}.lora_{}.weight"
    for part, rows in (("q_proj", slice(0, 32)), ("v_proj", slice(48, 64))):
        expected = 2 * tensors[name.format(part, "B")] @ tensors[name.format(part, "A")]
        torch.testing.assert_close(change[rows], expected, rtol=1e-4, atol=1e-4)
    assert not change[32:48].any()


def test_fine_tuning_with_adapters_gives_a_merged_checkpoint_and_the_adapter(
    tokenizer: Tokenizer, checkpoint: Path, tmp_path: Path
) -> None:
    corpus = conversations(tmp_path / "talks", [chat("red?", "a ball"), chat("small?", "a cat")] * 4)
    facts = finetune(
        context(tmp_path / "step"),
        model=checkpoint,
        sources={"chat": corpus},
        phases=[PhasePlan(name="sft", mixture={"chat": 1.0}, tokens=60 * 128, rows=2, time=64)],
        settings=TrainSettings(
            optimizer=OptimizerSettings(learning_rate=2e-2, weight_decay=0.0), precision="fp32"
        ),
        validation={"chat": corpus},
        lora=LoRA(rank=4),
    )
    assert facts["trained_parameters"] < facts["parameters"] / 3
    # Embeddings and norms are fixed and random, so logits stay small: 2.4 is what adapters can reach.
    assert facts["bits_per_byte"]["chat"] < 3.5
    base, made = (load_checkpoint(folder) for folder in (checkpoint, tmp_path / "step" / "model"))
    for name, parameter in made.named_parameters():
        changed = not torch.equal(parameter, base.get_parameter(name))
        assert changed == any(target in name for target in TARGETS), name
    apply_adapter(base, tmp_path / "step" / "adapter")
    torch.testing.assert_close(logits(base), logits(made), rtol=1e-4, atol=1e-4)


def test_wrong_settings_are_named() -> None:
    for changed, message in (
        ({"rank": 0}, "rank is 0"),
        ({"alpha": 0.0}, "alpha is 0"),
        ({"targets": ("q_proj",)}, "targets are q_proj"),
        ({"targets": ()}, "targets are none"),
    ):
        with pytest.raises(HornbookError, match=message):
            LoRA(**changed)  # type: ignore[arg-type]
