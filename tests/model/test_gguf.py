"""GGUF files: byte-equal round trips, read and written by the `gguf` package alike, every fault named."""

import json
import struct

import gguf
import numpy as np
import pytest
import torch

from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.model.config import LongRope, ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.model.gguf import _fraction, deinterleave, departures, interleave, load_gguf, save_gguf
from hornbook.model.gguf_file import GGUFFile, decode
from hornbook.model.gguf_tokenizer import tokenizer_files
from hornbook.model.vision_config import VisionConfig

BASE = {
    "vocab_size": 512,
    "hidden_size": 64,
    "layers": 2,
    "heads": 4,
    "intermediate_size": 96,
    "max_position": 256,
    "bos_id": 0,
    "eos_ids": (0, 4),
    "pad_id": 0,
}
PHI = {
    "family": "phi",
    "block": "parallel",
    "norm": "layernorm",
    "activation": "gelu_new",
    "attention_bias": True,
    "mlp_bias": True,
    "head_bias": True,
    "rotary_fraction": 0.5,
}
MOE = {
    "family": "phimoe",
    "norm": "layernorm",
    "kv_heads": 2,
    "experts": 4,
    "router_jitter": 0.25,
    "input_jitter": 0.01,
    "attention_bias": True,
    "head_bias": True,
    "sliding_window": 200,
}
ROPE = LongRope(
    short_factor=tuple(1 + 0.1 * i for i in range(8)),
    long_factor=tuple(1.5 + i for i in range(8)),
    original_max_position=64,
    attention_factor=1.25,
)
CONFIGS = {
    "phi3": ModelConfig(**BASE, kv_heads=2, rope_theta=25_000.0),
    "phi3-tied-window": ModelConfig(**BASE, tied_embeddings=True, sliding_window=33),
    "phi3-longrope": ModelConfig(**BASE, long_rope=ROPE),
    "phi3-partial": ModelConfig(**BASE, rotary_fraction=0.75, norm_eps=1e-6),
    "llama": ModelConfig(**BASE, family="llama", kv_heads=1, tied_embeddings=True),
    "llama-bias": ModelConfig(**BASE, family="llama", kv_heads=2, attention_bias=True, mlp_bias=True),
    "phi": ModelConfig(**BASE, **PHI),
    "phimoe": ModelConfig(**BASE, **MOE),
    "phimoe-longrope": ModelConfig(**BASE, **MOE, long_rope=ROPE),
}
KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1")


def close_config(ours, theirs):
    """Equal, but for LongRoPE factors, which GGUF keeps in fp32."""
    if ours.long_rope is None:
        return ours == theirs
    a, b = ours.long_rope, theirs.long_rope
    return np.allclose(a.short_factor, b.short_factor) and np.allclose(a.long_factor, b.long_factor)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_exact_kind_loses_nothing(tmp_path, tokenizer_folder, decisive, name):
    model = decisive(CONFIGS[name])
    save_gguf(model, tokenizer_folder, tmp_path / "a.gguf", "F32")
    again = load_gguf(tmp_path / "a.gguf")
    assert close_config(again.config, CONFIGS[name])
    for (key, ours), theirs in zip(model.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs), key


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["phi3-longrope", "llama", "phi", "phimoe"])
def test_written_read_written_is_byte_equal(tmp_path, tokenizer_folder, decisive, name, kind):
    save_gguf(decisive(CONFIGS[name]), tokenizer_folder, tmp_path / "a.gguf", kind)
    save_gguf(load_gguf(tmp_path / "a.gguf"), tokenizer_folder, tmp_path / "b.gguf", kind)
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0"])
@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_every_file_runs_as_loaded(tmp_path, tokenizer_folder, decisive, name, kind):
    """Norms stay F32 beside F16 matrices, and biases must follow their matrices."""
    model = decisive(CONFIGS[name])
    save_gguf(model, tokenizer_folder, tmp_path / "a.gguf", kind)
    again = load_gguf(tmp_path / "a.gguf")
    tokens = torch.arange(12)[None]
    exact, got = model.logits(model(tokens)), again.logits(again(tokens)).float()
    assert ((got - exact).norm() / exact.norm()).item() < 0.15
    assert again.norm.weight.dtype == torch.float32


def test_taking_the_mean_out_changes_nothing_for_layer_norm(tmp_path, tokenizer_folder, decisive):
    """It is written for llama.cpp, whose phimoe norms do not subtract it."""
    model = decisive(CONFIGS["phimoe"])
    save_gguf(model, tokenizer_folder, tmp_path / "a.gguf", "F32", centred=True)
    again = load_gguf(tmp_path / "a.gguf")
    seen = []
    for layer in again.layers:
        layer.mlp_norm.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    tokens = torch.arange(12)[None]
    exact, got = model.logits(model(tokens)), again.logits(again(tokens))
    assert ((got - exact).norm() / exact.norm()).item() < 1e-5
    for stream in seen:
        assert stream.mean(-1).abs().max() < 1e-5 * stream.square().mean().sqrt()
    with pytest.raises(HornbookError, match="Only phimoe"):
        save_gguf(decisive(CONFIGS["phi3"]), tokenizer_folder, tmp_path / "x.gguf", "F32", centred=True)


