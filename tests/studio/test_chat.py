"""The chat as its page uses it: over a real socket, with real models, and readers who leave."""

import asyncio
import json

import httpx
import pytest
from mock_openai import MockOpenAI
from small_model import served, small_model
from studio_home import SCRIPT

from hornbook.infer.open import open_local
from hornbook.lm.base import Message, Sampling
from hornbook.serve.chat import prompt_ids
from hornbook.studio.settings import StudioSettings

PLACES = 50


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return small_model(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    home = tmp_path_factory.mktemp("chat")
    with served(StudioSettings(home=home, streams=PLACES, queue=2)) as place:
        yield place


def asked(model, text="Hello", **settings):
    return {
        "model": str(model),
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        **settings,
    }


async def events(answer):
    name = ""
    async for line in answer.aiter_lines():
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            yield name, json.loads(line[6:])


def all_events(address, body, **options):
    with (
        httpx.Client(timeout=None) as client,
        client.stream("POST", f"{address}/chat/stream", json=body, **options) as answer,
    ):
        assert answer.status_code == 200, answer.read()
        text = answer.read().decode()
    blocks = [block.split("\n") for block in text.strip().split("\n\n")]
    return [(first[7:], json.loads(second[6:])) for first, second in blocks]


def test_streamed_tokens_are_those_the_engine_gives_with_their_probabilities(address, checkpoint):
    found = all_events(address, asked(checkpoint, "Once upon ¿Dónde 猫", max_tokens=40))
    tokens = [token for name, data in found if name == "tokens" for token in data]
    model = open_local(checkpoint)
    sampling = Sampling(temperature=0, max_tokens=40, logprobs=5)
    ids = prompt_ids(model, [Message("user", "Once upon ¿Dónde 猫")], sampling)
    [[expected]] = model.engine.generate([ids], sampling)
    assert "".join(token["text"] for token in tokens) == expected.text
    assert all(0 <= token["p"] <= 1 and 1 <= len(token["top"]) <= 5 for token in tokens)
    # greedy: a piece of one token is the likeliest of its alternatives
    single = [token for token in tokens if token["text"] == token["top"][0][0]]
    assert len(single) > len(tokens) / 2
    assert all(token["p"] == pytest.approx(token["top"][0][1], abs=1e-4) for token in single)
    [done] = [data for name, data in found if name == "done"]
    assert (done["tokens"], done["reason"], done["prompt_tokens"]) == (40, "length", len(ids))


def test_a_seed_repeats_and_no_seed_does_not(address, checkpoint):
    def text(**settings):
        found = all_events(address, asked(checkpoint, max_tokens=30, **{"temperature": 1.5, **settings}))
        return "".join(token["text"] for name, data in found if name == "tokens" for token in data)

    assert text(seed=4) == text(seed=4) != text(seed=5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "x"}]}, "role"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_setting_is_said_at_once(address, checkpoint, change, said):
    answer = httpx.post(f"{address}/chat/stream", json={**asked(checkpoint), **change})
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_a_model_that_is_not_there_is_said_in_words_and_the_place_is_free_again(address):
    [*_, (name, data)] = all_events(address, asked("/no/such/model"))
    assert name == "error"
    assert "There is no model" in data["message"]
    assert httpx.get(f"{address}/chat/busy.json").json()["taken"] == 0


def test_an_endpoint_answers_in_pieces_and_its_failure_is_told(address):
    with MockOpenAI(reply=f"one two {SCRIPT}") as mock:
        spec = f"{mock.url}#mock"
        found = all_events(address, asked(spec))
        text = "".join(token["text"] for name, data in found if name == "tokens" for token in data)
        assert text == f"one two {SCRIPT}"
        assert found[-1][0] == "done"
        mock.set(status=500)
        [*_, (name, data)] = all_events(address, asked(spec))
        assert name == "error"
        assert "500" in data["message"]
    assert httpx.get(f"{address}/chat/busy.json").json()["taken"] == 0


