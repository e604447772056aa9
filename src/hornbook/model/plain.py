"""Decoders of any kind in a folder of our own: where no ecosystem's format can express them.

`model.safetensors` holds the parameters under their own names and `hornbook.json` the ModelConfig. Whatever
Hugging Face can express belongs in `hornbook.model.hf` instead.
"""

import json
from pathlib import Path

import torch

from hornbook.errors import HornbookError
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder
from hornbook.model.tensor_file import Planned, atomic_file, read_header, write_tensors

_WEIGHTS, _CONFIG = "model.safetensors", "hornbook.json"


def save_plain(model: Decoder, folder: str | Path) -> None:
    """Writes both files, each whole or not at all, the config last."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = [
        Planned(name=name, dtype=value.dtype, shape=tuple(value.shape), make=lambda value=value: value)  # type: ignore[misc]
        for name, value in model.named_parameters()
    ]
    write_tensors(folder / _WEIGHTS, tensors)
    with atomic_file(folder / _CONFIG) as stream:
        stream.write((json.dumps(model.config.to_dict(), indent=2) + "\n").encode())


def load_plain(folder: str | Path, *, device: torch.device | str = "cpu") -> Decoder:
    """The decoder that `save_plain` wrote, in evaluation mode.

    Raises:
        HornbookError: a file is missing or damaged, they do not fit together, or a number is not finite.
    """
    folder = Path(folder)
    for name in (_CONFIG, _WEIGHTS):
        if not (folder / name).is_file():
            raise HornbookError(f"{folder} holds no {name}, so it is no folder of hornbook.model.plain.")
    try:
        config = ModelConfig.from_dict(json.loads((folder / _CONFIG).read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise HornbookError(f"{folder / _CONFIG} is damaged ({error}).") from error
    entries, _ = read_header(folder / _WEIGHTS)
    model = Decoder(config)
    wanted = {name: tuple(value.shape) for name, value in model.named_parameters()}
    found = {name: entry.shape for name, entry in entries.items()}
    if wanted != found:
        wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise HornbookError(f"{folder}: weights and {_CONFIG} do not fit together in {', '.join(wrong[:5])}.")
    bad = []
    for name, value in model.named_parameters():
        value.data = entries[name].read()
        if not bool(value.isfinite().all()):
            bad.append(name)
    if bad:
        raise HornbookError(f"{folder} holds NaN or infinity in {', '.join(bad[:5])}; train the model anew.")
    return model.to(device).eval()
