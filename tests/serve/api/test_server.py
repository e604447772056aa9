import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import openai
import pytest
from command_line import call
from engine_helpers import small
from talking_server import TEXT

from hornbook.data.tokenizer import Tokenizer
from hornbook.infer.language_model import LocalModel
from hornbook.lm.base import Request, Sampling
from hornbook.lm.endpoint import EndpointModel
from hornbook.model.hf import save_checkpoint
from hornbook.serve.api.server import model_name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("run") / "fox"
    tokenizer = Tokenizer.train([TEXT * 20], 300, place)
    save_checkpoint(small(vocab_size=tokenizer.vocab_size, tied_embeddings=True), place)
    return place


def test_the_command_serves_until_it_is_interrupted(folder: Path) -> None:
    """`hornbook serve` as a program, asked by OpenAI's client and by our own, stopped by Ctrl-C."""
    command = [sys.executable, "-m", "hornbook", "serve", str(folder), "--port", "0", "--weights", "fp32"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as program:
        assert program.stderr is not None
        line = program.stderr.readline()
        try:
            assert line.startswith("fox at http://127.0.0.1:"), line
            url = line.split(" ")[2]
            client = openai.OpenAI(base_url=url, api_key="none")
            answer = client.completions.create(model="fox", prompt="The fox", max_tokens=12, seed=1)
            [direct] = LocalModel.open(folder, weights="fp32").complete(
                [Request(prompt="The fox", sampling=Sampling(max_tokens=12, seed=1))]
            )
            assert answer.choices[0].text == direct.text
            [ours] = EndpointModel.from_spec(f"{url}#fox").complete(
                [Request(prompt="The fox", sampling=Sampling(max_tokens=12, seed=1))]
            )
            assert ours.text == direct.text
        finally:
            program.send_signal(signal.SIGINT)
        assert program.wait(60) == 0
        assert "Traceback" not in program.stderr.read()


def test_what_cannot_be_served_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HORNBOOK_TOKEN", raising=False)
    code, _, err = call("serve", folder, "--host", "0.0.0.0")
    assert (code, "HORNBOOK_TOKEN" in err) == (1, True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = call("serve", folder, "--port", taken.getsockname()[1])
    assert (code, "cannot be listened on" in err) == (1, True)
    code, _, err = call("serve", folder, "--port", 99999)
    assert (code, "cannot be listened on" in err) == (1, True)
    code, _, err = call("serve", "http://localhost:1/v1#x")
    assert (code, "served elsewhere" in err) == (1, True)
    code, _, err = call("serve", folder / "nothing")
    assert (code, "There is no model" in err) == (1, True)


def test_without_the_extra_the_command_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    code, _, err = call("serve", folder)
    assert (code, "pip install 'hornbook[studio]'" in err) == (1, True)


def test_a_model_is_called_by_its_folder(tmp_path: Path) -> None:
    assert model_name("smollm2") == "smollm2"
    assert model_name(str(tmp_path / "phi-quick" / "model")) == "phi-quick"
    assert model_name(str(tmp_path / "fox.gguf")) == "fox"