def test_documents_are_searched_and_the_passages_shown(address, checkpoint):
    files = [
        ("files", ("../../notes.txt", b"The hornbook hangs in the hall.\n\nThe lamp is blue.", "text/plain"))
    ]
    answer = httpx.post(f"{address}/chat/documents", files=files, follow_redirects=True)
    assert answer.status_code == 200
    assert ">notes.txt<" in answer.text.replace("<code>", ">").replace("</code>", "<")
    found = dict(all_events(address, asked(checkpoint, "Where is the hornbook?", passages=1, max_tokens=2)))
    [passage] = found["passages"]
    assert passage["source"] == "notes.txt"
    assert "hornbook hangs" in passage["text"]
    for name, content in (
        ("picture.png", b"\x89PNG"),
        ("empty.txt", b" \n"),
        ("binary.txt", b"\x00\xff\xfe" * 40),
    ):
        refused = httpx.post(f"{address}/chat/documents", files=[("files", (name, content, "text/plain"))])
        assert refused.status_code == 400, name
    httpx.post(f"{address}/chat/documents/remove", data={"name": "notes.txt"})
    assert "notes.txt" not in httpx.get(f"{address}/chat").text


def test_fifty_stream_at_once_the_next_waits_and_a_reader_who_leaves_frees_the_place(address, checkpoint):
    """Everyone gets tokens while all run; the 51st is told its place; places come free by themselves."""
    long = asked(checkpoint, max_tokens=8000)

    async def main():
        received = [0] * PLACES
        limits = httpx.Limits(max_connections=200)
        async with httpx.AsyncClient(timeout=None, limits=limits) as client:

            async def busy():
                return (await client.get(f"{address}/chat/busy.json")).json()

            async def until(wanted):
                while not wanted(await busy()):  # pytest's own timeout ends a wait in vain
                    await asyncio.sleep(0.02)

            async def read(i):
                async with client.stream("POST", f"{address}/chat/stream", json=long) as answer:
                    async for name, data in events(answer):
                        assert name != "done"
                        if name == "tokens":
                            received[i] += len(data)

            readers = [asyncio.create_task(read(i)) for i in range(PLACES)]
            await until(lambda now: now["taken"] == PLACES)
            while min(received) < 3:
                await asyncio.sleep(0.02)
            assert not any(reader.done() for reader in readers)

            async def wait_in_line(log):
                async with client.stream("POST", f"{address}/chat/stream", json=long) as answer:
                    async for name, data in events(answer):
                        log.append((name, data))
                        if name == "tokens":
                            return

            log = []
            last = asyncio.create_task(wait_in_line(log))
            await until(lambda now: now["waiting"] == 1)
            impatient = asyncio.create_task(wait_in_line([]))
            await until(lambda now: now["waiting"] == 2)
            full = await asyncio.to_thread(all_events, address, long)
            assert full[-1][0] == "error"
            assert "wait already" in full[-1][1]["message"]
            impatient.cancel()  # leaves while waiting
            await until(lambda now: now["waiting"] == 1)
            while not log:
                await asyncio.sleep(0.02)
            assert log[0][0] == "queued"
            assert "You are next" in log[0][1]["message"]
            readers[7].cancel()  # leaves while being served
            await last
            assert [name for name, _ in log[:2]] == ["queued", "opening"]
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            await until(lambda now: now["taken"] == now["waiting"] == 0)

    asyncio.run(main())


def test_the_api_answers_for_the_models_the_chat_has_opened(address, checkpoint):
    all_events(address, asked(checkpoint, max_tokens=2))
    names = [model["id"] for model in httpx.get(f"{address}/v1/models").json()["data"]]
    assert "small" in names
    body = {
        "model": "small",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 5,
        "temperature": 0,
    }
    answer = httpx.post(f"{address}/v1/chat/completions", json=body, timeout=None).json()
    assert answer["usage"]["completion_tokens"] == 5
    refused = httpx.post(
        f"{address}/v1/chat/completions", json=body, headers={"origin": "http://evil.example"}
    )
    assert refused.status_code == 403
    unknown = httpx.post(f"{address}/v1/chat/completions", json={**body, "model": "none"})
    assert unknown.status_code == 404
    assert "error" in unknown.json()
