"""Checkpoint folders: lossless, sharded, streaming, and every fault named in one sentence."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, safe_open, save_file

from hornbook.errors import HornbookError
from hornbook.model.config import LongRope, ModelConfig, Multipliers
from hornbook.model.decoder import Decoder
from hornbook.model.hf import load_checkpoint, read_config, save_checkpoint
from hornbook.model.presets import student

CONFIG = ModelConfig(
    vocab_size=61,
    hidden_size=32,
    layers=3,
    heads=4,
    kv_heads=2,
    intermediate_size=48,
    bos_id=0,
    eos_ids=(0, 4),
    pad_id=0,
)


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    save_checkpoint(Decoder(CONFIG), tmp_path)
    return tmp_path


def edit(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["phi3", "llama"])
@pytest.mark.parametrize("tied", [False, True])
def test_round_trip_is_byte_equal(tmp_path, dtype, family, tied):
    config = ModelConfig(
        **(CONFIG.to_dict() | {"family": family, "tied_embeddings": tied, "multipliers": Multipliers()})
    )
    model = Decoder(config).to(dtype)
    save_checkpoint(model, tmp_path / "a")
    again = load_checkpoint(tmp_path / "a")
    assert again.config == config
    for (name, ours), (_, theirs) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs), name
    save_checkpoint(again, tmp_path / "b")
    for file in ("model.safetensors", "config.json", "generation_config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("name", ["phi", "phimoe"])
def test_families_with_biases_and_experts_round_trip_too(tmp_path, name):
    changes = {"family": name, "norm": "layernorm", "attention_bias": True, "head_bias": True}
    if name == "phi":
        changes |= {"block": "parallel", "activation": "gelu_new", "mlp_bias": True, "rotary_fraction": 0.5}
    else:
        changes |= {"experts": 4, "input_jitter": 0.01}
    config = ModelConfig(**(CONFIG.to_dict() | {"multipliers": Multipliers()} | changes))
    model = Decoder(config).to(torch.bfloat16)
    save_checkpoint(model, tmp_path / "a")
    again = load_checkpoint(tmp_path / "a")
    assert again.config == config
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    save_checkpoint(again, tmp_path / "b", shard_bytes=20_000)
    save_checkpoint(load_checkpoint(tmp_path / "b"), tmp_path / "c")
    for file in ("model.safetensors", "config.json", "generation_config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "c" / file).read_bytes()


def test_written_file_is_read_by_the_safetensors_package(folder):
    tensors = load_file(folder / "model.safetensors")
    model = load_checkpoint(folder)
    assert torch.equal(
        tensors["model.layers.2.self_attn.qkv_proj.weight"], model.layers[2].attention.qkv_proj.weight
    )
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert sum(t.numel() for t in tensors.values()) == CONFIG.parameters()


def test_shards_hold_each_tensor_once_and_stale_files_go(folder):
    model = load_checkpoint(folder)
    save_checkpoint(model, folder, shard_bytes=20_000)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    assert len(files) > 2
    assert files == sorted(set(index["weight_map"].values()))
    assert index["metadata"]["total_size"] == 4 * CONFIG.parameters()
    again = load_checkpoint(folder)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    save_checkpoint(model, folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]


def test_dtype_is_converted_on_the_way(folder):
    exact = load_checkpoint(folder)
    low = load_checkpoint(folder, dtype=torch.bfloat16)
    assert all(
        torch.equal(a.bfloat16(), b) for a, b in zip(exact.parameters(), low.parameters(), strict=True)
    )
    save_checkpoint(exact, folder / "low", dtype=torch.bfloat16)
    again = load_checkpoint(folder / "low")
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), low.parameters(), strict=True))


def test_end_of_turn_ids_come_from_generation_config(folder):
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [7, 9]}))
    assert read_config(folder).eos_ids == (7, 9)


def test_all_tensor_faults_are_listed_at_once(folder):
    def change(tensors):
        del tensors["model.layers.1.mlp.down_proj.weight"]
        del tensors["model.norm.weight"]
        tensors["model.layers.3.input_layernorm.weight"] = torch.ones(32)
        tensors["lm_head.weight"] = torch.ones(60, 32)
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)

    edit(folder, change)
    with pytest.raises(HornbookError) as caught:
        load_checkpoint(folder)
    message = str(caught.value)
    assert "2 missing: model.layers.1.mlp.down_proj.weight, model.norm.weight" in message
    assert "1 not part of the model: model.layers.3.input_layernorm.weight" in message
    assert "1 misshapen: lm_head.weight is (60, 32), the config asks for (61, 32)" in message
    assert "rotary_emb" not in message


def test_config_that_contradicts_the_weights(folder):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"num_key_value_heads": 4}))
    with pytest.raises(
        HornbookError, match=r"contradict its config.*3 misshapen.*qkv_proj.weight is \(64, 32\)"
    ):
        load_checkpoint(folder)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_is_named(folder, bad):
    edit(folder, lambda tensors: tensors["model.layers.1.mlp.gate_up_proj.weight"][5].fill_(bad))
    with pytest.raises(HornbookError, match=r"NaN.*model\.layers\.1\.mlp\.gate_up_proj\.weight"):
        load_checkpoint(folder)


def test_tied_model_accepts_an_identical_head_and_refuses_another(folder):
    model = Decoder(ModelConfig.from_dict(CONFIG.to_dict() | {"tied_embeddings": True}))
    save_checkpoint(model, folder)
    edit(folder, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    assert load_checkpoint(folder).lm_head is None
    edit(folder, lambda t: t["lm_head.weight"].add_(1))
    with pytest.raises(HornbookError, match="says the embeddings are tied"):
        load_checkpoint(folder)


@pytest.mark.parametrize("keep", [4, 200, 4000, -1])
def test_truncated_weights(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(HornbookError, match=r"truncated|not a complete safetensors"):
        load_checkpoint(folder)


def test_missing_shard_is_named(folder):
    save_checkpoint(load_checkpoint(folder), folder, shard_bytes=20_000)
    sorted(folder.glob("model-*.safetensors"))[1].unlink()
    with pytest.raises(HornbookError, match=r"lacks model-00002-of"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model_type": "mamba"}, "does not know.*phi, phi3, llama"),
        ({"hidden_size": None, "num_hidden_layers": None}, "lacks hidden_size, num_hidden_layers"),
        ({"hidden_act": "relu"}, "hidden_act = 'relu'"),
        ({"num_key_value_heads": 3}, "kv_heads = 3"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rotary scaling 'llama3'"),
        (
            {"rope_scaling": {"type": "su", "short_factor": [1.0], "long_factor": [1.0]}},
            "short_factor = '1 numbers'",
        ),
        ({"vocab_size": -5}, "vocab_size = -5"),
    ],
)
def test_configs_that_cannot_work(folder, change, sentence):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | change))
    with pytest.raises(HornbookError, match=sentence):
        load_checkpoint(folder)


def test_folders_that_are_none(tmp_path, folder):
    with pytest.raises(HornbookError, match=r"no config\.json"):
        load_checkpoint(tmp_path / "nothing")
    (folder / "model.safetensors").unlink()
    with pytest.raises(HornbookError, match=r"no model\.safetensors"):
        load_checkpoint(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(HornbookError, match="not valid JSON"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"multipliers": Multipliers(embedding=10.0)},
        {"activation": "gegelu"},
        {"norm": "layernorm"},
        {"attention_bias": True},
        {"family": "llama", "sliding_window": 64},
        {"family": "llama", "rotary_fraction": 0.5},
    ],
)
def test_what_hugging_face_cannot_express_is_refused(change):
    config = ModelConfig(**(CONFIG.to_dict() | {"multipliers": Multipliers()} | change))
    with pytest.raises(HornbookError, match="cannot express"):
        config.to_hf()


def test_transformers_5_layout_is_read():
    rope = LongRope(short_factor=(1.0,) * 4, long_factor=(2.0,) * 4, original_max_position=32, factor=8.0)
    config = ModelConfig(
        **(CONFIG.to_dict() | {"multipliers": Multipliers(), "long_rope": rope, "rope_theta": 5e4})
    )
    values = config.to_hf()
    scaling = values.pop("rope_scaling")
    values["rope_parameters"] = {
        "rope_type": "longrope",
        **{k: v for k, v in scaling.items() if k != "type"},
        "rope_theta": values.pop("rope_theta"),
        "partial_rotary_factor": values.pop("partial_rotary_factor"),
    }
    assert ModelConfig.from_hf(values) == config


def test_interrupted_save_leaves_no_checkpoint_and_no_litter(tmp_path, monkeypatch):
    import hornbook.model.hf as hf

    def fail(path, tensors):
        real(path, tensors)
        raise OSError("disk full")

    real = hf.write_tensors
    monkeypatch.setattr(hf, "write_tensors", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(Decoder(CONFIG), tmp_path)
    assert not (tmp_path / "config.json").exists()
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]


MEASURE = """
import ctypes, sys, torch
from hornbook.model.hf import load_checkpoint, save_checkpoint

