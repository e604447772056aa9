import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import openai
import pytest
import torch
from engine_helpers import full_logits
from talking_server import Running, running, slowly, small_model, until

from hornbook.infer.engine import Engine
from hornbook.lm.base import Completion, Message, Request, Sampling
from hornbook.serve.api.app import ApiSettings


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(small_model()) as one:
        yield one


def ours(server: Running, sampling: Sampling, *, messages=None, prompt=None, sample: int = 0) -> Completion:
    """What the engine itself answers, outside the server."""
    turns = None if messages is None else tuple(Message(m["role"], m["content"]) for m in messages)
    request = Request(messages=turns, prompt=prompt, sampling=sampling, sample_index=sample)
    [answer] = server.model.complete([request])
    assert isinstance(answer, Completion)
    return answer


TALK = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What did the fox see?"}]


def test_chat_gives_the_engines_answer(server: Running) -> None:
    answer = server.client().chat.completions.create(
        model="fox", messages=TALK, max_tokens=24, temperature=0.8, top_p=0.9, seed=5
    )
    direct = ours(server, Sampling(temperature=0.8, top_p=0.9, seed=5, max_tokens=24), messages=TALK)
    [choice] = answer.choices
    assert choice.message.content == direct.text
    assert choice.message.role == "assistant"
    assert choice.finish_reason == direct.finish_reason
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == direct.usage.prompt_tokens
    assert answer.usage.completion_tokens == direct.usage.completion_tokens
    assert answer.model == "fox"


def test_samples_of_one_request_are_the_engines_samples(server: Running) -> None:
    answer = server.client().chat.completions.create(model="fox", messages=TALK, max_tokens=12, seed=3, n=5)
    sampling = Sampling(seed=3, max_tokens=12)
    direct = [ours(server, sampling, messages=TALK, sample=i).text for i in range(5)]
    assert [choice.message.content for choice in answer.choices] == direct
    assert [choice.index for choice in answer.choices] == list(range(5))
    assert len(set(direct)) > 1


def test_a_streamed_chat_joins_to_the_whole_answer(server: Running) -> None:
    client, asked = server.client(), {"model": "fox", "messages": TALK, "max_tokens": 40, "seed": 11, "n": 2}
    whole = client.chat.completions.create(**asked)
    texts, reasons, pieces, usage = ["", ""], ["", ""], 0, None
    with slowly(server.service):
        for chunk in client.chat.completions.create(
            **asked, stream=True, stream_options={"include_usage": True}
        ):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                pieces += bool(choice.delta.content)
                texts[choice.index] += choice.delta.content or ""
                reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    assert texts == [choice.message.content for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]
    assert usage == whole.usage
    assert pieces > 4


