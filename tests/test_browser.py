"""Both pages in a real browser: a run by its form, its report, and the champion with where it comes from.

Screenshots lie in `screenshots/` of the project afterwards, for whoever looks at what a test has seen.
"""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright
from workspaces import PROJECT, RECIPE, alma, make_workspace

CHROMIUM = shutil.which("chromium")
OFFLINE = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
OFFLINE += ["--disable-component-update", "--disable-sync"]
PICTURES = PROJECT / "screenshots"
GRAPH = "Cannot read properties of null (reading 'position')"
"""What the run graph of Prefect 3.8.8 throws, frame by frame, where it is left before it is drawn."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    workspace = make_workspace(tmp_path_factory.mktemp("browser") / "work")
    started = alma(workspace, "up")
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        found = json.loads((workspace / "var/servers.json").read_text())
        yield {name: server["address"] for name, server in found.items()}
    finally:
        alma(workspace, "down")


@pytest.fixture
def page(servers: dict[str, str]) -> Iterator[Page]:
    """Return an empty page; at the end, no script of it has failed and nothing was asked of anybody else."""
    if CHROMIUM is None:
        pytest.skip("Chromium of Debian's packages is not installed")
    wrong: list[str] = []
    ours = (servers["prefect"], servers["mlflow"], "data:", "blob:")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OFFLINE)
        found = browser.new_page(viewport={"width": 1300, "height": 1100})
        found.set_default_timeout(60_000)
        found.on("pageerror", lambda error: None if str(error) == GRAPH else wrong.append(str(error)))
        found.on("request", lambda asked: None if asked.url.startswith(ours) else wrong.append(asked.url))
        yield found
        browser.close()
    assert not wrong


def picture(page: Page, name: str) -> None:
    PICTURES.mkdir(exist_ok=True)
    page.wait_for_timeout(1500)  # the pages fade in
    page.screenshot(path=PICTURES / f"{name}.png")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_is_started_by_its_form_and_found_in_both_pages(servers: dict[str, str], page: Page) -> None:
    page.goto(f"{servers['prefect']}/deployments")
    page.locator("tr", has_text="pipeline").get_by_role("link", name="alma").first.click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Custom run").click()
    page.get_by_text("A recipe of the workspace").wait_for()
    assert page.get_by_role("button", name=RECIPE).is_visible(), "the recipe is chosen from a list"
    name = page.get_by_label("Run Name").input_value() if page.get_by_label("Run Name").count() else ""
    picture(page, "1-run-form")
    page.get_by_role("button", name="Submit").click()

    page.goto(f"{servers['prefect']}/runs")
    run = page.get_by_role("link", name=name) if name else page.locator("a[href*='/runs/flow-run/']")
    run.first.click()
    end = time.monotonic() + 400
    while not page.get_by_text("Completed", exact=True).count() and time.monotonic() < end:
        assert not page.get_by_text("Failed", exact=True).count(), page.inner_text("body")[-2000:]
        page.wait_for_timeout(1000)
    picture(page, "2-run")
    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text("tiny-report").first.click()
    page.get_by_text("4 models were trained, audited and assessed").first.wait_for()
    picture(page, "3-report")

    page.goto(f"{servers['mlflow']}/#/models/tiny-foundation/versions/1")
    page.get_by_text("champion").first.wait_for()
    for tag in ("alma.corpus_digest", "alma.weights_digest", "alma.audit_verdicts", "alma.decision"):
        page.get_by_text(tag, exact=True).first.wait_for()
    picture(page, "5-champion-and-lineage")
    page.get_by_role("link", name="pretrain").first.click()  # the run that it came of, in its experiment
    page.get_by_text("train/loss").first.wait_for()
    picture(page, "4-experiment")


def test_the_pictures_are_not_in_git() -> None:
    assert "/screenshots/" in (PROJECT / ".gitignore").read_text().split()
    assert Path(PICTURES).parent == PROJECT
