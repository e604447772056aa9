"""Chat templates of the phi family: as text, as Jinja, and as token ids with a mask for learning.

Sources: phi-3 technical report (arXiv 2404.14219) section 2 for `phi3`; phi-4 technical report (arXiv
2412.08905) section 4 for `phi4`; `phi3_small` begins with the end-of-text token, `phi4_mini` has no newlines
(their published tokenizer files); `chatml` is the form with newlines that SmolLM2 and many others use.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hornbook.errors import HornbookError

if TYPE_CHECKING:
    from hornbook.data.tokenizer import Tokenizer

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class _Form:
    """How a template writes a turn: its head, the text, the stop token, what comes after."""

    head: Mapping[str, tuple[str, ...]]  # what opens a turn of each role: special tokens and plain text
    stop: str  # the special token that ends every turn
    after: str  # plain text between turns
    final: str | None  # special token that closes a conversation without a generation prompt
    skip_empty_system: bool
    begin: str | None = None  # a special token before the first turn


_PHI3 = _Form(
    head={role: (f"<|{role}|>", "\n") for role in ROLES},
    stop="<|end|>",
    after="\n",
    final="<|endoftext|>",
    skip_empty_system=True,
)
_PHI3_SMALL = replace(_PHI3, begin="<|endoftext|>")
_PHI4_MINI = replace(
    _PHI3, head={role: (f"<|{role}|>",) for role in ROLES}, after="", skip_empty_system=False
)
_PHI4 = _Form(
    head={role: ("<|im_start|>", role, "<|im_sep|>") for role in ROLES},
    stop="<|im_end|>",
    after="",
    final=None,
    skip_empty_system=False,
)
_CHATML = _Form(
    head={role: ("<|im_start|>", f"{role}\n") for role in ROLES},
    stop="<|im_end|>",
    after="\n",
    final=None,
    skip_empty_system=False,
)

_FORMS = {
    "phi3": _PHI3,
    "phi3_small": _PHI3_SMALL,
    "phi4": _PHI4,
    "phi4_mini": _PHI4_MINI,
    "chatml": _CHATML,
}

_REFUSE = (
    "{%- else -%}"
    "{{- raise_exception('Unknown role ' + message['role'] + ': use system, user or assistant.') -}}"
    "{%- endif -%}"
)
_KNOWN = "message['role'] in ['system', 'user', 'assistant']"

_PHI3_JINJA = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' and not message['content'] -%}"
    f"{{%- elif {_KNOWN} -%}}"
    "{{- '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' -}}"
    f"{_REFUSE}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}"
    "{%- else -%}{{- '<|endoftext|>' -}}{%- endif -%}"
)
_JINJA = {
    "phi3": _PHI3_JINJA,
    "phi3_small": "{{- '<|endoftext|>' -}}" + _PHI3_JINJA,
    "phi4_mini": (
        "{%- for message in messages -%}"
        f"{{%- if {_KNOWN} -%}}"
        "{{- '<|' + message['role'] + '|>' + message['content'] + '<|end|>' -}}"
        f"{_REFUSE}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}"
        "{%- else -%}{{- '<|endoftext|>' -}}{%- endif -%}"
    ),
    "phi4": (
        "{%- for message in messages -%}"
        f"{{%- if {_KNOWN} -%}}"
        "{{- '<|im_start|>' + message['role'] + '<|im_sep|>' + message['content'] + '<|im_end|>' -}}"
        f"{_REFUSE}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant<|im_sep|>' -}}{%- endif -%}"
    ),
    "chatml": (
        "{%- for message in messages -%}"
        f"{{%- if {_KNOWN} -%}}"
        "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' -}}"
        f"{_REFUSE}"
        "{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
    ),
}

# A piece of a conversation: (text, is it a special token, is it learned).
_Piece = tuple[str, bool, bool]


class ChatTemplate:
    """One way to write a conversation: `ChatTemplate("phi3")`, or another of `ChatTemplate.names()`.

    Attributes:
        name: as given.
        jinja: the template for `tokenizer_config.json` and GGUF; renders the same bytes as `render`.
        stop: the special token that ends a turn; generation stops there.
        specials: every special token the template writes.
    """

    def __init__(self, name: str):
        if name not in _FORMS:
            raise HornbookError(
                f"There is no chat template {name!r}. Choose one of {', '.join(sorted(_FORMS))}."
            )
        self.name = name
        self.jinja = _JINJA[name]
        self._form = _FORMS[name]
        self.stop = self._form.stop

    @staticmethod
    def names() -> tuple[str, ...]:
        """Names of the templates there are."""
        return tuple(_FORMS)

    @property
    def specials(self) -> tuple[str, ...]:
        """Special tokens a tokeniser must have for this template."""
        form = self._form
        found = [part for head in form.head.values() for part in head if _is_special(part)]
        return tuple(dict.fromkeys([*found, form.stop, *([form.final] if form.final else [])]))

    def render(self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool = False) -> str:
        """The conversation as text.

        Args:
            messages: mappings with `role` (system, user or assistant) and `content`.
            add_generation_prompt: open an assistant turn at the end instead of closing the conversation.

        Raises:
            HornbookError: another role, or a message without text.
        """
        return "".join(text for text, _, _ in self._pieces(messages, add_generation_prompt))

    def encode(
        self,
        tokenizer: "Tokenizer",
        messages: Sequence[Mapping[str, str]],
        add_generation_prompt: bool = False,
    ) -> tuple[list[int], list[int]]:
        """Token ids and a mask of the same length.

        The mask is 1 on the text of assistant turns and on the stop token that ends them, 0 elsewhere. Text
        that spells a special token stays text: only the template writes special tokens.

        Raises:
            HornbookError: as `render`; or the tokeniser lacks a special token of this template.
        """
        ids: list[int] = []
        mask: list[int] = []
        for text, special, learned in _joined(self._pieces(messages, add_generation_prompt)):
            new = [tokenizer.special(text)] if special else tokenizer.encode(text)
            ids += new
            mask += [int(learned)] * len(new)
        return ids, mask

    def _pieces(self, messages: Sequence[Mapping[str, str]], add_generation_prompt: bool) -> Iterator[_Piece]:
        form = self._form
        if not messages:
            raise HornbookError("A conversation needs at least one message.")
        if form.begin is not None:
            yield form.begin, True, False
        for number, message in enumerate(messages):
            role, content = message.get("role"), message.get("content")
            if role not in ROLES:
                raise HornbookError(
                    f"Message {number + 1} has the role {role!r};"
                    f" the {self.name} template knows {', '.join(ROLES)}."
                )
            if not isinstance(content, str):
                raise HornbookError(f"Message {number + 1} ({role}) has no text: its content is {content!r}.")
            if role == "system" and not content and form.skip_empty_system:
                continue
            learned = role == "assistant"
            yield from ((part, _is_special(part), False) for part in form.head[role])
            yield content, False, learned
            yield form.stop, True, learned
            if form.after:
                yield form.after, False, False
        if add_generation_prompt:
            yield from ((part, _is_special(part), False) for part in form.head["assistant"])
        elif form.final is not None:
            yield form.final, True, False


def _is_special(part: str) -> bool:
    return part.startswith("<|")


def _joined(pieces: Iterator[_Piece]) -> Iterator[_Piece]:
    """Neighbouring plain texts in one piece, as a tokeniser sees the rendered string.

    An assistant's text stays apart from its header: when the model is asked, the header ends the prompt.
    """
    held = ""
    for text, special, learned in pieces:
        if special or learned:
            if held:
                yield held, False, False
            held = ""
            if text:
                yield text, special, learned
        else:
            held += text
    if held:
        yield held, False, False