def test_what_llama_cpp_has_no_architecture_for_is_refused_by_name(tmp_path, tokenizer_folder):
    small = ModelConfig.from_hf(
        {"model_type": "phi3small", "vocab_size": 512, "hidden_size": 64, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "ff_intermediate_size": 96}
    )  # fmt: skip
    with pytest.raises(HornbookError, match=r"no architecture for phi3small.*block-sparse.*Hugging Face"):
        save_gguf(Decoder(small), tokenizer_folder, tmp_path / "x.gguf", "F32")
    tower = VisionConfig(
        hidden_size=16, layers=2, heads=2, intermediate_size=32, image_size=56, patch_size=14
    )
    seeing = Decoder(ModelConfig(**BASE, family="phi3_v", vision=tower))
    with pytest.raises(HornbookError, match=r"phi3_v.*without the picture encoder.*text_only"):
        save_gguf(seeing, tokenizer_folder, tmp_path / "x.gguf", "F32")
    assert not list(tmp_path.iterdir())
    save_gguf(seeing, tokenizer_folder, tmp_path / "text.gguf", "F32", text_only=True)
    text, tokens = load_gguf(tmp_path / "text.gguf"), torch.arange(12)[None]
    assert text.config.family == "phi3"
    assert torch.equal(text.logits(text(tokens)), seeing.logits(seeing(tokens)))
    assert [sentence for sentence in departures(seeing.config) if "picture encoder" in sentence]


def test_every_rotary_dimension_survives_the_fraction():
    for head_dim in range(2, 257):
        for rotary_dim in range(2, head_dim + 1, 2):
            assert int(head_dim * _fraction(rotary_dim, head_dim)) == rotary_dim


@pytest.mark.parametrize(("kind", "bound"), [("Q8_0", 0.006), ("Q4_0", 0.1), ("Q4_1", 0.09)])
def test_blocks_stay_close(tmp_path, tokenizer_folder, decisive, kind, bound):
    model = decisive(CONFIGS["phi3"])
    save_gguf(model, tokenizer_folder, tmp_path / "a.gguf", kind)
    again = load_gguf(tmp_path / "a.gguf")
    for (name, ours), theirs in zip(model.named_parameters(), again.parameters(), strict=True):
        error = ((ours - theirs).norm() / ours.norm()).item()
        limit = (
            0.0 if ours.dim() == 1 else 0.006 if name in ("embed_tokens.weight", "lm_head.weight") else bound
        )
        assert error <= limit, name
        assert ours.dim() == 1 or error > 0


@pytest.mark.parametrize("name", ["phi3-longrope", "llama"])
def test_the_gguf_package_reads_what_we_write(tmp_path, tokenizer_folder, decisive, name):
    save_gguf(decisive(CONFIGS[name]), tokenizer_folder, tmp_path / "a.gguf", "Q4_0")
    ours, theirs = GGUFFile(tmp_path / "a.gguf"), gguf.GGUFReader(tmp_path / "a.gguf")
    assert [tensor.name for tensor in theirs.tensors] == list(ours.tensors)
    for tensor in theirs.tensors:
        info = ours.tensors[tensor.name]
        assert (tensor.tensor_type.name, tuple(tensor.shape)[::-1]) == (info.kind, info.shape)
        expected = gguf.dequantize(tensor.data, tensor.tensor_type).reshape(info.shape)
        assert np.array_equal(ours.read(tensor.name).numpy(), expected)
    for key, value in ours.metadata.items():
        assert theirs.fields[key].contents() == value.value


