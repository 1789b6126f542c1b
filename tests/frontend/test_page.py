"""The page in a real Chromium, against the service on a real Ray Serve and a fake Ollama."""

from __future__ import annotations

import base64
import json
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Route, expect, sync_playwright

from tests.support.browser import CHROMIUM_FLAGS, chromium, installed_frontend
from tests.support.fake_ollama import Answer, FakeOllama
from tests.support.pictures import photograph_path
from tests.support.service import GUARDED, HOST, Service

pytestmark = pytest.mark.serve

PHOTOGRAPH = photograph_path("china")
TOKENS = [f"word{number} " for number in range(40)]
PROMPT = "".join(TOKENS).strip()
PATIENCE_MS = 20_000
POLL_MS = 50
API_KEY = "0123456789abcdef"
KEYS_ARE_READ_AFTER_MS = 1100

ELSEWHERE = "analyzer.test"
"""A name that the browser takes for another machine's, without HTTPS, and that leads to this one."""

OTHER_MODEL = "thinker:4b"
PAGE_BUDGET_BYTES = 150_000
NARROW_PX = 360
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    chromium()  # before a service is started that nobody would look at
    request.getfixturevalue("service")
    with sync_playwright() as playwright:
        elsewhere = f"--host-resolver-rules=MAP {ELSEWHERE} {HOST}"
        browser = playwright.chromium.launch(executable_path=chromium(), args=[*CHROMIUM_FLAGS, elsewhere])
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def _ollama_is_quick(ollama: FakeOllama) -> None:
    ollama.answer = Answer(tokens=TOKENS)
    ollama.hold()


@contextmanager
def down(ollama: FakeOllama) -> Iterator[None]:
    ollama.stop()
    try:
        yield
    finally:
        ollama.start()


