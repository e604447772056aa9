"""Models in the formats others run: a Hugging Face folder and GGUF files."""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.lab.files import write_atomic, write_json
from hornbook.model.decoder import Decoder
from hornbook.model.gguf import Kind, departures, save_gguf
from hornbook.model.quantize import Coded, quantize
from hornbook.model.quantized import QuantLinear
from hornbook.model.quantized_folder import save_quantized
from hornbook.serve.card import Card, model_card

if TYPE_CHECKING:
    import torch

HF = "hf"
CODED = get_args(Coded)
KINDS = (HF, *(kind.lower() for kind in get_args(Kind)), *CODED)
"""What can be written. "gguf" stands for q8_0 and q4_0."""

_GROUPS = {"gguf": ("q8_0", "q4_0")}
_SAYS_NOTHING = ("model", "checkpoint", HF)


def export_model(
    folder: str | Path,
    out: str | Path,
    *,
    kinds: Sequence[str] = (HF, "q8_0", "q4_0"),
    name: str | None = None,
    card: Card | None = None,
    calibration: Sequence[str] | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> list[Path]:
    """Writes a model into the folder `out` and returns what was written, in the order of `kinds`.

    "hf" becomes `out/hf` (weights in their own type, tokenizer, chat template, README.md); "int4" and "int8"
    become folders of that name, which our engine opens; the other kinds become `out/NAME-KIND.gguf` with
    tokenizer and chat template inside. Each appears whole or not at all.

    Args:
        folder: a checkpoint folder, a .gguf, or "smollm2".
        kinds: of `KINDS`, in any case; "gguf" for both usual ones.
        name: of the files and in their metadata; default the folder's name (of a folder called "model":
            hornbook and its millions of parameters).
        card: what README.md says besides the facts of the model.
        calibration: texts for "int4" and "int8", whose rounding errors are then compensated where these texts
            feel them (`hornbook.model.quantize`); None rounds to nearest.
        say: told what llama.cpp leaves out or computes otherwise than the model.

    Raises:
        HornbookError: no model there, an unknown kind, or a model a format cannot express.
    """
    wanted = parse_kinds(kinds)
    with opened(folder) as (model, tokenizer_folder, found):
        label = name or found
        tokenizer = Tokenizer.load(tokenizer_folder)
        _name_stops(model, tokenizer)
        out = Path(out)
        out.mkdir(parents=True, exist_ok=True)
        paths = {kind: place(out, label, kind) for kind in wanted}
        ggufs = [f"../{path.name}" for kind, path in paths.items() if kind not in (HF, *CODED)]
        for kind, path in paths.items():
            if kind == HF:
                readme = model_card(model.config, tokenizer, label, ggufs, card or Card())
                write_folder(model, tokenizer, path, readme=readme)
            elif kind in CODED:
                ids = None if calibration is None else calibration_ids(tokenizer, calibration)
                coded = quantize(model, cast(Coded, kind), calibration=ids, say=say)
                write_folder(coded, tokenizer, path)
            else:
                save_gguf(
                    model,
                    tokenizer_folder,
                    path,
                    cast(Kind, kind.upper()),
                    name=label,
                    text_only=True,
                    # llama.cpp's phimoe has no LayerNorm, only one that this makes equal to it.
                    centred=model.config.family == "phimoe" and not model.config.tied_embeddings,
                )
        if ggufs:
            for sentence in departures(model.config):
                say(sentence)
    return list(paths.values())


def parse_kinds(kinds: Sequence[str]) -> list[str]:
    """Kinds in small letters, groups spelled out, each once.

    Raises:
        HornbookError: an unknown kind, or none.
    """
    found: list[str] = []
    for given in kinds:
        kind = given.strip().lower()
        if kind not in KINDS and kind not in _GROUPS:
            raise HornbookError(
                f"A model cannot be exported to {given.strip()!r}; accepted are {', '.join(KINDS)}, gguf."
            )
        found += _GROUPS.get(kind, (kind,))
    if not found:
        raise HornbookError(f"Nothing to export to: name at least one of {', '.join(KINDS)}.")
    return list(dict.fromkeys(found))


def place(out: Path, name: str, kind: str) -> Path:
    """Where `kind` of the model `name` lies below `out`."""
    return out / kind if kind in (HF, *CODED) else out / f"{name}-{kind.upper()}.gguf"


def calibration_ids(
    tokenizer: Tokenizer, texts: Iterable[str], *, rows: int = 192, time: int = 256
) -> list[list[int]]:
    """`rows` windows of `time` tokens, spread evenly over the texts; fewer where there is less.

    Each begins with the token that texts begin with in use: the activations at a model's first token are of
    another size than all others, and codes that were not fitted to them lose much. Of long texts the first 16
    times as many tokens are looked at: neighbours are too alike to calibrate on.
    """
    ids: list[int] = []
    for text in texts:
        ids += [*tokenizer.encode(text), tokenizer.end_of_text]
        if len(ids) >= 16 * rows * time:
            break
    whole = len(ids) // time
    if whole == 0:
        return [[tokenizer.end_of_text, *ids]] if ids else []
    kept = min(rows, whole)
    starts = [time * (place * whole // kept) for place in range(kept)]
    return [[tokenizer.end_of_text, *ids[begin : begin + time - 1]] for begin in starts]


@contextmanager
def opened(source: str | Path, tokenizer: str | Path | None = None) -> Iterator[tuple[Decoder, Path, str]]:
    """A model, the folder of its tokenizer (for as long as the context lasts), and its name.

    tokenizer: a folder whose tokenizer is taken instead of the model's own.
    """
    text, path = str(source), Path(source).expanduser()
    if text in ("smollm2", "embedded"):
        from hornbook.model.embedded import embedded_checkpoint

        path = embedded_checkpoint()
    if path.suffix == ".gguf" and path.is_file():
        from hornbook.model.gguf import load_gguf
        from hornbook.model.gguf_file import GGUFFile
        from hornbook.model.gguf_tokenizer import tokenizer_files

        file = GGUFFile(path)
        with tempfile.TemporaryDirectory() as folder:
            if tokenizer is None:
                for name, content in tokenizer_files(file).items():
                    (Path(folder) / name).write_text(content, encoding="utf-8")
            yield load_gguf(file), Path(tokenizer or folder), path.stem
        return
    from hornbook.model.hf import load_checkpoint

    if not (path / "config.json").is_file():
        raise HornbookError(
            f"There is no model at {text!r}: give a checkpoint folder (with config.json), a .gguf or smollm2."
        )
    model, name = load_checkpoint(path), path.resolve().name
    if name in _SAYS_NOTHING:
        name = f"hornbook-{max(1, round(model.config.parameters() / 1e6))}m"
    yield model, Path(tokenizer or path), name


def _name_stops(model: Decoder, tokenizer: Tokenizer) -> None:
    """Puts the template's stop token and the end of text into the config: other programs look only there."""
    stops = [*model.config.eos_ids]
    if tokenizer.template is not None and tokenizer.template.stop in tokenizer.specials:
        stops += [tokenizer.special(tokenizer.template.stop), tokenizer.end_of_text]
    model.config = replace(model.config, eos_ids=tuple(dict.fromkeys(stops)))


def write_folder(
    model: Decoder,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    readme: str | None = None,
    dtype: "torch.dtype | None" = None,
    verify: Callable[[Path], None] = lambda made: None,
) -> None:
    """A checkpoint folder with its tokenizer, under its final name only when `verify` has read it."""
    from hornbook.model.hf import save_checkpoint

    making = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(making, ignore_errors=True)
    try:
        tokenizer.save(making)
        settings = {**tokenizer.config, "model_max_length": model.config.max_position}
        write_json(making / "tokenizer_config.json", settings)
        if tokenizer.chat_template:
            write_atomic(making / "chat_template.jinja", tokenizer.chat_template)
        if readme is not None:
            write_atomic(making / "README.md", readme)
        head: object = model.lm_head
        if isinstance(head, QuantLinear):
            save_quantized(model, making)
        else:
            save_checkpoint(model, making, dtype=dtype)
        verify(making)
        if folder.exists():
            refuse_other(folder)
            shutil.rmtree(folder)
        making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def refuse_other(folder: Path) -> None:
    """A model may replace an earlier model, nothing else."""
    if not (folder / "config.json").is_file() and any(folder.iterdir()):
        raise HornbookError(
            f"{folder} holds something that is no model; it is left alone. Choose another folder with --out."
        )


def size_bytes(path: Path) -> int:
    """Bytes on disk of a file, or of all files below a folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)