def test_we_read_what_the_gguf_package_writes(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_custom_alignment(64)
    writer.add_uint8("x.u8", 200)
    writer.add_int64("x.i64", -(2**40))
    writer.add_float64("x.f64", 0.1)
    writer.add_bool("x.bool", True)
    writer.add_array("x.texts", ["a", "", "né"])
    writer.add_array("x.numbers", [1, -2, 3])
    one, two = np.arange(6, dtype=np.float32).reshape(2, 3), np.arange(5, dtype=np.float16)
    writer.add_tensor("one", one)
    writer.add_tensor("two", two)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GGUFFile(tmp_path / "a.gguf")
    expected = {
        "u8": 200,
        "i64": -(2**40),
        "f64": 0.1,
        "bool": True,
        "texts": ["a", "", "né"],
        "numbers": [1, -2, 3],
    }
    assert {key: file.get(f"x.{key}") for key in expected} == expected
    assert np.array_equal(file.read("one").numpy(), one)
    assert np.array_equal(file.read("two").numpy(), two)


def test_k_quants_are_decoded_as_the_format_says():
    """One Q6_K block by hand: 128 low nibbles, 64 high pairs, 16 scales, one fp16 step."""
    generator = np.random.default_rng(0)
    raw = generator.integers(0, 256, 210, dtype=np.uint8)
    raw[208:210] = np.frombuffer(np.float16(0.03).tobytes(), np.uint8)
    low, high, scales = raw[:128], raw[128:192], raw[192:208].view(np.int8)
    expected = np.zeros(256, dtype=np.float32)
    for half in range(2):
        for part in range(4):
            for i in range(32):
                byte = int(low[64 * half + 32 * (part % 2) + i])
                nibble = byte >> 4 if part >= 2 else byte & 15
                pair = (int(high[32 * half + i]) >> (2 * part)) & 3
                number = 128 * half + 32 * part + i
                expected[number] = (
                    np.float32(np.float16(0.03)) * int(scales[number // 16]) * ((nibble | pair << 4) - 32)
                )
    assert np.allclose(decode(raw, "Q6_K", (256,)), expected, rtol=1e-6)


def test_interleaving_is_a_permutation_of_rotary_pairs():
    rows = torch.arange(16.0)[:, None].expand(16, 3)
    mixed = interleave(rows, 2)
    assert mixed[:, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]
    assert torch.equal(deinterleave(mixed, 2), rows)


def test_rows_that_fit_no_block_stay_f16(tmp_path, tokenizer_folder, decisive):
    config = ModelConfig(**(BASE | {"intermediate_size": 80}))
    save_gguf(decisive(config), tokenizer_folder, tmp_path / "a.gguf", "Q4_0")
    kinds = {name: info.kind for name, info in GGUFFile(tmp_path / "a.gguf").tensors.items()}
    assert kinds["blk.0.ffn_down.weight"] == "F16"
    assert kinds["blk.0.ffn_up.weight"] == "Q4_0"
    assert kinds["token_embd.weight"] == kinds["output.weight"] == "Q8_0"
    assert kinds["blk.0.attn_norm.weight"] == "F32"


def test_tokenizer_and_template_travel_inside(tmp_path, tokenizer_folder, decisive):
    save_gguf(decisive(CONFIGS["phi3"]), tokenizer_folder, tmp_path / "a.gguf", "F16")
    file = GGUFFile(tmp_path / "a.gguf")
    assert file.get("tokenizer.ggml.pre") == "smollm"
    assert file.get("tokenizer.ggml.tokens")[511] == "[PAD511]"
    assert file.get("tokenizer.ggml.token_type")[:6] == [3, 3, 3, 3, 3, 1]
    assert file.get("tokenizer.ggml.token_type")[511] == 5
    assert file.get("tokenizer.ggml.eot_token_id") == 4
    for name, text in tokenizer_files(file).items():
        (tmp_path / name).write_text(text)
    ours, again = Tokenizer.load(tokenizer_folder), Tokenizer.load(tmp_path)
    text = "def f(x):\n    return 1234 + 'né' <|user|>\n\n\tclass"
    assert again.encode(text) == ours.encode(text)
    assert again.encode(text, specials=True) == ours.encode(text, specials=True)
    assert again.specials == ours.specials
    assert again.chat_template == ours.chat_template
    # ids that only pad the embedding table name no token
    assert again.vocab_size == ours.vocab_size


TOKENIZERS = ("smollm", "gpt-2", "dbrx", "gpt-4o", "sentencepiece")
TEXTS = (
    "def f(x):\n    return 1234 + 'né' <|user|>\n\n\tclass",
    "don't WE'LL 3.14159  helloWorld ▁ 日本 🎈\r\n   x",
    " leading",
)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_kind_of_tokenizer_comes_back_from_its_file(tmp_path, tokenizer_folders, decisive, name):
    path, ours = tmp_path / "a.gguf", Tokenizer.load(tokenizer_folders[name])
    save_gguf(decisive(ModelConfig(**(BASE | {"vocab_size": 600}))), tokenizer_folders[name], path, "F16")
    file = GGUFFile(path)
    kind = "llama" if name == "sentencepiece" else "gpt2"
    assert file.get("tokenizer.ggml.model") == kind
    assert file.get("tokenizer.ggml.pre") == {"llama": "default"}.get(kind, name)
    for filename, text in tokenizer_files(file).items():
        (tmp_path / filename).write_text(text)
    again = Tokenizer.load(tmp_path)
    assert again.specials == ours.specials
    assert again.template.name == ours.template.name
    assert again.vocab_size == ours.vocab_size
    for text in TEXTS:
        ids = again.encode(text)
        assert ids == ours.encode(text)
        assert again.encode(text, specials=True) == ours.encode(text, specials=True)
        assert again.decode(ids) == ours.decode(ids)
        spelled = b"".join(again.token_bytes(i) for i in ids).decode()
        assert spelled == (" " if kind == "llama" else "") + text.replace(
            "▁", " " if kind == "llama" else "▁"
        )
    save_gguf(load_gguf(path), tmp_path, tmp_path / "b.gguf", "F16")
    assert path.read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_vocabularies_that_scores_cannot_say_are_refused(tmp_path, tokenizer_folders, decisive):
    content = json.loads((tokenizer_folders["sentencepiece"] / "tokenizer.json").read_text())
    model = decisive(ModelConfig(**(BASE | {"vocab_size": 600})))
    made = ["".join(merge) for merge in content["model"]["merges"]]
    several = next(n for n, token in enumerate(made) if made.count(token) > 1)
    changed = json.loads(json.dumps(content))
    del changed["model"]["merges"][several]
    (tmp_path / "tokenizer.json").write_text(json.dumps(changed))
    with pytest.raises(HornbookError, match="makes 1 joins of tokens to a token by no merge"):
        save_gguf(model, tmp_path, tmp_path / "x.gguf", "F16")
    content["pre_tokenizer"] = {"type": "Whitespace"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(HornbookError, match="prepares text in a way"):
        save_gguf(model, tmp_path, tmp_path / "x.gguf", "F16")


@pytest.mark.parametrize("keep", [10, 30, 500, 5000, 0.6, -1])
def test_truncated_file(tmp_path, tokenizer_folder, decisive, keep):
    path = tmp_path / "a.gguf"
    save_gguf(decisive(CONFIGS["phi3"]), tokenizer_folder, path, "F16")
    data = path.read_bytes()
    # the last tensor is padded to the alignment: cut into its numbers
    end = max(info.start + info.size for info in GGUFFile(path).tensors.values())
    path.write_bytes(
        data[: end - 1 if keep == -1 else int(len(data) * keep) if isinstance(keep, float) else keep]
    )
    with pytest.raises(HornbookError, match=r"truncated|not a GGUF file"):
        load_gguf(path)


def test_other_faults_are_sentences(tmp_path, tokenizer_folder, decisive):
    with pytest.raises(HornbookError, match="There is no file"):
        load_gguf(tmp_path / "none.gguf")
    (tmp_path / "text.gguf").write_text("x" * 100)
    with pytest.raises(HornbookError, match="not a GGUF file"):
        load_gguf(tmp_path / "text.gguf")
    (tmp_path / "old.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 1, 0, 0))
    with pytest.raises(HornbookError, match="version 1"):
        load_gguf(tmp_path / "old.gguf")
    model = decisive(CONFIGS["phi3"])
    with pytest.raises(HornbookError, match="kind 'Q5_K' cannot be written"):
        save_gguf(model, tokenizer_folder, tmp_path / "x.gguf", "Q5_K")
    with pytest.raises(HornbookError, match=r"no tokenizer\.json"):
        save_gguf(model, tmp_path, tmp_path / "x.gguf", "F16")
    small = decisive(ModelConfig(**(BASE | {"vocab_size": 400})))
    with pytest.raises(HornbookError, match="ids up to 499, but the model has only 400"):
        save_gguf(small, tokenizer_folder, tmp_path / "x.gguf", "F16")
    with torch.no_grad():
        model.layers[0].mlp.down_proj.weight[3, 3] = 1e6
    with pytest.raises(HornbookError, match="too large for F16"):
        save_gguf(model, tokenizer_folder, tmp_path / "x.gguf", "F16")
    assert not list(tmp_path.glob("*x.gguf*"))


def test_unknown_architecture_and_foreign_tokenizer(tmp_path, tokenizer_folder, decisive):
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(HornbookError, match=r"architecture 'mamba'.*phi2, phi3, llama"):
        load_gguf(tmp_path / "a.gguf")
    content = json.loads((tokenizer_folder / "tokenizer.json").read_text())
    content["pre_tokenizer"] = {"type": "Whitespace"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(HornbookError, match="cuts text in a way"):
        save_gguf(decisive(CONFIGS["phi3"]), tmp_path, tmp_path / "x.gguf", "F16")


def test_tensors_that_contradict_the_metadata_are_listed(tmp_path, tokenizer_folder, decisive):
    path = tmp_path / "a.gguf"
    save_gguf(decisive(CONFIGS["phi3"]), tokenizer_folder, path, "F32")
    path.write_bytes(path.read_bytes().replace(b"blk.1.ffn_norm.weight", b"blk.9.ffn_norm.weight"))
    with pytest.raises(
        HornbookError, match=r"1 missing: blk\.1\.ffn_norm\.weight.*not part of the model: blk\.9"
    ):
        load_gguf(path)
