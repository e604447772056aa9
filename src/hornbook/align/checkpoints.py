"""Checkpoints going into and coming out of post-training."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from hornbook.data.chat import ChatTemplate
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.lab.step import Artifact
from hornbook.model.config import ModelConfig
from hornbook.model.decoder import Decoder

if TYPE_CHECKING:
    from hornbook.align.lora import LoRA


def folder_of(where: Artifact | Path) -> Path:
    """The folder an artifact made, or the folder itself."""
    return where.path if isinstance(where, Artifact) else where


def config_of(model: Artifact | Path) -> ModelConfig | None:
    """The shape of a checkpoint; None while it is not made yet (a plan)."""
    from hornbook.model.hf import read_config

    folder = folder_of(model)
    return read_config(folder) if (folder / "config.json").is_file() else None


def template_of(tokenizer: Tokenizer, name: str | None = None) -> ChatTemplate:
    """The template called `name`, or the tokenizer's own.

    Raises:
        HornbookError: no name given, and the tokenizer has no template or a foreign one.
    """
    if name is not None:
        return ChatTemplate(name)
    if tokenizer.template is None:
        what = "a chat template that is not one of ours" if tokenizer.chat_template else "no chat template"
        raise HornbookError(
            f"This model's tokenizer has {what}; say which to train with: "
            f"template is one of {', '.join(ChatTemplate.names())}."
        )
    return tokenizer.template


def taught_form(tokenizer: Tokenizer) -> ChatTemplate:
    """The chat template that a student of any origin is taught in: its own, or the plain form of it.

    Templates of others fill in system messages of their own (SmolLM2's does), which no training row should
    hold; where the marks are ChatML's, the plain form has the same.

    Raises:
        HornbookError: a template of another kind.
    """
    if tokenizer.template is None and "<|im_start|>" in tokenizer.specials:
        return ChatTemplate("chatml")
    return template_of(tokenizer)


def to_train(folder: Path) -> Decoder:
    """The checkpoint in fp32, to be trained, on the GPU where there is one."""
    import torch

    from hornbook.model.hf import load_checkpoint
    from hornbook.train.parallel import training_device

    return load_checkpoint(folder, dtype=torch.float32, device=training_device()).train()


def open_student(
    folder: Path,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    *,
    lora: "LoRA | None" = None,
    seed: int = 0,
) -> Decoder:
    """The checkpoint to be trained (whole, or adapters alone); its generations end at the template's stop
    token from now on."""
    decoder = to_train(folder)
    stops = (tokenizer.special(template.stop), tokenizer.end_of_text)
    eos = tuple(dict.fromkeys([*decoder.config.eos_ids, *stops]))
    decoder.config = replace(decoder.config, eos_ids=eos)
    if lora is not None:
        from hornbook.align.lora import add_lora

        add_lora(decoder, lora, seed=seed)
    return decoder.train()


def trained_parameters(decoder: Decoder) -> int:
    """How many numbers training changes."""
    return sum(p.numel() for p in decoder.parameters() if p.requires_grad)


def lora_saver(lora: "LoRA", base: Path) -> Callable[[nn.Module, Path], None]:
    """What the trainer calls to write a model with adapters: the merged checkpoint, and beside its folder the
    adapters as `peft` loads them."""
    from hornbook.align.lora import merge_lora, save_adapter
    from hornbook.model.hf import save_checkpoint

    def save(model: nn.Module, folder: Path) -> None:
        assert isinstance(model, Decoder)
        save_checkpoint(merge_lora(model), folder)
        save_adapter(model, folder.parent / "adapter", lora, base=str(base))

    return save


def finish_student(folder: Path, tokenizer: Tokenizer, template: ChatTemplate) -> None:
    """Puts the tokenizer, with the template that was trained, beside the weights, and removes the resume
    state, which has served its end."""
    tokenizer.config = {**tokenizer.config, "chat_template": template.jinja}
    tokenizer.save(folder)
    shutil.rmtree(folder / "training", ignore_errors=True)