@pytest.fixture
def context(browser: Browser, service: Service) -> Iterator[BrowserContext]:
    """One whose console complains of nothing, and which asks nobody but the service."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    context.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []
    own = (service.url, service.url.replace(HOST, ELSEWHERE), "data:", "blob:")

    def note(message: ConsoleMessage) -> None:
        # Chromium itself reports each answer that is not 2xx; the tests look for those on the page.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    context.on("console", note)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("request", lambda request: None if request.url.startswith(own) else complaints.append(request.url))
    yield context
    assert complaints == []
    context.close()


@pytest.fixture
def page(context: BrowserContext, service: Service) -> Page:
    return opened(context, service)


def opened(context: BrowserContext, service: Service, path: str = "/", *, host: str = HOST) -> Page:
    page = context.new_page()
    page.goto(service.url.replace(HOST, host) + path)
    return page


def offer_models(context: BrowserContext) -> None:
    """Have the page offer a second model, which the service does not allow."""
    held = [
        {
            "name": name,
            "capabilities": ["completion", "thinking"],
            "loaded": True,
            "gpu_share": 1,
            "size_bytes": 1,
            "hosts": [],
        }
        for name in ("mistral:latest", OTHER_MODEL)
    ]
    told = {"default": "mistral:latest", "allowed": ["mistral:latest", OTHER_MODEL], "models": held, "hosts": []}
    context.route("**/api/images/models", lambda route: route.fulfill(json=told))


def eventually(page: Page, expression: str, arg: Any = None) -> Any:
    """Give what it comes to once that is true; the page's policy forbids Playwright's own waiting to ask twice."""
    deadline_s = time.monotonic() + PATIENCE_MS / 1000
    while not (found := page.evaluate(expression, arg)):
        assert time.monotonic() < deadline_s, f"never came true: {expression}"
        page.wait_for_timeout(POLL_MS)
    return found


def answer(page: Page, *events: dict[str, Any]) -> None:
    """Have the service answer with these events, all at once."""
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    page.route("**/api/images/analyze-stream", lambda route: route.fulfill(content_type="text/event-stream", body=body))


def gallery(page: Page) -> Any:
    return page.locator(".gallery")


def details(page: Page) -> Any:
    return page.locator(".details")


def choose(page: Page, path: Path = PHOTOGRAPH) -> None:
    page.get_by_label("Choose a picture").or_(page.get_by_label("Choose another picture")).set_input_files(path)


def prompt_box(page: Page) -> Any:
    return page.get_by_label("Prompt", exact=True)


def choose_and_wait(page: Page, path: Path = PHOTOGRAPH) -> None:
    choose(page, path)
    expect(prompt_box(page)).to_have_value(PROMPT)


def test_a_chosen_picture_is_shown_read_and_put_into_words(page: Page, ollama: FakeOllama) -> None:
    ollama.answer = Answer(tokens=TOKENS, hold_at=9)
    choose(page)
    preview = page.get_by_alt_text("The chosen picture")
    expect(preview).to_be_visible()
    eventually(page, "image => image.naturalWidth > 0", preview.element_handle())
    for title in ("Style", "Mood", "Composition", "Colours", "Subjects"):
        bars = page.get_by_role("region", name=title).get_by_role("listitem")
        expect(bars).to_have_count(3)
        widths = bars.locator(".ia-bar-track > span").evaluate_all("bars => bars.map(bar => bar.clientWidth)")
        assert widths == sorted(widths, reverse=True)
        assert widths[0] > 0
    swatches = page.get_by_role("region", name="Palette").get_by_role("button")
    assert swatches.count() >= 3
    expect(prompt_box(page)).to_have_value("".join(TOKENS[:9]).strip())
    expect(page.get_by_text("Writing the prompt …")).to_be_visible()
    ollama.release(spread_s=0)
    expect(prompt_box(page)).to_have_value(PROMPT)
    expect(page.get_by_text("Done.")).to_be_visible()
    expect(details(page)).to_contain_text("read by CLIP")
    expect(details(page)).to_contain_text("In all")
    page.set_viewport_size({"width": NARROW_PX, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW_PX, "something is cut off"


def test_whatever_categories_come_are_shown_in_their_order_and_tags_before_them(page: Page) -> None:
    names = ("style", "mood", "composition", "color_palette", "subjects", "time_of_day")
    labels = [{"value": "golden hour", "score": 0.9}]
    ends = {"timings": {"total": 1}, "warnings": []}
    events: list[dict[str, Any]] = [
        {
            "status": "analyzed",
            "analysis": {**dict.fromkeys(names, labels), "season": []},
            "tags": [{"value": word, "group": "objects", "score": 0.9} for word in ("espresso", "saucer")],
            "palette": [{"hex": "#1c1410", "share": 1.0, "name": "black"}],
            "analyzer": "objects",
            "cached": False,
            **ends,
        },
        {"status": "complete", "generatedPrompt": PROMPT, "promptSource": "template", "truncated": False, **ends},
    ]
    answer(page, *events)
    choose_and_wait(page)
    expect(page.locator(".findings h2")).to_have_text(
        ["Tags", "Palette", "Style", "Mood", "Composition", "Colours", "Subjects", "Time of day"]
    )
    expect(page.get_by_role("region", name="Tags").get_by_role("listitem")).to_have_text(["espresso", "saucer"])
    expect(details(page)).to_contain_text("read by a small stand-in")


def test_closing_the_page_stops_the_writing(page: Page, ollama: FakeOllama) -> None:
    ollama.answer = Answer(tokens=TOKENS, hold_at=9)
    choose(page)
    expect(prompt_box(page)).to_have_value("".join(TOKENS[:9]).strip())
    page.close()
    assert ollama.wait_until(lambda server: server.chats[-1].closed_by_client)


def test_without_ollama_the_page_says_so_and_the_stand_in_writes(
    context: BrowserContext, service: Service, ollama: FakeOllama
) -> None:
    with down(ollama):
        page = opened(context, service)
        page.get_by_role("button", name="Limited mode").click()
        expect(page.get_by_text("No language model is there: prompts are put together")).to_be_visible()
        expect(page.get_by_text("ollama serve")).to_be_hidden()
        page.get_by_text("For the operator").click()
        expect(page.get_by_text("ollama serve")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_text("No language model")).to_be_hidden()
        choose(page)
        expect(details(page)).to_contain_text("put together from what was seen")
        assert prompt_box(page).input_value() != ""


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """A text with a picture's name; beside it one with its own."""
    text = tmp_path / "picture.png"
    for path in (text, text.with_suffix(".txt")):
        path.write_text("not a picture")
    return text


