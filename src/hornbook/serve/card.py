"""The README of an exported model: what it is, how to run it, what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hornbook.data.tokenizer import Tokenizer
from hornbook.model.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class Card:
    """What the exporter cannot know by itself.

    summary:     one or two sentences: what the model is for and what it was raised on.
    licence:     an SPDX identifier ("mit", "apache-2.0"), or "other".
    languages:   ISO 639-1 codes.
    measured:    name -> result in words, shown as a table ("bits per byte, stories" -> "0.71").
    limitations: sentences for the section of that name.
    """

    summary: str = ""
    licence: str = "other"
    languages: Sequence[str] = ("en",)
    measured: Mapping[str, str] = field(default_factory=dict)
    limitations: str = ""


_LIMITATIONS = (
    "A small model: it states falsehoods fluently, knows little beyond what it was trained on, and must not "
    "be relied on for advice. Measure it on your own task before use."
)


def model_card(config: ModelConfig, tokenizer: Tokenizer, name: str, files: Sequence[str], card: Card) -> str:
    """README.md with the metadata block that model hubs read."""
    languages = "".join(f"\n- {code}" for code in card.languages)
    head = (
        f"---\nlanguage:{languages}\nlicense: {card.licence}\nlibrary_name: transformers\n"
        "pipeline_tag: text-generation\ntags:\n- hornbook\n---\n"
    )
    heads = f"{config.heads} query and {config.kv_heads} key-value heads of {config.head_dim}"
    facts = {
        "architecture": f"{config.family}, {config.layers} layers, width {config.hidden_size}, {heads}",
        "parameters": f"{config.parameters():,}",
        "context": f"{config.max_position:,} tokens",
        "vocabulary": f"{tokenizer.vocab_size:,} BPE tokens",
        "chat template": _template_name(tokenizer),
    }
    parts = [
        head,
        f"# {name}\n",
        card.summary,
        _table("", facts),
        "## Running it\n",
        _usage(files),
        _table("## Measured\n", card.measured) if card.measured else "",
        f"## Limitations\n\n{card.limitations or _LIMITATIONS}\n",
    ]
    return "\n".join(part for part in parts if part)


def _template_name(tokenizer: Tokenizer) -> str:
    if tokenizer.template is not None:
        return tokenizer.template.name
    return "its own (chat_template.jinja)" if tokenizer.chat_template else "none: it continues text"


def _table(title: str, rows: Mapping[str, str]) -> str:
    lines = [f"| {key} | {value} |" for key, value in rows.items()]
    return "\n".join([title, "| | |", "|---|---|", *lines, ""])


def _usage(files: Sequence[str]) -> str:
    lines = ["```python", "from transformers import AutoModelForCausalLM, AutoTokenizer", ""]
    lines += ['tokenizer = AutoTokenizer.from_pretrained("FOLDER")']
    lines += ['model = AutoModelForCausalLM.from_pretrained("FOLDER")']
    lines += ['messages = [{"role": "user", "content": "Tell me a story about a fox."}]']
    lines += [
        'ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")'
    ]
    lines += ["print(tokenizer.decode(model.generate(**ids, max_new_tokens=200)[0]))", "```", ""]
    lines += ["```sh", "hornbook chat FOLDER"]
    lines += [f"llama-cli -m {file}   # or: hornbook chat {file}" for file in files]
    return "\n".join([*lines, "```", ""])
