"""The page in a real browser: what a visitor does, and what is then to be seen."""

import base64
import os
import shutil

import numpy as np
import pytest
from tiny_generator import Blocks
from visitor import data_url, picture

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed")
PICTURE = Blocks().decode(np.arange(16)[None])[0]


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1240,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


class Page:
    def __init__(self, browser, served):
        self._browser = browser
        browser.get(f"http://127.0.0.1:{served.port}/")
        self.wait(lambda: self.all("body[data-ready]"))

    def wait(self, condition):
        return WebDriverWait(self._browser, 60).until(lambda _: condition())

    def all(self, selector):
        return self._browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        (found,) = self.all(selector)
        return found

    def task(self, name):
        self.one(f".tasks label:has(input[value={name}])").click()

    def set(self, name, value):
        field = self.one(f"#{name}")
        field.clear()
        field.send_keys(str(value))

    def upload(self, path):
        self.one("#file").send_keys(str(path))
        self.wait(lambda: self.one("#picture").is_displayed())

    def go(self):
        """Asks, and waits for the newest answer."""
        answers = len(self.all("article"))
        self.one("#go").click()
        self.wait(lambda: len(self.all("article")) == answers + 1)
        self.wait(lambda: not self.one("#cancel").is_displayed())
        return self.all("article")[0]

    def images(self, article):
        return [
            picture(image.get_attribute("src"))
            for image in article.find_elements(By.CSS_SELECTOR, ".figures:not(.small) img")
        ]


@pytest.fixture
def page(browser, served):
    page = Page(browser, served)
    yield page
    wrong = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not wrong, wrong
    if folder := os.environ.get("CM3LEON_SCREENSHOTS"):
        browser.save_screenshot(f"{folder}/{os.environ['PYTEST_CURRENT_TEST'].split('::')[1].split(' ')[0]}.png")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(base64.b64decode(data_url(PICTURE).partition(",")[2]))
    return path


def test_pictures_with_their_documents_and_scores(page):
    page.set("text", "cat")
    Select(page.one("#retrieved")).select_by_visible_text("2")
    page.set("samples", 3)
    article = page.go()
    assert "cat" in article.text and "2 retrieved" in article.text
    assert len(article.find_elements(By.CSS_SELECTOR, ".small figure")) == 2
    assert len(page.images(article)) == 3 and article.text.count("CLIP") == 3 and article.text.count("best") == 1
    scores = [float(word) for word in article.text.split() if word.startswith(("0.", "-0."))]
    assert len(scores) == 3 and scores == sorted(scores, reverse=True)


def test_a_seed_and_a_rule_give_the_same_picture_again(page):
    page.set("text", "dog")
    Select(page.one("#rule")).select_by_value("cdk")
    assert page.one("#cdk_k").is_displayed() and not page.all("#top_p")
    page.set("seed", 7)
    first, second = (page.images(page.go())[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    page.set("cdk_k", 1)
    page.set("seed", 8)
    assert (page.images(page.go())[0] != first).any()


def test_a_picture_is_described_edited_and_asked_about(page, file):
    page.task("describe")
    assert not page.one("#text").is_displayed()
    page.upload(file)
    assert page.go().find_elements(By.CSS_SELECTOR, ".texts li")
    page.task("edit")
    page.set("text", "owl")
    assert page.one("#image_guidance_scale").is_displayed()
    assert page.images(page.go())[0].shape == (8, 8, 3)
    page.task("ask")
    page.set("text", "owl")
    answer = page.go()
    assert "owl" in answer.text and answer.find_elements(By.CSS_SELECTOR, ".texts li")


def test_a_hole_is_painted_and_filled(page, browser, file):
    page.task("fill")
    page.upload(file)
    page.set("text", "owl")
    page.one("#go").click()
    assert "Paint over" in page.one("#problem").text and not page.all("article")
    mask = page.one("#mask")
    width = mask.size["width"]
    # From the middle of the first row of cells to the right: there alone it is drawn anew.
    ActionChains(browser).move_to_element_with_offset(
        mask, -width // 8, -3 * width // 8
    ).click_and_hold().move_by_offset(width // 8, 0).release().perform()
    drawn = page.images(page.go())[0]
    np.testing.assert_array_equal(drawn[2:], PICTURE[2:])
    assert page.one("#picture").is_displayed()


def test_an_answer_is_used_as_the_next_picture(page):
    page.set("text", "bee")
    article = page.go()
    article.find_element(By.XPATH, ".//button[text()='Describe']").click()
    page.wait(lambda: page.one("#picture").is_displayed())
    assert page.one("input[value=describe]").is_selected()
    assert page.go().find_elements(By.CSS_SELECTOR, ".texts li")


def test_a_request_is_cancelled(page, served, monkeypatch):
    generator = served.scheduler.generator
    run = generator.run

    def endless(*arguments, watch, **options):
        def watched(unfinished):
            while not (gone := watch(unfinished)):
                pass
            return gone

        return run(*arguments, watch=watched, **options)

    with monkeypatch.context() as patched:
        patched.setattr(generator, "run", endless)
        page.set("text", "cat")
        page.one("#go").click()
        page.wait(lambda: page.all("article .figures img"))  # it grows
        page.one("#cancel").click()
        page.wait(lambda: "Cancelled" in page.one("article").text)
    assert page.images(page.go())


def test_what_is_wrong_is_said_on_the_page(page, browser, tmp_path):
    page.one("#go").click()
    assert "Write a text first" in page.one("#problem").text
    page.set("text", "a" * 95)
    assert "the model holds 96" in page.go().text
    page.set("text", "<img src=x onerror=alert(1)>")
    assert "<img src=x onerror=alert(1)>" in page.go().find_element(By.TAG_NAME, "h2").text
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not a picture")
    page.task("describe")
    page.one("#file").send_keys(str(broken))
    page.wait(lambda: "cannot be opened" in page.one("#invitation").text)
    browser.get_log("browser")  # of the picture that could not be decoded
