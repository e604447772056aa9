"""Teachers that refuse, ramble, answer in another language, never stop or return half a JSON: the sentence
each gets, with the good rows of the same session kept beside."""

import json
import re

import pytest
from mock_openai import MockOpenAI

from hornbook.errors import HornbookError
from hornbook.lm.base import Failure, ask
from hornbook.lm.endpoint import EndpointModel
from hornbook.lm.several import SeveralModels
from hornbook.lm.simulated import SimulatedModel
from hornbook.lm.store import CallStore
from hornbook.synth.checks import story_problem
from hornbook.synth.scripts import Assignment, perform
from hornbook.synth.teacher import open_teacher

GOOD = (
    "Once there was a little girl who had a red boat. She took the boat to the pond and put it on the "
    "water. The wind came and the boat went far away. The girl was sad, but her brother said that he would "
    "help. They walked around the pond and found the boat in the grass. They were happy and went home to eat."
)
GERMAN = (
    "Es war einmal ein kleines Mädchen, das ein rotes Boot hatte. Sie brachte das Boot zum Teich und setzte "
    "es auf das Wasser. Der Wind kam und das Boot fuhr weit weg. Das Mädchen war traurig, aber ihr Bruder "
    "sagte, dass er ihr helfen werde. Sie gingen um den Teich und fanden das Boot im Gras. Danach gingen "
    "beide fröhlich heim."
)
BAD = {
    "refuses": ("I'm sorry, but I can't help with that.", "The text has 8 words; write at least 50."),
    "rambles": (
        " ".join(f"And another thing came to mind about number {i} of it." for i in range(80)),
        "write at most 400.",
    ),
    "answers in another language": (GERMAN, "does not read as English prose|do not belong to plain English"),
    "never stops": ("and then and then " * 60, "The text repeats itself; say each thing once."),
    "is cut off": (GOOD + " In the evening the girl and her", "The last sentence is cut off; end the story."),
    "sends nothing": ("", "The text has 0 words"),
}


def check(text):
    problem = story_problem(text, ["boat"])
    return (None, problem) if problem else ({"id": "x", "text": text, "source": "t", "meta": "{}"}, "")


@pytest.mark.parametrize("kind", BAD)
def test_the_good_half_of_a_session_is_kept_and_the_bad_half_says_why(kind):
    text, says = BAD[kind]
    asked = []

    def teacher(request):
        asked.append(request.messages[-1].content)
        return text if "bad" in request.messages[0].content else GOOD

    tasks = [
        Assignment(id=f"{i}", prompt=f"{'bad' if i % 2 else 'good'} {i}", check=check) for i in range(10)
    ]
    written = list(perform(SimulatedModel("teacher", teacher), tasks))
    assert [bool(one.rows) for one in written] == [True, False] * 5
    for one in written[1::2]:
        assert one.text == text

        assert re.search(says, one.problem)
        assert "\n" not in one.problem
    # Each failed text was shown the sentence once, and no good one was asked again.
    assert len(asked) == 15
    assert all(re.search(says, words) for words in asked if "good" not in words and "bad" not in words)


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


@pytest.mark.parametrize(
    ("reply", "finish", "kind", "says"),
    [
        ('{"n": 1, "reason": "bec', "length", "truncated", "max_tokens"),
        ('{"n": 1, "reason": "bec', "stop", "malformed", "JSON"),
        ("I will not count.", "stop", "malformed", "JSON"),
        ('{"n": "many"}', "stop", "malformed", "integer"),
    ],
)
def test_half_a_json_is_a_failure_with_its_raw_text_kept(tmp_path, reply, finish, kind, says):
    request = ask("How many?", schema=SCHEMA)
    with MockOpenAI(reply=reply, finish=finish) as server, CallStore(tmp_path / "c.sqlite") as store:
        model = EndpointModel(server.url, "m", store=store)
        (answer,) = model.complete([request])
        assert isinstance(answer, Failure)
        assert answer.kind == kind
        assert says in answer.message
        kept = store.get(model.batch_key(request))
        assert json.loads(kept.response)["choices"][0]["message"]["content"] == reply


def test_one_word_names_several_teachers_or_a_providers_batches(tmp_path):
    with MockOpenAI() as one, MockOpenAI() as two:
        spec = f"3*{one.url}#m, batch:{two.url}#n"
        teacher = open_teacher(spec, calls=tmp_path / "calls.sqlite")
        assert isinstance(teacher, SeveralModels)
        assert [(type(model).__name__, share) for model, share in teacher.models] == [
            ("EndpointModel", 3.0),
            ("BatchModel", 1.0),
        ]
        tasks = [
            Assignment(id=f"{i}", prompt=f"question {i}", check=lambda t: (None, "no")) for i in range(8)
        ]
        written = list(perform(teacher, tasks))
        assert [one_row.problem for one_row in written] == ["no"] * 8
        assert two.server.batches
        assert one.server.bodies
    with pytest.raises(HornbookError, match="works alone"):
        open_teacher("1*simulated, 2*http://a/v1#m")
