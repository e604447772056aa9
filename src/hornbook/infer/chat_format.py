"""How a model's conversations become token ids: its own chat template, named or foreign."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from hornbook.data.chat import ChatTemplate
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError


class ChatFormat:
    """Encodes messages for one tokenizer.

    A template of ours is used as such. A foreign Jinja template is rendered with marks in place of the
    contents, so that text which spells a special token stays text there too.
    """

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate | None = None) -> None:
        self.tokenizer = tokenizer
        self.template = template or tokenizer.template
        self._jinja: Any = None
        if self.template is None and not tokenizer.chat_template:
            raise HornbookError(
                "This model's tokenizer has no chat template, so it cannot take messages; "
                "send a prompt, or use a model that was trained on conversations."
            )

    def encode(self, messages: Sequence[Mapping[str, str]], *, answer: bool = True) -> list[int]:
        """Ids of the conversation, with an assistant turn opened at the end if `answer`."""
        if self.template is not None:
            return self.template.encode(self.tokenizer, messages, add_generation_prompt=answer)[0]
        marks = [f"\ue000{i}\ue001" for i in range(len(messages))]
        marked = [{**message, "content": mark} for message, mark in zip(messages, marks)]
        text = self._render(marked, answer)
        ids: list[int] = []
        for i, mark in enumerate(marks):
            before, found, text = text.partition(mark)
            if not found:
                raise HornbookError(f"The chat template leaves out message {i + 1} ({messages[i]['role']}).")
            ids += self.tokenizer.encode(before, specials=True) if before else []
            content = messages[i]["content"]
            ids += self.tokenizer.encode(content) if content else []
        return [*ids, *(self.tokenizer.encode(text, specials=True) if text else [])]

    def _render(self, messages: Sequence[Mapping[str, str]], answer: bool) -> str:
        from jinja2.exceptions import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        if self._jinja is None:
            environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
            environment.globals["raise_exception"] = _refuse
            environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
            try:
                self._jinja = environment.from_string(self.tokenizer.chat_template or "")
            except TemplateError as error:
                raise HornbookError(
                    f"The model's chat template does not parse ({error}). Repair chat_template in its "
                    "tokenizer_config.json."
                ) from None
        names = {
            k: v for k, v in self.tokenizer.config.items() if k.endswith("_token") and isinstance(v, str)
        }
        try:
            text: str = self._jinja.render(messages=messages, add_generation_prompt=answer, **names)
        except TemplateError as error:
            raise HornbookError(f"The model's chat template refused the conversation: {error}") from None
        return text


def _refuse(message: str) -> None:
    raise HornbookError(f"The model's chat template refused the conversation: {message}")
