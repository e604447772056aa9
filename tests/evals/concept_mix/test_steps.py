"""ConceptMix through endpoints of the right shape; what fails is named, and it alone is asked again."""

import re
from random import Random

import pytest
from mock_images import MockStudio

from hornbook.errors import HornbookError
from hornbook.evals.concept_mix import steps
from hornbook.evals.concept_mix.grade import LEGEND, calibrate, grade, known_pictures, seeing_program
from hornbook.evals.concept_mix.steps import Apprentice, examine_artist, examine_painter, raise_painter
from hornbook.evals.concept_mix.words import by_rule, caption
from hornbook.evals.concept_mix.world import WORLD, draw_scenes
from hornbook.lab.png import png
from hornbook.lab.run import Run
from hornbook.lm.base import Message, Request
from hornbook.lm.endpoint_settings import EndpointSettings
from hornbook.lm.simulated import SimulatedModel
from hornbook.synth.scenes import paint

KS = (1, 2)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "PATIENCE", EndpointSettings(max_attempts=1, backoff_seconds=0.0))
    return lambda: Run(tmp_path, recipe="concept", scale="quick", settings={}, quiet=True)


def test_a_program_that_sees_is_right_where_it_does_not_err() -> None:
    drawn, scenes = draw_scenes(4, 12, Random(0))
    pictures = [png(paint(scene)) for scene in scenes]
    prompts = [by_rule(plan, WORLD) for plan in drawn.plans]
    perfect = grade(seeing_program(sensitivity=1, specificity=1), prompts, pictures, legend=LEGEND)
    assert all(mark.full for mark in perfect.marked)
    assert perfect.columns.position.value == 1.0
    blind = grade(seeing_program(sensitivity=0, specificity=1), prompts, pictures, legend=LEGEND)
    assert not any(any(mark.answers) for mark in blind.marked)


def test_known_pictures_are_half_whole_and_their_truth_is_seen() -> None:
    truth, scenes = known_pictures((1, 3, 6), 80, seed=0)
    for k in (1, 3, 6):
        whole = [mark.full for mark in truth if mark.plan.k == k]
        assert 0.3 < sum(whole) / len(whole) < 0.7
    seen = grade(
        seeing_program(sensitivity=1, specificity=1),
        [by_rule(mark.plan, WORLD) for mark in truth[::9]],
        [png(paint(scene)) for scene in scenes[::9]],
        legend=LEGEND,
        truth=truth[::9],
    )
    assert list(seen.marked) == truth[::9]
    assert seen.columns.agreement.value == 1.0


def test_the_error_of_a_judge_is_measured_where_it_errs() -> None:
    judge = seeing_program(sensitivity=0.8, specificity=0.7, categories=("number",))
    errors, _ = calibrate(judge, ks=(3,), count=60, seed=1)
    number, colour = errors.categories["number"], errors.categories["colour"]
    assert 0.55 < number.sensitivity.value < 0.99
    assert 0.3 < number.specificity.value < 0.99
    assert (colour.sensitivity.value, colour.specificity.value) == (1.0, 1.0)


def test_a_judge_that_cannot_be_read_gives_no_answers() -> None:
    drawn, scenes = draw_scenes(2, 3, Random(0))
    mute = SimulatedModel("mute", lambda request: "Hard to say.")
    prompts = [by_rule(plan, WORLD) for plan in drawn.plans]
    found = grade(mute, prompts, [png(paint(scene)) for scene in scenes], legend=LEGEND)
    assert all(set(mark.answers) == {None} and mark.full is None for mark in found.marked)
    assert not found.failed


def test_a_painter_is_raised_examined_and_judged_beside_the_truth(run) -> None:
    apprentice = Apprentice(hidden_size=32, layers=1, heads=1, pictures=200, steps=3, rows=16)
    raised = run().step(raise_painter, ks=(1, 2, 3), apprentice=apprentice, seed=0)
    assert sum(raised.facts["categories"].values()) == 198
    found = run().step(
        examine_painter,
        painter=raised / "model",
        ks=KS,
        count=10,
        seed=0,
        judge="program:1:1",
        labelled=4,
        calibration=12,
    )
    for level in found.facts["levels"]:
        seen = found.facts["judge"]["levels"][str(level["k"])]
        assert seen["full_counts"] == level["full_counts"]
        assert seen["categories"] == level["categories"]
        assert seen["corrected"] == pytest.approx(level["full"])  # a judge without error changes nothing
        assert seen["powered"] == pytest.approx(level["full"], abs=0.35)
    for item in found.facts["shown"]:
        assert (found / item["file"]).read_bytes()[:4] == b"\x89PNG"
        assert len(item["answers"]) == item["k"] + 1