def test_a_file_that_nobody_can_show_is_named_and_one_that_is_too_large_is_made_smaller(
    page: Page, text_file: Path, tmp_path: Path
) -> None:
    choose(page, text_file)
    expect(page.get_by_role("alert")).to_contain_text("picture.png cannot be shown by this browser")
    expect(page.get_by_text("Your browser cannot show this picture.")).to_be_visible()
    large = tmp_path / "large.jpg"
    large.write_bytes(PHOTOGRAPH.read_bytes() + bytes(21 * MIB))
    choose_and_wait(page, large)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_model_is_asked_for_where_there_is_a_choice(context: BrowserContext, service: Service) -> None:
    page = opened(context, service)
    page.get_by_text("More options").click()
    choose_and_wait(page)
    expect(page.get_by_label("Model", exact=True)).to_have_count(0)
    offer_models(context)
    page.reload()
    page.get_by_text("More options").click()
    model = page.get_by_label("Model", exact=True)
    expect(model.get_by_role("option", selected=True)).to_have_text("mistral:latest (default, thinks first, loaded)")
    page.get_by_role("button", name="New seed").click()
    choose_and_wait(page)
    model.select_option(OTHER_MODEL)
    page.get_by_role("button", name="Regenerate").click()
    expect(page.get_by_role("alert")).to_contain_text("The service does not take this choice.")
    expect(page.locator(".ia-error")).to_contain_text("Form field 'model' is wrong: send one of mistral:latest")
    page.set_viewport_size({"width": NARROW_PX, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW_PX, "something is cut off"


def test_the_keyboard_is_enough(page: Page, ollama: FakeOllama) -> None:
    ollama.answer = Answer(tokens=TOKENS, interval_s=0.02)

    def tab_to(is_it: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate(is_it):
                outline = page.evaluate(
                    """() => {
                        const focused = document.activeElement;
                        return getComputedStyle(focused.closest(".ia-picture") ?? focused).outlineStyle;
                    }"""
                )
                assert outline != "none", "what has the focus is not marked"
                return
        raise AssertionError(f"the Tab key never came to {is_it}")

    # From the start: the browser is asked to tell of it while the key is on its way, and a chooser may come before.
    page.on("filechooser", lambda _: None)
    tab_to("document.activeElement.type === 'file'")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(PHOTOGRAPH)
    tab_to("document.activeElement.tagName === 'SELECT'")
    while page.evaluate("document.activeElement.labels?.[0].textContent") != "Language":
        page.keyboard.press("Tab")
    page.keyboard.press("D")  # Deutsch
    tab_to("document.activeElement.type === 'checkbox'")
    page.keyboard.press("Space")
    expect(prompt_box(page)).to_have_value(PROMPT)
    tab_to("document.activeElement.textContent === 'Regenerate'")
    before = len(ollama.chats)
    page.keyboard.press("Enter")
    expect(page.get_by_text("Writing the prompt …")).to_be_visible()
    expect(page.get_by_text("Done.")).to_be_visible()
    assert len(ollama.chats) == before + 1
    assert "German" in json.dumps(ollama.chats[-1].body)
    assert ollama.chats[-1].body["options"]["num_predict"] == 300, "as in deep mode"
    page.keyboard.press("Shift+Tab")
    tab_to("document.activeElement.textContent === 'Regenerate'")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_any_state(
    scheme: Any, browser: Browser, service: Service, ollama: FakeOllama, text_file: Path
) -> None:
    axe = (installed_frontend() / "node_modules" / "axe-core" / "axe.min.js").read_text()

    def violations(page: Page) -> list[str]:
        found = page.evaluate(axe + "; axe.run()")["violations"]
        return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found]

    # The page's policy forbids the script that axe is put in by, and nothing else is tested here.
    context = browser.new_context(color_scheme=scheme, bypass_csp=True, reduced_motion="reduce")
    offer_models(context)
    page = opened(context, service)
    expect(page.get_by_role("button", name="Ready")).to_be_visible()
    assert violations(page) == [], "first visit"
    page.get_by_text("More options").click()
    expect(page.get_by_label("Model", exact=True)).to_be_visible()
    assert violations(page) == [], "options"
    ollama.answer = Answer(tokens=TOKENS, hold_at=9)
    choose(page)
    expect(prompt_box(page)).to_have_value("".join(TOKENS[:9]).strip())
    assert violations(page) == [], "writing"
    ollama.release(spread_s=0)
    expect(gallery(page)).to_be_visible()
    details(page).locator("summary").click()
    page.get_by_label("Your idea").fill("at dusk")
    assert violations(page) == [], "done, and something changed"
    page.get_by_role("button", name="New variant").click()
    expect(gallery(page).locator(".gallery-open")).to_have_count(2)
    compare(page)
    assert violations(page) == [], "compared"
    page.keyboard.press("Escape")
    choose(page, text_file)
    expect(page.get_by_role("alert")).to_be_visible()
    assert violations(page) == [], "an error"
    page.get_by_role("button", name="Remove the picture").click()
    page.get_by_label("Choose a picture").set_input_files([PHOTOGRAPH, photograph_path("flower"), text_file])
    expect(page.locator(".queue").get_by_text("Done", exact=True)).to_have_count(2)
    expect(page.locator(".queue").get_by_text("Failed", exact=True)).to_have_count(1)
    assert violations(page) == [], "a queue"
    with down(ollama):
        page.reload()
        page.get_by_role("button", name="Limited mode").click()
        expect(page.get_by_text("No language model is there")).to_be_visible()
        page.get_by_text("For the operator").click()
        assert violations(page) == [], "limited mode"
    context.close()


def compare(page: Page) -> None:
    """Show the two latest side by side."""
    gallery(page).get_by_role("button", name="Compare").click()
    for latest in (0, 1):
        gallery(page).locator(".gallery-open").nth(latest).click()
    expect(page.get_by_role("dialog")).to_be_visible()


def test_many_pictures_are_a_queue_whose_prompts_are_saved_opened_and_compared(
    page: Page, ollama: FakeOllama, text_file: Path
) -> None:
    page.get_by_label("Choose a picture").set_input_files(
        [PHOTOGRAPH, photograph_path("flower"), text_file, text_file.with_suffix(".txt")]
    )
    queue = page.locator(".queue")
    expect(queue.get_by_text("1 file is no picture")).to_be_visible()
    expect(queue.get_by_text("Done", exact=True)).to_have_count(2)
    expect(queue.get_by_text("picture.png cannot be shown by this browser")).to_be_visible()
    with page.expect_download() as download:
        queue.get_by_role("button", name="Text files").click()
    with zipfile.ZipFile(download.value.path()) as saved:
        assert {name: saved.read(name).decode() for name in saved.namelist()} == dict.fromkeys(
            ["china.txt", "flower.txt"], f"{PROMPT}\n"
        )
    asked = len(ollama.chats)
    queue.get_by_role("button", name="Open").nth(1).click()
    expect(prompt_box(page)).to_have_value(PROMPT)
    expect(prompt_box(page)).to_be_in_viewport()
    queue.get_by_role("button", name="Close").click()
    expect(queue).to_have_count(0)
    assert len(ollama.chats) == asked, "what was answered was asked for again"
    compare(page)
    expect(page.get_by_role("dialog").get_by_role("img")).to_have_count(2)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_page_is_small_and_shows_itself_without_the_api(context: BrowserContext, service: Service) -> None:
    asked: list[Route] = []
    context.route("**/api/**", lambda route: asked.append(route))
    page = context.new_page()
    network = context.new_cdp_session(page)
    network.send("Network.enable")
    pictures: dict[str, bool] = {}
    transferred: dict[str, float] = {}

    def note_kind(event: Any) -> None:
        pictures[event["requestId"]] = event["type"] == "Image"

    def note_bytes(event: Any) -> None:
        transferred[event["requestId"]] = event["encodedDataLength"]

    network.on("Network.responseReceived", note_kind)
    network.on("Network.loadingFinished", note_bytes)
    page.goto(service.url)
    expect(page.get_by_role("heading", name="Image Analyzer")).to_be_visible()
    expect(page.get_by_text("Choose a picture")).to_be_visible()
    assert asked, "the page did not ask how the service stands"
    page_bytes = sum(size for request, size in transferred.items() if not pictures[request])
    assert 10_000 < page_bytes < PAGE_BUDGET_BYTES
    for route in asked:
        route.abort()


def put(page: Page, event: str, where: str) -> None:
    """Give the page a picture as a drop or a paste does."""
    page.evaluate(
        """([kind, where, base64]) => {
            const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "given.jpg", { type: "image/jpeg" }));
            const event = kind === "paste"
                ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true })
                : new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
            document.querySelector(where).dispatchEvent(event);
        }""",
        [event, where, base64.b64encode(PHOTOGRAPH.read_bytes()).decode()],
    )


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_a_picture_may_be_dropped_and_pasted_anywhere(event: str, page: Page) -> None:
    put(page, event, "header")
    expect(prompt_box(page)).to_have_value(PROMPT)
    expect(gallery(page).get_by_alt_text("given.jpg")).to_be_visible()


def test_samples_copying_and_history(page: Page, ollama: FakeOllama) -> None:
    page.get_by_role("button", name="coffee").click()
    expect(prompt_box(page)).to_have_value(PROMPT)
    page.get_by_role("button", name="Copy Prompt").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == PROMPT
    swatch = page.get_by_role("region", name="Palette").get_by_role("button").first
    colour = swatch.locator("code").text_content()
    swatch.click()
    expect(swatch.locator("code")).to_have_text("copied")
    assert page.evaluate("navigator.clipboard.readText()") == colour
    page.get_by_label("Your idea").fill("at dusk")
    page.reload()
    page.get_by_label("Your idea").fill("something else")
    asked = len(ollama.chats)
    gallery(page).locator(".gallery-open").click()
    expect(prompt_box(page)).to_have_value(PROMPT)
    expect(page.get_by_label("Your idea")).to_have_value("")
    expect(page.get_by_alt_text("The chosen picture")).to_be_visible()
    expect(page.get_by_role("region", name="Style").get_by_role("listitem")).to_have_count(3)
    assert len(ollama.chats) == asked, "what came before was asked for again"
    ollama.answer = Answer(tokens=["other ", "words"])
    page.get_by_role("button", name="New variant").click()
    expect(prompt_box(page)).to_have_value("other words")
    gallery(page).get_by_role("button", name="Clear history").click()
    expect(gallery(page).locator(".gallery-open")).to_have_count(0)
    gallery(page).get_by_role("button", name="Undo").click()
    expect(gallery(page).locator(".gallery-open")).to_have_count(2)


def camera_picture(path: Path) -> Path:
    """Save a photograph as a camera held upright does: large, and lying on its side with a note to turn it."""
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    with Image.open(PHOTOGRAPH) as photograph:
        photograph.resize((3000, 2000)).save(path, quality=97, exif=turned)
    return path


def test_a_large_picture_is_sent_smaller_to_another_machine(
    context: BrowserContext, service: Service, tmp_path: Path
) -> None:
    # Chromium shows nobody the body of a request that holds a file.
    context.add_init_script(
        """const append = FormData.prototype.append;
        FormData.prototype.append = function (name, value, ...rest) {
            if (name === "image") createImageBitmap(value).then(({ width, height }) => {
                window.sent = { width, height, bytes: value.size };
            });
            return append.call(this, name, value, ...rest);
        };"""
    )
    large = camera_picture(tmp_path / "camera.jpg")
    far, near = opened(context, service, host=ELSEWHERE), opened(context, service)
    for page in (far, near):
        choose_and_wait(page, large)
    sent_far, sent_near = (eventually(page, "window.sent") for page in (far, near))
    assert (sent_far["width"], sent_far["height"]) == (1024, 1536)
    assert sent_far["bytes"] < sent_near["bytes"] / 2
    assert sent_near["bytes"] == large.stat().st_size


def test_copying_works_without_https(context: BrowserContext, service: Service) -> None:
    page = opened(context, service, host=ELSEWHERE)
    assert not page.evaluate("isSecureContext")
    choose_and_wait(page)
    page.get_by_role("button", name="Copy Prompt").click()
    expect(page.get_by_text("Copied")).to_be_visible()
    wish = page.get_by_label("Your idea")
    wish.focus()
    page.keyboard.press("Control+V")
    expect(wish).to_have_value(PROMPT)


@pytest.mark.parametrize("path", [GUARDED, f"{GUARDED}/"])
def test_below_a_route_prefix_where_a_key_is_asked_for_the_page_says_so_and_keeps_it_for_its_tab(
    path: str, context: BrowserContext, service: Service, keys_file: Path
) -> None:
    keys_file.write_text(f"visitor {API_KEY}\n")
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = opened(context, service, path)
    choose(page)
    expect(page.get_by_role("alert")).to_contain_text("The service wants a key")
    page.get_by_label("Key").fill(f" {API_KEY}\u200b")
    page.wait_for_timeout(KEYS_ARE_READ_AFTER_MS)
    page.keyboard.press("Enter")
    expect(prompt_box(page)).to_have_value(PROMPT)
    page.reload()
    expect(page.get_by_label("Key")).to_have_value(API_KEY)
    assert [url for url in asked if not url.startswith((service.url + GUARDED, "data:", "blob:"))] == []
    assert opened(context, service).get_by_label("Key").count() == 0


def test_light_and_dark_are_the_system_s_until_chosen(browser: Browser, service: Service) -> None:
    def background(page: Page) -> Any:
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    context = browser.new_context(color_scheme="dark")
    page = opened(context, service)
    dark = background(page)
    page.get_by_role("button", name="Light").click()
    assert background(page) != dark
    light = background(page)
    page.reload()
    assert background(page) == light
    context.close()


def test_a_browser_that_keeps_nothing_shows_the_page_all_the_same(context: BrowserContext, service: Service) -> None:
    context.add_init_script(
        """for (const place of ["localStorage", "sessionStorage", "indexedDB"]) Object.defineProperty(window, place, {
            get() { throw new DOMException("The user blocks it.", "SecurityError"); }
        });"""
    )
    page = opened(context, service)
    choose_and_wait(page)
    expect(gallery(page).get_by_alt_text("china.jpg")).to_be_visible()
    page.get_by_role("button", name="Dark").click()


LONG = [f"word{number} " for number in range(160)]


def scrolled(page: Page) -> Any:
    """Give how far the prompt box is from its end, in pixels, and how much of its text is marked."""
    return page.evaluate(
        """() => {
            const box = document.querySelector(".ia-box > textarea");
            const marked = box.selectionEnd - box.selectionStart;
            return [Math.round(box.scrollHeight - box.clientHeight - box.scrollTop), marked];
        }"""
    )


def test_a_long_prompt_is_followed_while_it_is_written_unless_its_reader_scrolled_back(
    page: Page, ollama: FakeOllama
) -> None:
    ollama.answer = Answer(tokens=LONG, hold_at=140)
    page.set_viewport_size({"width": 1280, "height": 500})
    page.get_by_label("Deep mode").check()
    choose(page)
    expect(prompt_box(page)).to_have_value("".join(LONG[:140]).strip())
    distance_px, _ = scrolled(page)
    assert distance_px < 2, "the end of what is written is out of sight"
    prompt_box(page).evaluate("box => { box.focus(); box.setSelectionRange(0, 9); box.scrollTop = 0; }")
    ollama.release(spread_s=0.2)
    expect(prompt_box(page)).to_have_value("".join(LONG).strip())
    distance_px, marked = scrolled(page)
    assert distance_px > 100, "who reads on was torn away"
    assert marked == 9, "a selection was lost"


def test_on_a_phone_the_result_comes_into_view(browser: Browser, service: Service) -> None:
    context = browser.new_context(viewport={"width": NARROW_PX, "height": 740}, has_touch=True)
    page = opened(context, service)
    expect(page.get_by_text("Take a photo")).to_be_visible()
    page.get_by_text("More options").scroll_into_view_if_needed()
    page.get_by_label("Choose a picture").set_input_files(PHOTOGRAPH)
    expect(prompt_box(page)).to_have_value(PROMPT)
    expect(prompt_box(page)).to_be_in_viewport(ratio=0.6)
    context.close()


def test_arabic_is_laid_out_from_the_right(page: Page, ollama: FakeOllama) -> None:
    ollama.answer = Answer(tokens=["فنجان ", "قهوة"])
    page.get_by_label("Language", exact=True).select_option("ar")
    choose(page)
    expect(prompt_box(page)).to_have_value("فنجان قهوة")
    assert prompt_box(page).evaluate("box => [getComputedStyle(box).direction, box.lang]") == ["rtl", "ar"]


def test_nothing_of_the_last_picture_stands_beside_the_next(page: Page, text_file: Path) -> None:
    choose_and_wait(page)
    choose(page, text_file)
    expect(page.get_by_role("alert")).to_be_visible()
    expect(prompt_box(page)).to_have_value("")
    expect(page.get_by_role("button", name="Copy Prompt")).to_be_disabled()
    expect(page.locator(".findings")).to_have_count(0)
    page.get_by_role("button", name="Remove the picture").click()
    expect(page.get_by_text("Any picture in")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_an_error_heals_when_the_service_is_back(page: Page) -> None:
    page.context.route("**/api/images/**", lambda route: route.abort())
    choose(page)
    expect(page.get_by_role("alert")).to_have_text("The service cannot be reached.")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.get_by_role("button", name="Not answering")).to_be_visible()
    page.context.unroute("**/api/images/**")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(prompt_box(page)).to_have_value(PROMPT)
    expect(page.get_by_role("alert")).to_have_count(0)


def test_what_was_chosen_is_remembered_and_a_change_offers_to_regenerate(page: Page, ollama: FakeOllama) -> None:
    page.get_by_label("Language", exact=True).select_option("de")
    page.get_by_label("Your idea").fill("at dusk")
    page.reload()
    expect(page.get_by_label("Language", exact=True)).to_have_value("de")
    choose_and_wait(page)
    expect(page.get_by_text("for what you have changed")).to_have_count(0)
    page.get_by_label("Your idea").fill("at noon")
    expect(page.get_by_text("for what you have changed")).to_be_visible()
    ollama.answer = Answer(tokens=TOKENS, hold_at=9)
    page.keyboard.press("Control+Enter")
    expect(prompt_box(page)).to_have_value("".join(TOKENS[:9]).strip())
    assert "at noon" in json.dumps(ollama.chats[-1].body)
    page.keyboard.press("Escape")
    expect(page.get_by_text("Stopped.")).to_be_visible()
    assert ollama.wait_until(lambda server: server.chats[-1].closed_by_client)


SEEN = {
    "status": "analyzed",
    "analysis": {name: [] for name in ("style", "mood", "composition", "color_palette", "subjects")},
    "tags": [{"value": word, "group": "objects", "score": 0.9} for word in ("espresso", "saucer", "spoon")],
    "palette": [],
    "analyzer": "clip",
    "cached": False,
    "timings": {"total": 1},
    "warnings": [],
}
WRITTEN = {
    "status": "complete",
    "generatedPrompt": PROMPT,
    "promptSource": "template",
    "truncated": False,
    "timings": {"total": 1},
    "warnings": [],
}


def test_tags_that_are_switched_off_are_left_out_of_the_next_prompt(context: BrowserContext, service: Service) -> None:
    context.add_init_script(
        """const append = FormData.prototype.append;
        FormData.prototype.append = function (name, value, ...rest) {
            if (name === "without") window.left_out = value;
            return append.call(this, name, value, ...rest);
        };"""
    )
    page = opened(context, service)
    answer(page, SEEN, WRITTEN)
    choose_and_wait(page)
    for tag in ("espresso", "spoon"):
        page.get_by_role("button", name=tag).click()
    expect(page.get_by_role("button", name="saucer")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Regenerate").click()
    expect(page.get_by_text("Done.")).to_be_visible()
    assert page.evaluate("window.left_out") == "espresso,spoon"
