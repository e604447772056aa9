import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_helpers import small

from hornbook.data.tokenizer import Tokenizer
from hornbook.errors import HornbookError
from hornbook.infer.language_model import LocalModel
from hornbook.lab.markup import printable
from hornbook.lm.base import Completion, Message, Request, Sampling
from hornbook.lm.simulated import SimulatedModel
from hornbook.model.hf import save_checkpoint
from hornbook.serve.chat import Chat, LocalSpeaker, RemoteSpeaker, Speed, chat_loop

TEXT = "The fox saw a red ball near the old tree. It ran home and told its mother about the ball. "
WARM = Sampling(temperature=1.0, seed=4, max_tokens=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("talker")
    tokenizer = Tokenizer.train([TEXT * 20], 300, place)
    save_checkpoint(small(vocab_size=tokenizer.vocab_size, tied_embeddings=True), place)
    return place


class Script:
    """A speaker that says what it is told to; a text "^C" is the user's Ctrl-C, "!" an error."""

    name = "script"
    speed: Speed | None = None

    def __init__(self, *answers: list[str]) -> None:
        self.answers, self.heard = list(answers), list[list[str]]()

    def answer(self, messages: list[Message], sampling: Sampling) -> Iterator[str]:
        self.heard.append([f"{message.role}: {message.content}" for message in messages])
        for piece in self.answers.pop(0):
            if piece == "^C":
                raise KeyboardInterrupt
            if piece == "!":
                raise HornbookError("The endpoint is gone.")
            yield piece


def talk(speaker: Script, **settings: object) -> tuple[Chat, io.StringIO]:
    out = io.StringIO()
    return Chat(speaker, WARM, out=out, **settings), out  # type: ignore[arg-type]


def test_turns_are_remembered_and_reset_keeps_the_system_message() -> None:
    speaker = Script(["Hel", "lo."], ["Yes."], ["New."])
    chat, out = talk(speaker, system="Be brief.")
    assert chat.ask("Hi")
    assert chat.ask("Sure?")
    assert speaker.heard[1] == ["system: Be brief.", "user: Hi", "assistant: Hello.", "user: Sure?"]
    chat.reset()
    chat.ask("Again")
    assert speaker.heard[2] == ["system: Be brief.", "user: Again"]
    assert out.getvalue() == "Hello.\nYes.\nNew.\n"


def test_ctrl_c_keeps_what_was_said_and_errors_leave_the_conversation_as_it_was() -> None:
    speaker = Script(["Once upon", "^C"], ["^C"], ["!"], ["Fine."])
    chat, out = talk(speaker)
    assert not chat.ask("Tell")
    assert not chat.ask("Stopped before a word")
    with pytest.raises(HornbookError, match="gone"):
        chat.ask("Lost")
    assert chat.ask("And?")
    assert speaker.heard[3] == ["user: Tell", "assistant: Once upon", "user: And?"]
    assert out.getvalue() == "Once upon\nFine.\n"


def test_an_answer_without_a_word_is_said_so(capsys: pytest.CaptureFixture[str]) -> None:
    chat, _ = talk(Script([], ["Here."]))
    assert chat.ask("Hello?")
    assert "without a word" in capsys.readouterr().err
    chat.ask("Hello?")
    assert [message.role for message in chat.messages] == ["user", "assistant"]


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[2Jb\x07\tc\n\x9b1md é 漢\u200d") == "a[2Jb\tc\n1md é 漢\u200d"


def test_the_loop_over_a_pipe(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "stdin", io.StringIO("The fox\n\n  \n/what\nand then\n/reset\nThe fox\n/exit\nlost\n")
    )
    assert chat_loop(str(folder), temperature=1.0, top_p=1.0, max_tokens=20, seed=4, weights="fp32") == 0
    said = capsys.readouterr()
    model = LocalModel.open(folder, weights="fp32")
    first = next(iter(model.complete([Request(messages=(Message("user", "The fox"),), sampling=WARM)])))
    assert isinstance(first, Completion)
    again = (Message("user", "The fox"), Message("assistant", first.text), Message("user", "and then"))
    second = next(iter(model.complete([Request(messages=again, sampling=WARM)])))
    assert isinstance(second, Completion)
    lines = [text if text.endswith("\n") else text + "\n" for text in (first.text, second.text, first.text)]
    assert said.out == printable("".join(lines))
    assert "no command /what" in said.err
    assert "forgotten" in said.err


def test_once_prints_one_answer_and_its_speed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert chat_loop(str(folder), once="The fox", max_tokens=5, seed=1, show_speed=True) == 0
    said = capsys.readouterr()
    assert said.out.endswith("\n")
    assert "first token" in said.err
    assert "5 tokens" in said.err


def test_a_full_context_forgets_the_oldest_turns_only(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speaker = LocalSpeaker(str(folder), "fp32")
    chat = Chat(speaker, Sampling(seed=0, max_tokens=30), system="You are a fox.", out=io.StringIO())
    for number in range(12):
        assert chat.ask(f"Tell me about ball {number} and the old tree")
    assert chat.messages[0] == Message("system", "You are a fox.")
    assert chat.messages[-2].content.startswith("Tell me about ball 11")
    assert [m.role for m in chat.messages[1:3]] == ["user", "assistant"]
    assert len(chat.messages) < 25
    assert "forgotten" in capsys.readouterr().err
    with pytest.raises(HornbookError, match="context"):
        chat.ask("word " * 400)


def test_a_model_without_a_template_continues(folder: Path, tmp_path: Path) -> None:
    import json
    import shutil

    plain = tmp_path / "plain"
    shutil.copytree(folder, plain)
    config = json.loads((plain / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (plain / "tokenizer_config.json").write_text(json.dumps(config))
    speaker = LocalSpeaker(str(plain), "fp32")
    text = "".join(speaker.answer([Message("user", "The fox")], WARM))
    model = LocalModel.open(plain, weights="fp32")
    ids = [model.tokenizer.end_of_text, *model.tokenizer.encode("The fox")]
    assert speaker.continues
    assert text == model.engine.generate([ids], WARM)[0][0].text


def test_a_model_that_does_not_stream_is_heard_whole() -> None:
    speaker = RemoteSpeaker(SimulatedModel("echo", lambda request: f"I heard {request.messages}"))
    heard = (Message("user", "hello"),)
    assert "".join(speaker.answer(list(heard), WARM)) == f"I heard {heard}"
    assert speaker.speed is not None


class TestRefusals:
    def test_nothing_to_answer(self, folder: Path) -> None:
        with pytest.raises(HornbookError, match="--once is empty"):
            chat_loop(str(folder), once="  ")

    def test_no_such_model(self, tmp_path: Path) -> None:
        with pytest.raises(HornbookError, match=r"no model.*smollm2"):
            chat_loop(str(tmp_path / "none"), once="Hi")

    def test_wrong_setting(self, folder: Path) -> None:
        with pytest.raises(HornbookError, match="temperature"):
            chat_loop(str(folder), once="Hi", temperature=-1)
