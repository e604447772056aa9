"""Every room in real headless Chromium: its main action, no console error, no serious fault for axe-core.

Run with `make browser`. The browser is $CHROMIUM, or chromium or google-chrome from the PATH.
"""

import importlib.resources
import json
import os
import re
import shutil

import pytest
from studio_home import HostileRun, make_home

from hornbook.data.corpus import CorpusWriter

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
sync_api = pytest.importorskip("playwright.sync_api", reason="make browser installs the extra `browser`")
axe = pytest.importorskip("axe_core_python", reason="make browser installs the extra `browser`")

PATIENCE = 120_000  # milliseconds, for what really runs


@pytest.fixture(scope="module")
def browser():
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    program = next((found for name in names if name and (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("no Chromium was found; install one or set CHROMIUM=/path/to/it")
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> HostileRun:
    return make_home(tmp_path_factory.mktemp("browser") / "runs")


@pytest.fixture(scope="module")
def address(home, tmp_path_factory):
    from small_model import served, small_model

    from hornbook.studio.settings import StudioSettings

    model = small_model(tmp_path_factory.mktemp("model") / "small")
    with served(StudioSettings(home=home.home, models=(str(model),))) as place:
        yield place


class Watched:
    """A page whose console is read and which axe-core examines."""

    def __init__(self, page, address) -> None:
        self.page, self.address = page, address
        self.said: list[str] = []
        page.set_default_timeout(30_000)
        page.on("console", lambda m: self.said.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("requestfailed", lambda r: self.said.append(f"{r.url} failed: {r.failure}"))

    def open(self, path):
        self.page.goto(self.address + path)
        return self.page

    def check(self):
        """No error was said, no model's text ran, nothing is wider than the page, axe is content."""
        said = [text for text in self.said if "ERR_ABORTED" not in text]  # a stopped stream, a page left
        assert said == [], self.page.url
        assert self.page.title() != "taken"
        width = self.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width[0] <= width[1], f"{self.page.url} is {width[0]} wide on a screen of {width[1]}"
        source = (importlib.resources.files("axe_core_python") / "axe.min.js").read_text("utf-8")
        self.page.evaluate(source + "; undefined")
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        serious = [
            (fault["id"], node["target"], node.get("failureSummary"))
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        ]
        assert serious == [], self.page.url


@pytest.fixture(params=["light", "dark"])
def watched(request, browser, address):
    context = browser.new_context(color_scheme=request.param, viewport={"width": 1200, "height": 900})
    yield Watched(context.new_page(), address)
    context.close()


@pytest.fixture
def one(browser, address):
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    made = Watched(context.new_page(), address)
    yield made
    made.check()
    context.close()


def places(home):
    """Every kind of page there is, with something on it."""
    steps = home.home / "steps"
    examined = sorted(path.name for path in steps.glob("examine-hostile-*"))
    [attack] = [path.name for path in steps.glob("red-team-*")]
    corpus = f"steps/{home.corpus.name}"
    return [
        *("/papers", "/papers/phi", "/runs", f"/runs/{home.name}", f"/compare?a={home.name}&b={home.name}"),
        *("/chat", "/data", f"/data/view?corpus={corpus}", f"/data/row?corpus={corpus}&number=1"),
        *(f"/data/coverage?corpus={corpus}", f"/evaluations?a={examined[0]}&b={examined[1]}"),
        f"/evaluations/task?name={examined[0]}&task=sums&b={examined[1]}",
        *("/redteam", f"/redteam/campaign?name={attack}/crescendo", "/pivotal", "/annotate", "/export"),
        *("/machine", "/no-such-page"),
    ]


def choose(select, text):
    """Chooses the first option that holds `text`."""
    select.select_option(value=select.locator("option", has_text=text).first.get_attribute("value"))


def test_every_page_is_clean_in_both_themes(watched, home):
    for path in places(home):
        watched.open(path)
        if path == "/no-such-page":
            watched.said = [text for text in watched.said if "404" not in text]
        watched.check()


def test_every_page_fits_a_phone(browser, address, home):
    context = browser.new_context(viewport={"width": 360, "height": 740}, is_mobile=True)
    watched = Watched(context.new_page(), address)
    for path in places(home)[:-1]:
        watched.open(path)
        watched.check()
    context.close()


def test_the_keyboard_reaches_the_content_first_and_the_theme_is_remembered(one):
    page = one.open("/runs")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    after = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert before != after
    one.open("/papers")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == after


def test_a_recipe_is_started_followed_and_finished(one):
    page = one.open("/papers")
    section = page.locator("section", has=page.locator("#r-cntk"))
    section.locator("select").select_option("smoke")
    section.get_by_role("button", name="Start cntk").click()
    page.wait_for_url("**/runs/cntk-smoke")
    sync_api.expect(page.locator("#state")).to_contain_text("finished", timeout=PATIENCE)
    sync_api.expect(page.get_by_role("heading", name="Claims")).to_be_visible()
    assert page.locator("#steps tbody tr").count() >= 1
    page.get_by_role("link", name="The whole report").click()
    sync_api.expect(page.locator("h1")).to_have_count(1)
    page.go_back()  # scripts may not run in a report, those of this test neither


def test_curves_are_drawn_and_another_metric_can_be_chosen(one, home):
    page = one.open(f"/runs/{home.name}")
    page.locator("#curves svg.main-svg").first.wait_for()
    numbers = page.locator("#curves .note").first
    assert "last 1.1" in numbers.inner_text()
    page.locator("#curves select").select_option(index=1)
    sync_api.expect(numbers).to_contain_text("last 1.0")


def test_two_runs_are_chosen_and_compared(one, home):
    page = one.open("/runs")
    row = page.locator("tr", has=page.get_by_role("link", name=home.name))
    row.locator("input[name=a]").check()
    row.locator("input[name=b]").check()
    page.get_by_role("button", name="Compare the two").click()
    page.locator("#curves svg.main-svg").first.wait_for()


def test_a_chat_with_two_models_probabilities_stop_and_documents(one, address):
    page = one.open("/chat")
    choose(page.locator(".side .model").first, "small")  # the model of random weights
    page.locator("summary", has_text="Sampling").click()
    page.fill("[name=max_tokens]", "30")
    page.fill("#question", "Hello <b>there</b>")
    page.keyboard.press("Enter")
    first = page.locator(".side .transcript").first
    sync_api.expect(page.locator(".status").first).to_contain_text("30 tokens", timeout=PATIENCE)
    assert first.locator("li.user div").inner_text() == "Hello <b>there</b>"
    first.locator(".tok").nth(3).hover()
    sync_api.expect(page.locator("#token")).to_contain_text("%")
    page.locator(".log").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    sync_api.expect(page.locator(".tok.current")).to_have_count(1)
    one.check()

    page.check("#two")
    choose(page.locator(".side .model").nth(1), "small")
    page.fill("[name=max_tokens]", "8000")
    page.fill("#question", "Go on")
    page.keyboard.press("Enter")
    sync_api.expect(page.locator(".status").nth(1)).to_contain_text("Answering", timeout=PATIENCE)
    page.keyboard.press("Escape")
    sync_api.expect(page.locator(".status").first).to_contain_text("Stopped")
    sync_api.expect(page.locator("#stop")).to_be_disabled()

    page.locator("#documents summary").click()
    page.set_input_files(
        "[name=files]",
        {"name": "facts.md", "mimeType": "text/markdown", "buffer": b"The owl is called Minerva."},
    )
    page.get_by_role("button", name="Add", exact=True).click()
    page.wait_for_url("**/chat#documents")
    choose(page.locator(".side .model").first, "small")
    page.locator("summary", has_text="Sampling").click()
    page.fill("[name=max_tokens]", "5")
    page.fill("#question", "What is the owl called?")
    page.keyboard.press("Enter")
    sync_api.expect(page.locator(".transcript .tool").first).to_contain_text("Minerva", timeout=PATIENCE)


def test_data_is_searched_and_a_row_leads_to_its_seed(one, home):
    page = one.open("/data")
    page.get_by_role("link", name=home.corpus.name).click()
    page.fill("[name=q]", "row 41")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name="row-41").click()
    sync_api.expect(page.locator(".chain")).to_contain_text("seed 7")


def test_models_are_compared_and_items_opened(one):
    page = one.open("/evaluations")
    page.get_by_role("button", name="Compare").click()
    sync_api.expect(page.locator("table").first).to_contain_text("is better")
    page.get_by_role("link", name="sums").first.click()
    sync_api.expect(page.locator(".strip li")).to_have_count(40)


def test_an_attack_is_read_word_by_word(one):
    page = one.open("/redteam")
    page.get_by_role("link", name=re.compile("crescendo$")).click()
    page.locator("tbody a").first.click()
    sync_api.expect(page.locator(".taken-back")).to_have_count(1)
    page.get_by_role("link", name="after →").click()
    sync_api.expect(page.locator(".attempts > li")).to_have_count(10)


def test_a_pivotal_token_shows_its_rollouts(one):
    page = one.open("/pivotal")
    page.locator("button.pivot").first.click()
    sync_api.expect(page.locator("#rollout-count")).to_contain_text("2 of 5 rollouts are right")
    assert page.locator("#right pre").count() == 2


def test_two_people_annotate_by_keys_and_their_agreement_is_shown(one, home):
    page = one.open("/annotate")
    page.fill("[name=name]", "stories")
    page.locator("#preset").select_option(label="Is it good?")
    page.locator("[name=corpus]").select_option(value=f"steps/{home.corpus.name}")
    page.fill("[name=items]", "4")
    page.get_by_role("button", name="Make the queue").click()
    for name, keys in (("ann", "1123"), ("bob", "1133")):
        page.goto(f"{one.address}/annotate/work?queue=stories")
        page.fill("[name=annotator]", name)
        page.get_by_role("button", name="Begin").click()
        sync_api.expect(page.locator("#where")).to_contain_text("item 1 of 4")
        one.check()
        for done, key in enumerate(keys, 1):
            page.keyboard.press(key)
            sync_api.expect(page.locator("#where")).to_contain_text(f"{done} done")
        page.keyboard.press("b")  # back to the last one, and judged anew
        sync_api.expect(page.locator("#where")).to_contain_text("item 4 of 4")
        page.keyboard.press("2" if name == "ann" else keys[-1])
        sync_api.expect(page.locator("#saved")).to_contain_text("kept")
    page.reload()
    sync_api.expect(page.locator("main")).to_contain_text("50.0 % equal on 4 items, Cohen's kappa 0.3333")


def test_a_question_is_solved_mended_and_accepted_by_keys(one, home):
    meta = {
        "question": "Let N be 6 + 6. What is half of N? <b>x</b>",
        "solution": "N = 12, half is 5.", "answer": "5",
        "skills": ["sums", "halves"],
        "exemplars": {"sums": [{"question": "1 + 1?", "solution": "two", "answer": "2"}]},
    }  # fmt: skip
    with CorpusWriter(home.home / "steps" / "questions-browser", "documents", lineage={}) as writer:
        row = {"text": meta["question"], "source": "math_squared", "meta": json.dumps(meta)}
        writer.write_rows([{"id": f"m{i}", **row} for i in range(2)])
    page = one.open("/annotate")
    page.fill("[name=name]", "squares")
    page.locator("#preset").select_option(label="Questions (MATH²)")
    sync_api.expect(page.locator("[name=corpus]")).to_have_value("steps/questions-browser")
    page.get_by_role("button", name="Make the queue").click()
    page.fill("[name=annotator]", "ann")
    page.get_by_role("button", name="Begin").click()
    sync_api.expect(page.locator("#item")).to_contain_text("half of N")
    assert "half is 5" not in page.locator("#item").inner_text()  # solve it first
    page.keyboard.press("n")
    page.keyboard.type("12/2")
    page.keyboard.press("Control+Enter")
    sync_api.expect(page.locator("#saved")).to_contain_text("the edit is kept")
    page.keyboard.press("v")
    sync_api.expect(page.locator("#same")).to_contain_text("differs", timeout=PATIENCE)
    page.keyboard.press("w")
    page.locator("textarea[name=solution]").fill("N = 12, half is 6.")
    page.locator("textarea[name=answer]").fill("6")
    page.keyboard.press("Control+Enter")
    sync_api.expect(page.locator("#same")).to_contain_text("equal", timeout=PATIENCE)
    page.keyboard.press("e")
    page.keyboard.press("Escape")
    page.keyboard.press("4")
    sync_api.expect(page.locator("#difficulty [aria-pressed=true]")).to_have_text("4")
    one.check()
    if picture := os.environ.get("HORNBOOK_PICTURES"):
        page.screenshot(path=f"{picture}/questions.png", full_page=True)
    page.keyboard.press("a")
    sync_api.expect(page.locator("#where")).to_contain_text("item 2 of 2, 1 done")
    assert "half is 5" not in page.locator("#item").inner_text()  # the next one is hidden again
    page.keyboard.press("r")
    sync_api.expect(page.locator("#where")).to_contain_text("all 2 done")
    lines = page.request.get(f"{one.address}/annotate/export.jsonl?queue=squares").text().splitlines()
    told = [json.loads(line)["judgements"][0] for line in lines]
    [first] = [entry for entry in told if entry["label"] == "accept"]
    assert first["final"]["answer"] == "6"
    assert first["final"]["own answer"] == "12/2"
    assert first["modified"] == ["solution", "answer"]
    assert {entry["label"] for entry in told} == {"accept", "reject"}


def test_a_model_is_exported_and_then_offered_in_the_chat(one):
    page = one.open("/export")
    choose(page.locator("[name=model]"), "small")
    page.fill("[name=name]", "tiny")
    page.uncheck("[value=q8_0]")
    page.check("[value=f32]")
    page.get_by_role("button", name="Export").click()
    page.get_by_role("link", name="tiny-F32.gguf").wait_for(timeout=PATIENCE)
    one.check()
    one.open("/chat")
    assert page.locator("option", has_text="tiny-F32.gguf").count() == 2


def test_the_machine_is_examined(one):
    page = one.open("/machine")
    page.get_by_role("button", name="Examine this machine").click()
    sync_api.expect(page.get_by_text("matrix product")).to_be_visible(timeout=PATIENCE)
    assert page.get_by_text("GFLOP/s").count() == 1
