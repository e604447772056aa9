"""Pictures of the use that docs/studio.md shows: a recipe, a chat, an annotation, an export.

    python bench/studio_pictures.py --home runs --out docs/images

`--home` holds finished runs of `phi` and `crescendo`; the run at scale smoke, the chat, the annotation and
the export are made here, by a browser that clicks as a person would. Needs the extra `browser`, a Chromium.
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

PATIENCE = 400_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    args = parser.parse_args()
    studio = subprocess.Popen(
        [sys.executable, "-m", "hornbook", "studio", "--port", "0", "--home", str(args.home)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert studio.stderr is not None
        address = studio.stderr.readline().split()[-1].rstrip("/")
        with sync_playwright() as playwright:
            program = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            use(browser, address, args.out)
            browser.close()
    finally:
        studio.terminate()
        studio.wait(20)


def use(browser: Browser, address: str, out: Path) -> None:
    """A new user's way through the studio."""
    page = browser.new_page(viewport={"width": 1180, "height": 780})
    page.set_default_timeout(60_000)

    def picture(name: str, of: Page = page) -> None:
        of.mouse.move(1, 1)
        of.screenshot(path=out / f"studio-{name}.png")

    page.goto(f"{address}/papers")
    picture("papers")
    section = page.locator("section", has=page.locator("#r-phi"))
    section.locator("select").select_option("smoke")
    section.get_by_role("button", name="Start phi").click()
    page.wait_for_url("**/runs/phi-smoke")
    expect(page.locator("#steps")).to_contain_text("left", timeout=PATIENCE)
    page.wait_for_timeout(1500)
    picture("live")
    expect(page.locator("#state")).to_contain_text("finished", timeout=PATIENCE)
    smoke = page.get_by_role("link", name="Export its model").get_attribute("href")

    page.goto(f"{address}/runs/phi-quick")
    page.locator("#curves svg.main-svg").first.wait_for()
    page.locator("#curves-title").scroll_into_view_if_needed()
    page.evaluate("document.getElementById('curves-title').scrollIntoView()")
    picture("curves")

    page.goto(f"{address}/chat")
    page.check("#two")
    page.check("#tint")
    first, second = page.locator(".side .model").nth(0), page.locator(".side .model").nth(1)
    for select, text in ((first, "phi-quick: model"), (second, "phi-quick: base")):
        select.select_option(value=select.locator("option", has_text=text).first.get_attribute("value"))
    page.locator("summary", has_text="Sampling").click()
    page.fill("[name=seed]", "4")
    page.fill("[name=max_tokens]", "120")
    page.locator("summary", has_text="Sampling").click()
    for question in (
        "Ruby has 4 buttons and Zoe has 3 more than Ruby. How many has Zoe?",
        "Tell me a story about a kite.",
    ):
        page.fill("#question", question)
        page.keyboard.press("Enter")
        expect(page.locator("#stop")).to_be_disabled(timeout=PATIENCE)
    page.locator(".side").first.locator(".tok").nth(-12).hover()
    page.screenshot(path=out / "studio-chat.png")

    page.goto(f"{address}/annotate")
    page.fill("[name=name]", f"pairs {time.strftime('%H:%M')}")
    page.locator("#preset").select_option(label="Blind pairs")
    page.fill("[name=items]", "12")
    page.get_by_role("button", name="Make the queue").click()
    work = page.url
    for name, keys in (
        ("ada", ["ArrowLeft", "ArrowRight", "ArrowLeft", "t", "ArrowRight"]),
        ("grace", ["ArrowRight"] * 3),
    ):
        page.goto(work)
        page.fill("[name=annotator]", name)
        page.get_by_role("button", name="Begin").click()
        expect(page.locator("#where")).to_contain_text("item 1")
        for done, key in enumerate(keys, 1):
            page.keyboard.press(key)
            expect(page.locator("#where")).to_contain_text(f"{done} done")
    page.reload()
    expect(page.locator("#where")).to_contain_text("3 done")
    picture("annotate")

    page.goto(address + str(smoke))
    page.fill("[name=name]", "my-first")
    page.get_by_role("button", name="Export").click()
    page.get_by_role("link", name="my-first-Q8_0.gguf").wait_for(timeout=PATIENCE)
    picture("export")

    dark = browser.new_page(viewport={"width": 1180, "height": 780}, color_scheme="dark")
    dark.goto(f"{address}/evaluations")
    for name, text in (("a", "phi-quick: chat"), ("b", "phi-quick: model")):
        select = dark.locator(f"[name={name}]")
        select.select_option(value=select.locator("option", has_text=text).first.get_attribute("value"))
    dark.get_by_role("button", name="Compare").click()
    dark.get_by_role("link", name="word-problems").first.click()
    expect(dark.locator(".strip li").first).to_be_visible()
    picture("evaluations-dark", dark)

    phone = browser.new_page(viewport={"width": 390, "height": 780})
    phone.goto(f"{address}/redteam")
    phone.get_by_role("link", name="/crescendo").first.click()
    phone.locator("tbody a").first.click()
    phone.locator(".attempts").wait_for()
    phone.evaluate("document.querySelector('main').scrollIntoView()")
    picture("redteam-phone", phone)


if __name__ == "__main__":
    main()
