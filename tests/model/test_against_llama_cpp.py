"""llama.cpp (wheel `xllamacpp`) runs what we export: same tokens, same probabilities, same templates."""

import json
import urllib.request
from dataclasses import replace

import pytest
import torch

from hornbook.data.tokenizer import Tokenizer
from hornbook.model.cache import KeyValueCache
from hornbook.model.config import LongRope, ModelConfig
from hornbook.model.gguf import departures, load_gguf, save_gguf

pytestmark = pytest.mark.oracle

BASE = {
    "vocab_size": 512,
    "hidden_size": 128,
    "layers": 3,
    "heads": 4,
    "intermediate_size": 160,
    "max_position": 256,
    "bos_id": 0,
    "eos_ids": (0, 4),
    "pad_id": 0,
}
ROPE = LongRope(
    short_factor=tuple(1 + 0.1 * i for i in range(16)),
    long_factor=tuple(1.5 + i for i in range(16)),
    original_max_position=64,
)
CONFIGS = {
    "phi3": ModelConfig(**BASE, rope_theta=25_000.0),
    "phi3-gqa-tied": ModelConfig(**BASE, kv_heads=2, tied_embeddings=True),
    "phi3-partial": ModelConfig(**BASE, rotary_fraction=0.75),
    "phi3-longrope": ModelConfig(**BASE, long_rope=ROPE),
    "llama": ModelConfig(**BASE, family="llama", kv_heads=1, tied_embeddings=True),
    "phi": ModelConfig(
        **BASE,
        family="phi",
        block="parallel",
        norm="layernorm",
        activation="gelu_new",
        attention_bias=True,
        mlp_bias=True,
        head_bias=True,
        rotary_fraction=0.5,
    ),
}
MOE = ModelConfig(
    **BASE,
    family="phimoe",
    norm="layernorm",
    kv_heads=2,
    experts=6,
    attention_bias=True,
    head_bias=True,
    long_rope=ROPE,
)
PROMPT = [5, 17, 300, 41, 99]
NEW = 24


def serve(path, context=256):
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = context
    params.n_parallel = 1
    params.warmup = False
    params.verbosity = -1
    params.cpuparams.n_threads = 1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.port = 0
    return xllamacpp.Server(params)


