"""Pictures from an endpoint, and pictures shown to one."""

import numpy as np
import pytest
from mock_images import MockStudio

from hornbook.errors import HornbookError
from hornbook.lab.png import data_uri, png, read_png
from hornbook.lm.base import Completion, Failure, Message, Request
from hornbook.lm.endpoint import EndpointModel
from hornbook.lm.endpoint_settings import EndpointSettings
from hornbook.lm.images import IMAGES, ImageEndpoint
from hornbook.lm.store import CallStore
from hornbook.lm.wire import fenced

QUICK = EndpointSettings(max_attempts=2, backoff_seconds=0.0)


def square(prompt: str) -> bytes:
    return png(np.full((2, 2, 3), len(prompt), np.uint8))


def test_pictures_come_in_order_are_kept_and_never_paid_for_twice(tmp_path) -> None:
    prompts = ["a", "bb", "ccc", "bb"]
    with MockStudio(square) as studio, CallStore(tmp_path / "calls.sqlite") as store:
        studio.fails = {"ccc"}
        artist = ImageEndpoint(studio.url, "painter", store=store, settings=QUICK, size="64x64")
        first = artist.draw(prompts)
        assert [read_png(p)[0, 0, 0] if isinstance(p, bytes) else p.kind for p in first] == [
            1,
            2,
            "server",
            2,
        ]
        studio.fails = set()
        again = ImageEndpoint(studio.url, "painter", store=store, settings=QUICK, size="64x64").draw(prompts)
        assert [read_png(p)[0, 0, 0] for p in again if isinstance(p, bytes)] == [1, 2, 3, 2]
        assert studio.answered == {"a": 1, "bb": 1, "ccc": 1}
        assert studio.bodies[0] == {
            "model": "painter",
            "prompt": studio.bodies[0]["prompt"],
            "n": 1,
            "size": "64x64",
            "response_format": "b64_json",
        }
        artist.draw(["a"], sample_index=1)
        assert studio.answered["a"] == 2  # another picture of the same prompt


def test_an_endpoint_that_does_not_know_the_format_is_asked_without_it() -> None:
    with MockStudio(square, knows_format=False) as studio:
        artist = ImageEndpoint(studio.url, "old", settings=QUICK)
        assert all(isinstance(p, bytes) for p in artist.draw(["a", "b"]))
        assert isinstance(artist.draw(["c"])[0], bytes)
        assert sum("response_format" in body for body in studio.bodies) == 2  # not again for c


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('{"data": [{"url": "http://elsewhere/x.png"}]}', "b64_json"),
        ('{"data": [{"b64_json": "PGh0bWw+"}]}', "no PNG"),
        ('{"data": [{"b64_json": "***"}]}', "shape of a picture"),
        ('{"data": []}', "shape of a picture"),
        ("[1]", "shape of a picture"),
        ("not json", "shape of a picture"),
    ],
)
def test_what_is_no_picture_is_a_failure_that_says_why(body: str, why: str) -> None:
    found = IMAGES.read(body)
    assert isinstance(found, Failure)
    assert why in found.message


def test_a_server_without_the_route_is_an_error_in_words() -> None:
    writer = MockStudio(look=lambda picture, question: "Yes")
    with writer as studio, pytest.raises(HornbookError, match="Check the URL"):
        ImageEndpoint(studio.url, "writer").draw(["a"])


def test_a_model_is_shown_pictures_behind_the_text_and_the_picture_is_part_of_the_call(tmp_path) -> None:
    def look(picture: bytes, question: str) -> str:
        return f"{question} {read_png(picture)[0, 0, 0]}"

    with MockStudio(look=look) as studio, CallStore(tmp_path / "calls.sqlite") as store:
        model = EndpointModel(studio.url, "seer", store=store, settings=QUICK)
        shown = [data_uri(square("x" * n)) for n in (3, 7)]
        requests = [Request(messages=(Message("user", "How bright?", (uri,)),)) for uri in shown]
        results = model.complete(requests)
        assert [r.text for r in results if isinstance(r, Completion)] == ["How bright? 3", "How bright? 7"]
        part = studio.bodies[0]["messages"][0]["content"]
        assert [p["type"] for p in part] == ["text", "image_url"]
        model.complete(requests)
        assert studio.answered["How bright?"] == 2
    asked = fenced(Request(messages=requests[0].messages, schema={"type": "integer"}))
    assert asked.messages is not None
    assert asked.messages[-1].pictures == (shown[0],)  # a correction still shows the picture


def test_pictures_must_be_data_uris() -> None:
    with pytest.raises(HornbookError, match="data:image/png"):
        Message("user", "What is this?", ("http://elsewhere/x.png",))
