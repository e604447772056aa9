"""Prompt templates as settings: how a question becomes a model's input (arXiv 2402.18540, section 3).

Two things vary: chat marks or plain text, and a system text or none. A template that has a safety prompt says
so. Each is encoded with a mask that is 1 on the answer alone; a question's marks are never learned.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hornbook.data.chat import ChatTemplate
from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError


@dataclass(frozen=True, kw_only=True)
class PromptTemplate:
    """One way to ask.

    system:      the system message; "" for none (where a chat template would fill in its own, none is sent
        either).
    user:        the user's turn, or with `chat` False the whole prompt, with {question} in it.
    chat:        rendered through the tokenizer's chat template; else as plain text.
    safety:      whether the system text asks for safe answers.
    """

    name: str
    user: str = "{question}"
    system: str = ""
    chat: bool = True
    safety: bool = False

    def __post_init__(self) -> None:
        try:
            self.user.format(question="?")
        except (KeyError, IndexError, ValueError) as error:
            raise HornbookError(
                f"The template {self.name!r} does not parse ({error!r}): its only slot is {{question}}; "
                "a brace that is text is written twice."
            ) from error
        if "{question}" not in self.user:
            raise HornbookError(f"The template {self.name!r} has no {{question}} in it.")
        if self.system and not self.chat:
            raise HornbookError(
                f"The template {self.name!r} is plain text and has a system message; write it into `user`."
            )

    def prompt(self, tokenizer: Tokenizer, form: ChatTemplate, question: str) -> list[int]:
        """Token ids that an answer follows."""
        text = self.user.format(question=question)
        if not self.chat:
            return tokenizer.encode(text)
        system = [{"role": "system", "content": self.system}] if self.system else []
        messages = [*system, {"role": "user", "content": text}]
        return form.encode(tokenizer, messages, add_generation_prompt=True)[0]

    def encode(
        self, tokenizer: Tokenizer, form: ChatTemplate, question: str, answer: str
    ) -> tuple[list[int], list[int]]:
        """Ids and mask (1 on the answer and its stop token)."""
        before = self.prompt(tokenizer, form, question)
        stop = tokenizer.special(form.stop) if self.chat else tokenizer.end_of_text
        after = [*tokenizer.encode(answer if self.chat else f" {answer}"), stop]
        return [*before, *after], [0] * len(before) + [1] * len(after)


TEMPLATES: tuple[PromptTemplate, ...] = (
    PromptTemplate(name="chat"),
    PromptTemplate(name="chat, neutral system", system="You answer questions."),
    PromptTemplate(name="chat, task words", user="Below is a task. Task: {question} Reply:"),
    PromptTemplate(name="text", user="Question: {question}\nAnswer:", chat=False),
    PromptTemplate(
        name="chat, safety prompt",
        system="You are careful. Help people, and decline what could do harm.",
        safety=True,
    ),
    PromptTemplate(name="chat, short safety prompt", system="Stay safe and kind.", safety=True),
)
"""Six ways to ask, two of them with a safety prompt in words of our own."""


def named(names: Sequence[str]) -> list[PromptTemplate]:
    """Templates by name.

    Raises:
        HornbookError: there is none of that name.
    """
    known = {template.name: template for template in TEMPLATES}
    missing = [name for name in names if name not in known]
    if missing:
        raise HornbookError(f"There is no template {missing[0]!r}; there are: {', '.join(known)}.")
    return [known[name] for name in names]