def draw(prompt: str) -> bytes:
    """An artist of sorts: a picture of the small world whose pixels depend on the prompt."""
    _, scenes = draw_scenes(1, 1, Random(prompt))
    return png(paint(scenes[0]))


def look(picture: bytes, question: str) -> str:
    """Right about our own pictures; of others it says yes where the question has an even length."""
    if "black emblem" in question:
        shown = f"data:image/png;base64,{__import__('base64').b64encode(picture).decode()}"
        request = Request(messages=(Message("user", question, (shown,)),))
        (answer,) = seeing_program(sensitivity=1, specificity=1).complete([request])
        return answer.text
    asked = question.split("\n\n")[0]
    return f"I look closely.\n{'Yes' if len(asked) % 2 == 0 else 'No'}."


def test_an_endpoint_is_examined_and_what_fails_is_named_and_asked_again_alone(run) -> None:
    with MockStudio(draw, look) as studio:
        inputs = {
            "artist": f"{studio.url}#painter",
            "judge": f"{studio.url}#seer",
            "ks": KS,
            "count": 3,
            "seed": 0,
            "calibration": 6,
        }
        drawn_first = steps.draw_plans(1, 3, steps.PAPER, seed=0).plans
        failing = caption(drawn_first[1], steps.PAPER)
        studio.fails = {failing}
        first = run()
        part = first.step(examine_artist, **inputs)
        assert len(first.unfinished) == 1
        assert failing in first.unfinished[0]
        assert "1 of 6 pictures" in first.unfinished[0]
        assert part.facts["levels"][0]["pictures"] == 2  # the rest is graded
        before = dict(studio.answered)

        studio.fails = set()
        second = run()
        whole = second.step(examine_artist, **inputs)
        assert not second.unfinished
        assert [level["pictures"] for level in whole.facts["levels"]] == [3, 3]
        assert all(studio.answered[what] == count for what, count in before.items() if "Yes" not in what)
        draws = {what: n for what, n in studio.answered.items() if what.startswith("A picture")}
        assert set(draws.values()) == {1}
        assert len(draws) == 6
        columns = whole.facts["judge"]["columns"]
        assert (columns["agreement"], columns["unscored"]) == (1.0, 0)
        calls = sum(studio.asked.values())
        run().step(examine_artist, **inputs)
        assert sum(studio.asked.values()) == calls  # done is done


def test_questions_that_are_never_answered_are_named(run) -> None:
    with MockStudio(draw, look) as studio:
        studio.fails = {"Does the picture contain"}
        this = run()
        found = this.step(
            examine_artist,
            artist=f"{studio.url}#painter",
            judge=f"{studio.url}#seer",
            ks=(1,),
            count=4,
            seed=3,
            calibration=4,
        )
        assert re.search(
            r"\d+ of \d+ questions were not answered by the judge: picture 1", this.unfinished[0]
        )
        assert found.facts["levels"][0]["unanswered"] > 0


def test_judges_that_cannot_be_are_refused_in_words(run, tmp_path) -> None:
    from hornbook.lm.store import CallStore

    with CallStore(tmp_path / "calls.sqlite") as store:
        for spec in ("program:0.9", "program:2:1", "program:a:b"):
            with pytest.raises(HornbookError, match=r"program:0\.9:0\.95"):
                steps.open_judge(spec, store, 0)


def test_a_judge_that_decides_nothing_leaves_the_truth_standing(run) -> None:
    """Answers that cannot be read are unscored and counted; the painter's own measurement is not lost."""

    def silent(picture: bytes, question: str) -> str:
        return "\x1b[2J<script>I would rather not say</script>"

    apprentice = Apprentice(hidden_size=32, layers=1, heads=1, pictures=60, steps=1, rows=16)
    painter = run().step(raise_painter, ks=(1, 2), apprentice=apprentice, seed=0) / "model"
    with MockStudio(look=silent) as studio:
        judge = f"{studio.url}#sees"
        how = {"ks": (1,), "count": 4, "seed": 0, "calibration": 4, "labelled": 2}
        found = run().step(examine_painter, painter=painter, judge=judge, **how)
    assert found.facts["levels"][0]["full"] is not None
    judge = found.facts["judge"]
    assert judge["columns"]["unscored"] == judge["columns"]["verdicts"] > 0
    assert judge["levels"]["1"]["full"] is judge["levels"]["1"]["corrected"] is None
    assert judge["levels"]["1"]["powered"] is None