def test_a_stream_holds_back_what_may_become_a_stop_string(server: Running) -> None:
    client = server.client()
    free = client.chat.completions.create(model="fox", messages=TALK, max_tokens=60, seed=2)
    text = free.choices[0].message.content or ""
    spans = [text[i : i + 3] for i in range(len(text) // 2, len(text) - 2)]
    stop = next(span for span in spans if span.isascii() and span.isprintable())
    before = text[: text.index(stop)]
    asked = {"model": "fox", "messages": TALK, "max_tokens": 60, "seed": 2, "stop": stop}
    assert client.chat.completions.create(**asked).choices[0].message.content == before
    shown, reason = "", None
    for chunk in client.chat.completions.create(**asked, stream=True):
        shown += chunk.choices[0].delta.content or ""
        assert before.startswith(shown)
        reason = chunk.choices[0].finish_reason
    assert (shown, reason) == (before, "stop")


def test_logprobs_are_the_models_own(server: Running) -> None:
    asked = {
        "model": "fox",
        "messages": TALK,
        "max_tokens": 8,
        "seed": 4,
        "logprobs": True,
        "top_logprobs": 3,
    }
    answer = server.client().chat.completions.create(**asked)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    direct = ours(server, Sampling(seed=4, max_tokens=8), messages=TALK)
    prompt, drawn = server.model.chat.encode(TALK), direct.raw["tokens"]
    decoder = small_model_decoder(server)
    expected = decoder.log_softmax_after([*prompt, *drawn])[len(prompt) - 1 : -1]
    assert [entry.logprob for entry in logprobs.content] == pytest.approx(
        [float(row[token]) for row, token in zip(expected, drawn)], abs=1e-4
    )
    for entry, row in zip(logprobs.content, expected):
        best = row.topk(3)
        assert [top.logprob for top in entry.top_logprobs] == pytest.approx(best.values.tolist(), abs=1e-4)
        assert bytes(entry.top_logprobs[0].bytes or []) == server.model.tokenizer.token_bytes(
            int(best.indices[0])
        )
    assert b"".join(bytes(entry.bytes or []) for entry in logprobs.content).decode(errors="replace") == (
        direct.text
    )
    streamed: list[float] = []
    for chunk in server.client().chat.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            if choice.logprobs and choice.logprobs.content:
                streamed += [entry.logprob for entry in choice.logprobs.content]
    assert streamed == pytest.approx([entry.logprob for entry in logprobs.content], abs=1e-5)


class small_model_decoder:
    """The decoder the server's weights came from, run without a cache."""

    def __init__(self, server: Running) -> None:
        self.engine = server.model.engine

    @torch.no_grad()
    def hidden(self, ids: list[int]) -> torch.Tensor:
        from engine_helpers import small

        config = self.engine.config
        decoder = small(vocab_size=config.vocab_size, tied_embeddings=True, max_position=config.max_position)
        return decoder(torch.tensor([ids]))[0]

    def log_softmax_after(self, ids: list[int]) -> torch.Tensor:
        from engine_helpers import small

        config = self.engine.config
        decoder = small(vocab_size=config.vocab_size, tied_embeddings=True, max_position=config.max_position)
        return full_logits(decoder, ids).log_softmax(-1)


def test_completions_take_texts_and_token_ids(server: Running) -> None:
    client, sampling = server.client(), Sampling(seed=1, max_tokens=16, logprobs=2)
    prompts = ["The fox", "A ball rolled home and"]
    answer = client.completions.create(model="fox", prompt=prompts, seed=1, logprobs=2, n=2)
    direct = [ours(server, sampling, prompt=p, sample=i) for p in prompts for i in range(2)]
    assert [choice.text for choice in answer.choices] == [one.text for one in direct]
    assert answer.choices[0].logprobs is not None
    assert direct[0].logprobs is not None
    assert answer.choices[0].logprobs.token_logprobs == pytest.approx(
        [one.logprob for one in direct[0].logprobs], abs=1e-4
    )
    ids = server.model.tokenizer.encode(prompts[0])
    again = client.completions.create(model="fox", prompt=ids, seed=1)
    assert again.choices[0].text == direct[0].text
    parts = client.completions.create(model="fox", prompt=ids, seed=1, stream=True)
    assert "".join(part.choices[0].text for part in parts) == direct[0].text


def test_embeddings_are_mean_hidden_states_of_unit_length(server: Running) -> None:
    texts = ["The fox ran home.", "A ball.", "It told its mother about the old tree near the ball."]
    answer = server.client().embeddings.create(model="fox", input=texts)  # the client asks for base64
    plain = server.client().embeddings.create(model="fox", input=texts, encoding_format="float")
    for text, entry, other in zip(texts, answer.data, plain.data):
        mean = small_model_decoder(server).hidden(server.model.tokenizer.encode(text)).mean(0)
        expected = (mean / mean.norm()).numpy()
        np.testing.assert_allclose(entry.embedding, expected, atol=1e-5)
        np.testing.assert_allclose(other.embedding, expected, atol=1e-5)
    assert answer.usage.prompt_tokens == sum(len(server.model.tokenizer.encode(t)) for t in texts)


def test_models_are_listed_and_found(server: Running) -> None:
    client = server.client()
    assert [model.id for model in client.models.list()] == ["fox"]
    assert client.models.retrieve("fox").owned_by == "hornbook"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("wolf")
    assert caught.value.code == "model_not_found"


def test_sixty_four_clients_get_what_each_would_get_alone(server: Running) -> None:
    client = server.client()

    def one(i: int) -> str:
        answer = client.chat.completions.create(
            model="fox",
            messages=[{"role": "user", "content": f"Tell me about ball {i}." * (1 + i % 7)}],
            max_tokens=5 + i % 23,
            temperature=1.0 if i % 3 else 0.0,
            seed=i,
        )
        return answer.choices[0].message.content or ""

    with ThreadPoolExecutor(64) as pool:
        together = list(pool.map(one, range(64)))
    alone = [
        ours(
            server,
            Sampling(temperature=1.0 if i % 3 else 0.0, seed=i, max_tokens=5 + i % 23),
            messages=[{"role": "user", "content": f"Tell me about ball {i}." * (1 + i % 7)}],
        ).text
        for i in range(64)
    ]
    assert together == alone


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_its_rows(server: Running, stream: bool) -> None:
    never = {"model": "fox", "prompt": "The", "max_tokens": 4000, "n": 8, "temperature": 0, "stop": "\x00"}
    before = server.service.engine.stop_tokens
    server.service.engine.stop_tokens = frozenset()  # nothing but the client ends these answers
    try:
        with slowly(server.service), httpx.Client(base_url=server.url, timeout=60) as client:
            if stream:
                with client.stream("POST", "/v1/completions", json={**never, "stream": True}) as response:
                    next(response.iter_lines())
                    assert server.service.running == 8
            else:
                with pytest.raises(httpx.ReadTimeout):
                    client.post("/v1/completions", json=never, timeout=httpx.Timeout(60, read=0.3))
        assert until(lambda: server.service.running == 0 and server.service.waiting == 0)
    finally:
        server.service.engine.stop_tokens = before
    health = httpx.get(f"{server.url}/health").json()
    assert health == {"status": "ok", "running": 0, "waiting": 0}


WRONG = [
    ({"messages": []}, "messages", "invalid_value"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages", "invalid_value"),
    ({"messages": [{"role": "user", "content": "fox " * 4000}]}, "messages", "context_length_exceeded"),
    ({"temperature": -1}, "temperature", "invalid_value"),
    ({"temperature": "hot"}, "temperature", "invalid_value"),
    ({"n": 0}, "n", "invalid_value"),
    ({"max_tokens": 0}, "max_tokens", "invalid_value"),
    ({"tools": [{"type": "function"}]}, None, "invalid_value"),
    ({"top_logprobs": 3}, None, "invalid_value"),
    ({"tempreature": 1}, "tempreature", "invalid_value"),
    ({"model": "wolf"}, "model", "model_not_found"),
    ({"response_format": {"type": "json_schema"}}, "response_format", "invalid_value"),
]


@pytest.mark.parametrize(("change", "param", "code"), WRONG)
def test_a_wrong_request_is_refused_in_the_apis_shape(server: Running, change, param, code) -> None:
    body = {"model": "fox", "messages": TALK, "max_tokens": 4, **change}
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body)
    assert answer.status_code == (404 if code == "model_not_found" else 400)
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, code), error
    assert set(error) == {"message", "type", "param", "code"}
    assert len(error["message"]) > 10


def test_errors_outside_the_endpoints_have_the_shape_too(server: Running) -> None:
    for answer, status in (
        (httpx.get(f"{server.url}/v1/nothing"), 404),
        (httpx.get(f"{server.url}/v1/completions"), 405),
        (httpx.post(f"{server.url}/v1/completions", content=b"{not json"), 400),
        (httpx.post(f"{server.url}/v1/completions", content=b"[1]"), 400),
        (httpx.post(f"{server.url}/v1/completions", content=b"\xff\xfe"), 400),
    ):
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_lone_surrogate_is_refused_and_nothing_breaks(server: Running) -> None:
    body = json.dumps({"model": "fox", "prompt": "\ud800", "max_tokens": 2})
    assert httpx.post(f"{server.url}/v1/completions", content=body).status_code == 400
    body = json.dumps({"model": "fox", "prompt": "x", "max_tokens": 2, "stop": "\ud800"})
    assert httpx.post(f"{server.url}/v1/completions", content=body).status_code == 400


def test_bodies_and_queues_are_limited() -> None:
    model = small_model()
    model.engine.max_rows = 2
    with running(model, settings=ApiSettings(body_bytes=2000, samples=8), max_waiting=2) as server:
        url = f"{server.url}/v1/completions"
        big = {"model": "fox", "prompt": "x" * 3000}
        assert httpx.post(url, json=big).status_code == 413
        unsaid = httpx.post(url, content=iter([b'{"model": "fox", "prompt": "', b"x" * 3000, b'"}']))
        assert unsaid.status_code == 413
        assert httpx.post(url, json={"model": "fox", "prompt": "x", "n": 9}).json()["error"]["param"] == "n"
        with model.engine.lock:  # the engine is busy: nothing is drawn, so the queue stays as it is
            full = httpx.post(url, json={"model": "fox", "prompt": "x", "n": 5})
        assert full.status_code == 429
        assert full.json()["error"]["code"] == "queue_full"
        assert "at most 2 may" in full.json()["error"]["message"]
        assert full.headers["retry-after"] == "1"
        assert httpx.post(url, json={"model": "fox", "prompt": "x", "n": 4}).status_code == 200


def test_a_failing_engine_is_an_error_of_the_server_and_the_next_request_is_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with running(small_model()) as server:
        asked = {"model": "fox", "prompt": "The", "max_tokens": 4}

        def broken(*_: object) -> None:
            raise RuntimeError("no memory")

        with monkeypatch.context() as patch:
            patch.setattr("hornbook.infer.scheduler.Scheduler.step", broken)
            answer = httpx.post(f"{server.url}/v1/completions", json=asked)
            streamed = httpx.post(f"{server.url}/v1/completions", json={**asked, "stream": True})
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "engine_failed"
        assert json.loads(streamed.text.split("\n")[0].removeprefix("data: "))["error"]["code"] == (
            "engine_failed"
        )
        assert httpx.post(f"{server.url}/v1/completions", json=asked).status_code == 200


def test_the_engine_is_still_the_engine() -> None:
    """A plain `generate` beside the server gives what it gives without one."""
    model = small_model()
    prompt, sampling = model.tokenizer.encode("The fox"), Sampling(seed=1, max_tokens=30)
    expected = model.engine.generate([prompt], sampling)[0][0].text
    with running(model) as server, ThreadPoolExecutor(2) as pool:
        served = pool.submit(
            lambda: server.client().completions.create(model="fox", prompt="The fox", seed=1, max_tokens=30)
        )
        beside = pool.submit(Engine.generate, model.engine, [prompt], sampling)
        assert served.result().choices[0].text == expected
        assert beside.result()[0][0].text == expected