def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

def now():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmRSS"))

def reset():
    open("/proc/self/clear_refs", "w").write("5")

load_checkpoint(sys.argv[2])  # one-time costs of torch
reset(); before = now(); model = load_checkpoint(sys.argv[1]); print(peak() - before)
reset(); before = now(); save_checkpoint(model, sys.argv[1] + "/again"); print(peak() - before)
del model
reset(); before = now(); model = load_checkpoint(sys.argv[1], dtype=torch.bfloat16); print(peak() - before)
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux memory accounting")
def test_peak_memory_is_the_model_and_about_one_tensor(tmp_path):
    big, small = (
        student(hidden_size=512, layers=8, vocab_size=4096),
        student(hidden_size=64, layers=1, vocab_size=64),
    )
    with torch.device("meta"):
        decoder = Decoder(big)
    decoder.to_empty(device="cpu").load_state_dict(
        {k: torch.ones(v.shape) for k, v in decoder.state_dict().items()}
    )
    save_checkpoint(decoder, tmp_path / "big")
    save_checkpoint(Decoder(small), tmp_path / "small")
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "big"), str(tmp_path / "small")]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    load, save, load_bf16 = (int(line) for line in out.split())
    model, tensor, slack = 4 * big.parameters(), 4 * 4096 * 512, 45_000_000
    # The slack is an allocator's mood; a second copy of the model would be over every limit all the same.
    assert slack < model / 2 - tensor
    assert model > 10 * tensor
    assert load < model + tensor + slack
    assert save < tensor + slack
    assert load_bf16 < model / 2 + tensor + slack