def post(server, path, body):
    request = urllib.request.Request(
        server.listening_address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def complete(server, new=NEW):
    """Greedy token ids, and (id, log-probability) of the first that ends on a whole character."""
    request = {"prompt": PROMPT, "n_predict": new, "temperature": 0, "top_k": 1, "n_probs": 1}
    answer = post(server, "/completion", request | {"ignore_eos": True, "return_tokens": True})
    first = answer["completion_probabilities"][0]
    return answer["tokens"], (first["id"], first["logprob"])


def nearest(ours, theirs):
    """How far llama.cpp's reported log-probability is from ours, where that id was chosen."""
    number, logprob = theirs[1]
    return min(abs(mine - logprob) for token, mine in zip(*ours, strict=True) if token == number)


@torch.inference_mode()
def greedy(model, new=NEW, follow=None):
    """Greedy ids and their log-probabilities; with `follow`, the log-probabilities of those ids instead."""
    # A cache of llama.cpp's context length makes LongRoPE choose as llama.cpp does.
    cache = KeyValueCache(model.config, batch=1, length=256)
    ids, logprobs, step = [], [], torch.tensor([PROMPT])
    for number in range(new):
        scores = model.logits(model(step, cache=cache)[:, -1]).log_softmax(-1)
        allowed = scores.clone()
        # ignore_eos: llama.cpp never picks an end-of-generation token, but reports the whole distribution
        allowed[:, list(model.config.eos_ids)] = -torch.inf
        step = allowed.argmax(-1, keepdim=True) if follow is None else torch.tensor([[follow[number]]])
        ids.append(step.item())
        logprobs.append(scores[0, step.item()].item())
    return ids, logprobs


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_same_greedy_tokens_and_probabilities(tmp_path, tokenizer_folder, decisive, name):
    model = decisive(CONFIGS[name])
    save_gguf(model, tokenizer_folder, tmp_path / "m.gguf", "F32")
    theirs = complete(serve(tmp_path / "m.gguf"))
    ours = greedy(model)
    assert ours[0] == theirs[0]
    # llama.cpp looks GELU up in a half-precision table
    assert nearest(ours, theirs) < (1e-3 if name == "phi" else 1e-4)


def softmax_of_the_best_two(scores, **settings):
    """llama.cpp's routing of phimoe: it has no SparseMixer, which the export says in words."""
    gates, chosen = scores.softmax(-1).topk(2, dim=-1)
    return gates / gates.sum(-1, keepdim=True), chosen


def test_phimoe_runs_in_llama_cpp_as_written_up_to_its_routing(
    tmp_path, tokenizer_folder, decisive, monkeypatch
):
    """With llama.cpp's rule in place of SparseMixer's the tokens are equal: every tensor is where it belongs.

    LayerNorm is among what must agree: llama.cpp's norm subtracts no mean, so the export takes it out.
    """
    model = decisive(MOE)
    save_gguf(model, tokenizer_folder, tmp_path / "m.gguf", "F32", centred=True)
    save_gguf(model, tokenizer_folder, tmp_path / "plain.gguf", "F32")
    theirs, plain = complete(serve(tmp_path / "m.gguf")), complete(serve(tmp_path / "plain.gguf"))
    published = greedy(model)
    monkeypatch.setattr("hornbook.model.moe.sparse_mixer", softmax_of_the_best_two)
    ours = greedy(model)
    assert ours[0] == theirs[0]
    assert nearest(ours, theirs) < 1e-4
    assert ours[0] != plain[0]
    assert published[0] != theirs[0]
    assert any("SparseMixer" in sentence for sentence in departures(MOE))


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1"])
@pytest.mark.parametrize("name", ["phi3", "llama"])
def test_every_kind_runs_with_near_probabilities(tmp_path, tokenizer_folder, decisive, name, kind):
    """llama.cpp rounds activations to the kind's partner type, so only the first tokens must agree."""
    save_gguf(decisive(CONFIGS[name]), tokenizer_folder, tmp_path / "m.gguf", kind)
    theirs = complete(serve(tmp_path / "m.gguf"), 4)
    model = load_gguf(tmp_path / "m.gguf", dtype=torch.float32)
    assert greedy(model, 1)[0][0] == theirs[0][0]
    # Later tokens may part at a near tie; probabilities are compared along llama.cpp's own path.
    assert nearest(greedy(model, 4, follow=theirs[0]), theirs) < 0.25


@pytest.mark.parametrize("kind", ["smollm", "gpt-2", "dbrx", "gpt-4o", "sentencepiece"])
def test_llama_cpp_tokenizes_and_renders_as_we_do(tmp_path, tokenizer_folders, decisive, kind):
    model = decisive(replace(CONFIGS["phi3"], vocab_size=600))
    save_gguf(model, tokenizer_folders[kind], tmp_path / "m.gguf", "F16")
    server = serve(tmp_path / "m.gguf")

    tokenizer = Tokenizer.load(tokenizer_folders[kind])
    special = next(iter(tokenizer.template.specials))
    texts = ("def f(x):\n\treturn 1234", "  two  spaces \n\n\n", "it's né 日本 3.14159", f"a {special} b")
    for text in (*texts, "don't WE'LL  helloWorld ▁ 🎈\r\n   x", "", " leading"):
        for specials in (True, False):
            request = {"content": text, "add_special": False, "parse_special": specials}
            theirs = post(server, "/tokenize", request)["tokens"]
            assert theirs == tokenizer.encode(text, specials=specials), text
    messages = [{"role": "user", "content": "Hi\nthere"}, {"role": "assistant", "content": "Yes"}]
    messages = [{"role": "system", "content": "Be brief."}, *messages, {"role": "user", "content": "Why?"}]
    theirs = post(server, "/apply-template", {"messages": messages})["prompt"]
    assert theirs == tokenizer.template.render(messages, add_generation_prompt=True)
