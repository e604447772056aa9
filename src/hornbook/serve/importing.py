"""A model from elsewhere as a checkpoint folder of this house: weights, tokenizer and template, read back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.model.config import ModelConfig
from hornbook.model.hf import verify_checkpoint
from hornbook.serve.export import opened, refuse_other, write_folder

_PROBES = (
    "The quick brown fox jumps over 12,345 lazy dogs.",
    "  def f(x):\n\treturn x[1:] + 'é' # 日本語 🎈\n\n\n",
    "don't WE'LL 3.14159 <|user|> </s>\r\n",
)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What was written. checked: tensors compared bit by bit with the source."""

    folder: Path
    config: ModelConfig
    dtype: torch.dtype
    checked: int
    vocabulary: int
    has_template: bool


def import_model(
    source: str | Path,
    out: str | Path,
    *,
    dtype: torch.dtype | None = None,
    tokenizer: str | Path | None = None,
    say: Callable[[str], None] = lambda sentence: None,
) -> Imported:
    """Writes the model at `source` as a checkpoint folder `out` and compares every number with the source.

    The folder appears when everything in it has been read back and is right.

    Args:
        source: a Hugging Face folder, a .gguf, or "smollm2".
        dtype: of the numbers; None: the type the source keeps its matrices in, fp32 for block formats.
        tokenizer: a folder with a tokenizer to take instead of the source's own.
        say: told each stage.

    Raises:
        HornbookError: no model there, one that cannot be read, a tokenizer that cannot, or a folder `out`
            that holds something else.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise HornbookError(f"{out} is a file; name a folder to import to.")
    if out.exists():
        refuse_other(out)
    with opened(source, tokenizer) as (model, tokenizer_folder, _):
        found = Tokenizer.load(tokenizer_folder)
        if found.vocab_size > model.config.vocab_size:
            raise HornbookError(
                f"The tokenizer in {tokenizer_folder} has {found.vocab_size:,} ids and the model only "
                f"{model.config.vocab_size:,} rows: they do not belong together."
            )
        # One folder, one dtype: a GGUF keeps norms in fp32 beside half-precision matrices.
        kept = dtype or model.embed_tokens.weight.dtype
        say(f"writing {out}")
        checked = 0

        def verify(folder: Path) -> None:
            nonlocal checked
            say("reading it back")
            checked = verify_checkpoint(model, folder, dtype=kept)
            _same_tokenizer(found, Tokenizer.load(folder))

        write_folder(model, found, out, dtype=kept, verify=verify)
        return Imported(
            folder=out,
            config=model.config,
            dtype=kept,
            checked=checked,
            vocabulary=found.vocab_size,
            has_template=found.chat_template is not None,
        )


def _same_tokenizer(before: Tokenizer, after: Tokenizer) -> None:
    """Raises HornbookError where a tokenizer read back is another one."""
    same = before.specials == after.specials and before.chat_template == after.chat_template
    for text in _PROBES:
        ids = before.encode(text)
        same = same and ids == after.encode(text) and before.decode(ids) == after.decode(ids)
    if not same:
        raise HornbookError("The tokenizer read back is not the one written. This is a defect; report it.")
