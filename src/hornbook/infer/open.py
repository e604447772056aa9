"""`open_model(spec)`: any model by one word or path."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.infer.language_model import LocalModel
from hornbook.infer.weights import Weights
from hornbook.lm.base import LanguageModel
from hornbook.lm.several import SeveralModels, parse_several

if TYPE_CHECKING:
    from hornbook.lm.store import CallStore

ACCEPTED = (
    "a checkpoint folder (with config.json), a .gguf file, 'smollm2' or 'embedded' (the embedded "
    "SmolLM2-135M-Instruct), an OpenAI-compatible endpoint as http://host:port/v1#model, or several with "
    "weights as 3*http://a/v1#m, http://b/v1#n"
)


def open_model(
    spec: str | Path,
    *,
    weights: Weights = "auto",
    max_rows: int = 64,
    calls: "CallStore | None" = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> LanguageModel:
    """The model that `spec` names: see `ACCEPTED`.

    weights, max_rows: of local models (see `Engine`). calls: keeps the answers of endpoints, so that none is
    paid twice. say: told what takes long (a first download).

    Raises:
        HornbookError: nothing is there by that name; the message lists what is accepted.
    """
    text = str(spec)
    if not Path(text).expanduser().exists() and (several := parse_several(text)) is not None:
        return SeveralModels([(open_model(one, weights=weights, say=say), share) for one, share in several])
    if text.startswith("batch:"):
        raise HornbookError(f"{text}: a provider's batches need a call store; only writers of data keep one.")
    if text.startswith(("http://", "https://")):
        from hornbook.lm.endpoint import EndpointModel

        return EndpointModel.from_spec(text, store=calls)
    return open_local(spec, weights=weights, max_rows=max_rows, say=say)


def checkpoint_folder(spec: str | Path, *, say: Callable[[str], None] = lambda sentence: None) -> Path:
    """The checkpoint folder that `spec` names: a folder, or 'smollm2' (fetched once). What can be trained.

    Raises:
        HornbookError: there is no such folder; an endpoint or a .gguf file has no weights to train.
    """
    if str(spec) in ("smollm2", "embedded"):
        from hornbook.model.embedded import embedded_checkpoint

        return embedded_checkpoint(say)
    path = Path(spec).expanduser()
    if not (path / "config.json").is_file():
        raise HornbookError(
            f"{spec} is no checkpoint to train: accepted is a folder with config.json, or 'smollm2'."
        )
    return path


def open_local(
    spec: str | Path,
    *,
    weights: Weights = "auto",
    max_rows: int = 64,
    say: Callable[[str], None] = lambda sentence: None,
) -> LocalModel:
    """As `open_model`, for what runs on this machine."""
    text, path = str(spec), Path(spec).expanduser()
    if text in ("smollm2", "embedded"):
        from hornbook.model.embedded import embedded_checkpoint, embedded_codes

        if weights == "int4" or weights == "int8":
            folder = embedded_codes(weights, say)
        else:
            folder = embedded_checkpoint(say)
        return LocalModel.open(folder, weights=weights, max_rows=max_rows)
    if path.suffix == ".gguf" and path.is_file():
        return _open_gguf(path, weights, max_rows)
    if (path / "config.json").is_file():
        return LocalModel.open(path, weights=weights, max_rows=max_rows)
    if path.is_dir():
        raise HornbookError(
            f"The folder {path} holds no model: config.json is missing. Accepted is {ACCEPTED}."
        )
    raise HornbookError(f"There is no model {text!r}. Accepted is {ACCEPTED}.")


def _open_gguf(path: Path, weights: Weights, max_rows: int) -> LocalModel:
    from hornbook.lab.files import sha256_file
    from hornbook.model.gguf import load_gguf
    from hornbook.model.gguf_file import GGUFFile
    from hornbook.model.gguf_tokenizer import tokenizer_files

    file = GGUFFile(path)
    model = load_gguf(file)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in tokenizer_files(file).items():
            (Path(folder) / name).write_text(content, encoding="utf-8")
        tokenizer = Tokenizer.load(folder)
    name = f"{path.name}@{sha256_file(path)[:16]}"
    return LocalModel(model, tokenizer, name=name, weights=weights, max_rows=max_rows)
