"""The explainer in a real browser: what it computes is what Python computes, nothing leaves the page, and
what a reader or a server does wrong is said.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from served import served

from infoclip_lite import DenseCLIP, segment
from infoclip_lite.datasets.image import read_image

ActionChains = pytest.importorskip("selenium.webdriver").ActionChains
pytest.importorskip("onnxscript", reason="onnxscript not found: pip install -e '.[chimera]'")

PATIENCE = 180.0  # seconds, for a machine that does other things too; a wait ends when its object is there
MEGABYTES = 25
SIDE, GRID = 96, 12
ARROW_RIGHT, ENTER = "\ue014", "\ue007"
# Clean, unclean, many-lettered and unknown: words that tokenizers stumble over.
TEXTS = [
    "a photo of a cow",
    "A Collage  of\tRoad   Signs",
    "it's the dog's 3rd ball, isn't it?!",
    "naïve café, Straße, ﬁsh, ＦＩＳＨ",
    "“quoted” and ‘so’",
    "слон 象 🐘 ελέφαντας",
    "internationalization of antidisestablishmentarianism",
    "x1y22z333 --- ... $5.00",
    "e\u0301cole",
]


@dataclass
class Page:
    """The explainer in the browser.

    Attributes:
        browser: the driver.
        address: where the page is served.
    """

    browser: Any
    address: str

    def open(self, path: str = "index.html") -> None:
        self.browser.get(f"{self.address}/{path}")

    def ready(self) -> None:
        """Until the model is there."""
        self.wait("the model", "return performance.getEntriesByName('model-ready').length > 0")

    def wait(self, what: str, script: str) -> Any:
        end = time.monotonic() + PATIENCE
        while not (found := self.browser.execute_script(script)):
            if time.monotonic() > end:
                said = self.text("notices"), self.text("status")
                raise AssertionError(f"after {PATIENCE:.0f} s there is still not: {what}; it says {said}")
            time.sleep(0.2)
        return found

    def find(self, name: str) -> Any:
        return self.browser.find_element("id", name)

    def text(self, name: str) -> str:
        return self.browser.execute_script("return document.getElementById(arguments[0]).textContent", name)

    def run(self, body: str, *arguments: object) -> Any:
        """What an async function with this body returns; modules are imported by name from the page."""
        script = (
            "const done = arguments[arguments.length - 1]; const given = [...arguments].slice(0, -1);"
            f"(async () => {{ {body} }})().then((x) => done([x]), (e) => done(String(e)));"
        )
        answer = self.browser.execute_async_script(script, *arguments)
        assert isinstance(answer, list), answer
        return answer[0]

    def choose(self, file: Path) -> None:
        self.browser.execute_script("document.getElementById('status').textContent = ''")
        self.find("file").send_keys(str(file))

    def labels(self) -> tuple[list[str], np.ndarray]:
        """The words that compete, and the label of each pixel of the picture that is looked at."""
        names, flat = self.browser.execute_script(
            "const {names, labels} = window.explainer.labels; return [names, Array.from(labels)]"
        )
        return names, np.array(flat, dtype=np.uint8).reshape(SIDE, SIDE)


@pytest.fixture(scope="module")
def folder(explainer: ModuleType, mini: DenseCLIP, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as it is published, and beside its towers the same in float32."""
    # The runtime from npm and the exported programs are slow to make, and shared with `make docs`.
    built = tmp_path_factory.mktemp("site") / "explainer"
    ready = Path(os.environ.get("BUILT_SITE", "no site")) / "explainer"
    if ready.is_dir():
        shutil.copytree(ready, built)
    else:
        explainer.build(built)
    for name, path in explainer.float_programs(mini, explainer.PARTS).items():
        shutil.copyfile(path, built / f"{name}-float32.onnx")
    return built


@pytest.fixture(scope="module")
def page(browser: Any, folder: Path) -> Iterator[Page]:
    with served(folder) as address:
        page = Page(browser, address)
        page.open()
        page.ready()
        yield page


def squared(file: Path) -> torch.Tensor:
    """The middle square of a picture (3, S, S), as the page takes it."""
    image = read_image(file)
    side = min(image.shape[1:])
    top, left = (image.shape[1] - side) // 2, (image.shape[2] - side) // 2
    return image[:, top : top + side, left : left + side]


def reduced(file: Path) -> np.ndarray:
    """What the image tower gets of it: (3, SIDE, SIDE)."""
    square = squared(file)[None]
    return F.interpolate(square, (SIDE, SIDE), mode="bilinear", antialias=True)[0].clamp(0, 1).numpy()


def photo(width: int, height: int) -> Image.Image:
    """A picture with coarse and fine structure."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)).resize((width, height))
    fine = rng.integers(-40, 40, (height, width, 3))
    return Image.fromarray((np.asarray(coarse).astype(int) + fine).clip(0, 255).astype(np.uint8))


def test_what_a_reader_downloads_is_small(folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file() and "float32" not in path.name]
    total = sum(len(gzip.compress(path.read_bytes(), 6)) for path in files)
    assert total <= MEGABYTES * 1e6


def test_every_picture_is_credited(folder: Path) -> None:
    page = (folder / "index.html").read_text()
    content = json.loads((folder / "content.json").read_text())
    assert "{{" not in page
    for picture in content["pictures"]:
        assert f">{picture['title']}</th>" in page


def test_tokens_are_pythons(page: Page, mini: DenseCLIP) -> None:
    content = json.loads(page.run("return (await fetch('content.json')).text()"))
    texts = [*TEXTS, *(template.format(word) for word in content["words"] for template in mini.templates)]
    found = page.run(
        "const {Tokenizer} = await import('./tokenizer.js');"
        "const {merges, known, context} = await (await fetch('tokenizer.json')).json();"
        "const tokenizer = new Tokenizer(merges, known, context);"
        "return given[0].map((text) => tokenizer.encode(text))",
        texts,
    )
    assert dict(zip(texts, found, strict=True)) == {text: mini.tokenizer.encode(text) for text in texts}


@pytest.mark.parametrize("kind", ["png", "small", "transparent", "turned"])
def test_a_photo_becomes_the_numbers_that_python_makes(page: Page, tmp_path: Path, kind: str) -> None:
    picture, name, near = photo(300, 200), "photo.png", 1e-5
    options: dict[str, Any] = {}
    if kind == "small":
        picture = photo(70, 90)
    if kind == "transparent":
        # Half and fully transparent: browsers round a colour that is multiplied with its alpha.
        alpha = Image.fromarray(np.tile(np.array([0, 128, 255], np.uint8).repeat(100), (200, 1)))
        picture.putalpha(alpha)
        near = 2 / 255
    if kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera lay on its side
        name, near, options = "photo.jpg", 4 / 255, {"exif": exif, "quality": 95, "subsampling": 0}
    picture.save(tmp_path / name, **options)
    data = list((tmp_path / name).read_bytes())
    found = page.run(
        "const {squareOf, tensorOf} = await import('./preprocess.js');"
        "const square = await squareOf(new Blob([new Uint8Array(given[0])]));"
        "return Array.from(tensorOf(square, given[1]))",
        data,
        SIDE,
    )
    expected = reduced(tmp_path / name)
    assert np.abs(np.array(found).reshape(expected.shape) - expected).max() < near


def test_embeddings_of_the_float_export_are_pythons(page: Page, mini: DenseCLIP) -> None:
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    content = json.loads(page.run("return (await fetch('content.json')).text()"))
    embedding, patches, words = page.run(
        "const {ImageTower, TextTower} = await import('./clip.js');"
        "const {Tokenizer} = await import('./tokenizer.js');"
        "const {ort, content} = window.explainer.state;"
        "const tower = await ImageTower.load(ort, 'image-float32.onnx', content);"
        "const seen = await tower.encode(Float32Array.from(given[0]));"
        "const {merges, known, context} = await (await fetch('tokenizer.json')).json();"
        "const tokenizer = new Tokenizer(merges, known, context);"
        "const text = await TextTower.load(ort, 'text-float32.onnx', tokenizer, content.templates);"
        "const words = [];"
        "for (const word of given[1]) words.push(Array.from(await text.word(word)));"
        "return [Array.from(seen.embedding), seen.patches.map((each) => Array.from(each)), words]",
        image.flatten().tolist(),
        ["cow", "ox|cattle", "red brick wall"],
    )
    with torch.no_grad():
        expected = mini.encode_each(image, content["read_outs"])
        whole = mini.encode_image(image)[0]
        text = mini.encode_text(["cow", "ox|cattle", "red brick wall"])
    assert np.abs(np.array(embedding) - whole.numpy()).max() < 1e-3
    for name, found, dense in zip(content["read_outs"], patches, expected, strict=True):
        ours = np.array(found).reshape(-1, mini.embed_dim)
        assert np.abs(ours - dense[0].flatten(1).T.numpy()).max() < 1e-3, name
    assert np.abs(np.array(words) - text.numpy()).max() < 1e-3


def test_labels_of_the_published_page_are_pythons(page: Page, folder: Path, mini: DenseCLIP) -> None:
    content = json.loads((folder / "content.json").read_text())
    equal = []
    for entry in content["pictures"]:
        page.browser.execute_script("document.getElementById('status').textContent = ''")
        page.browser.find_element("css selector", f"[data-key='{entry['key']}']").click()
        page.wait("labels", "return document.getElementById('status').textContent.startsWith('Computed')")
        names, labels = page.labels()
        assert names == entry["words"]
        expected = segment(torch.from_numpy(reduced(folder / entry["file"])), names, mini).labels
        equal.append(float((labels == expected).mean()))
    assert min(equal) >= 0.995, equal


def test_the_first_picture_is_there_before_the_model_and_the_same(page: Page) -> None:
    page.open()
    page.ready()
    marks = page.browser.execute_script(
        "return ['first-result', 'model-ready']"
        ".map((name) => performance.getEntriesByName(name)[0].startTime)"
    )
    assert marks[0] < marks[1], "what was computed before is there before the model is"
    before = page.labels()
    page.browser.find_element("css selector", "#pictures button").click()
    page.wait("labels", "return document.getElementById('status').textContent.startsWith('Computed')")
    after = page.labels()
    assert before[0] == after[0] and (before[1] == after[1]).mean() >= 0.995


def test_a_photo_of_ones_own_is_looked_at(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "own.png"
    photo(640, 400).save(file)
    page.choose(file)
    page.wait("labels", "return document.getElementById('status').textContent.startsWith('Computed')")
    names, labels = page.labels()
    assert sum(
        page.browser.execute_script("return [...document.querySelectorAll('#words .name')].length")
        for _ in "1"
    ) == len(names)
    assert labels.shape == (SIDE, SIDE)
    assert not page.browser.find_elements("css selector", "[aria-pressed='true']")


DROP = """
const data = new DataTransfer();
if (arguments[1]) data.items.add(new File([new Uint8Array(arguments[0])], arguments[1]));
const options = {dataTransfer: data, bubbles: true, cancelable: true};
const drop = document.getElementById("drop");
drop.dispatchEvent(new DragEvent("dragover", options));
return [drop.classList.contains("over"), !drop.dispatchEvent(new DragEvent("drop", options))];
"""


def test_a_photo_is_dropped(page: Page, tmp_path: Path) -> None:
    photo(200, 300).save(tmp_path / "own.png")
    before = page.labels()[1]
    page.browser.execute_script("document.getElementById('status').textContent = ''")
    data = list((tmp_path / "own.png").read_bytes())
    # The browser would leave the page for the file, if the page did not keep it from that.
    assert page.browser.execute_script(DROP, data, "own.png") == [True, True]
    page.wait("labels", "return document.getElementById('status').textContent.startsWith('Computed')")
    assert (page.labels()[1] != before).any()
    assert page.browser.execute_script(DROP, [], None) == [True, True]
    assert "Nothing was dropped that is a file" in page.text("notices")


def test_the_map_of_a_word_follows_the_word(page: Page) -> None:
    page.browser.find_element("css selector", "[data-key^='scene']").click()
    page.wait("labels", "return document.querySelector('[data-key^=scene]').ariaPressed === 'true'")
    said = set()
    for option in page.find("map-word").find_elements("css selector", "option"):
        option.click()
        assert page.find("map").get_attribute("aria-label").startswith(f"Map of {option.text}. Cosines from")
        said.add(page.text("map-said"))
    assert len(said) > 1


def type_word(page: Page, word: str) -> str:
    field = page.find("word")
    field.clear()
    page.browser.execute_script("document.getElementById('word-said').textContent = ''")
    field.send_keys(word, ENTER)
    return page.wait(
        "an answer",
        "const said = document.getElementById('word-said').textContent;"
        "return said && !said.startsWith('Loading') && said",
    )


def test_words_are_added_and_what_is_wrong_with_them_is_said(page: Page) -> None:
    page.browser.find_element("css selector", "[data-key^='scene']").click()
    assert "gets" in type_word(page, "sky") and "never taught" not in page.text("word-said")
    assert "is there already" in type_word(page, "Sky")
    assert "never taught this word" in type_word(page, "qwertzuiop")
    assert "Type a word first" in type_word(page, "  |, ")
    assert "reads at most 32" in type_word(page, "very " * 30 + "long")
    names, _ = page.labels()
    assert names[-2:] == ["sky", "qwertzuiop"]


def test_a_word_taken_away_leaves_its_pixels_to_others(page: Page) -> None:
    boxes = page.browser.find_elements("css selector", "#words input")
    boxes[0].click()
    names, labels = page.labels()
    assert len(names) == len(boxes) - 1 and labels.max() < len(names)
    for box in boxes[1:]:
        box.click()
    assert page.text("word-said") == "One word has to stay."
    assert len(page.labels()[0]) == 1


def test_panels_open_after_a_prediction_and_obey_keys(page: Page) -> None:
    assert not page.find("similar-body").is_displayed()
    form = page.browser.find_element("css selector", "[data-opens='similar-body']")
    form.find_element("css selector", "button").click()
    assert not page.find("similar-body").is_displayed(), "no prediction, no answer"
    form.find_elements("css selector", "input")[0].send_keys(" ")
    form.find_element("css selector", "button").send_keys(ENTER)
    assert page.find("similar-body").is_displayed() and "Not so." in form.text
    said = page.text("similar-said")
    page.find("similar-grid").send_keys(ARROW_RIGHT)
    assert page.text("similar-said") != said
    grid = page.find("similar-grid")
    page.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", grid)
    patch = grid.size["width"] / GRID
    right_and_up = round(2.5 * patch), round(-2.5 * patch)  # from the corner where the middle four meet
    ActionChains(page.browser).move_to_element_with_offset(grid, *right_and_up).click().perform()
    assert "patch in row 4, column 9 " in page.text("similar-said")
    page.browser.find_element("css selector", "[data-opens='look-body'] .skip").click()
    everything = set()
    for name in ("vanilla", "value", "naclip"):
        page.browser.execute_script(
            "const s = document.getElementById('read-out'); s.value = arguments[0];"
            "s.dispatchEvent(new Event('change'))",
            name,
        )
        everything.add(page.text("look-said"))
    assert len(everything) == 3 and any("100% to itself" in each for each in everything)


def test_a_training_is_dragged_by_keys(page: Page) -> None:
    page.browser.find_element("css selector", "[data-opens='training-body'] .skip").click()
    before = page.text("plain-said"), page.text("curves-said")
    page.find("step").send_keys(ARROW_RIGHT)
    after = page.text("plain-said"), page.text("curves-said")
    assert all(a != b for a, b in zip(before, after, strict=True))
    assert page.find("plain").get_attribute("aria-label").startswith("plain, step")


@pytest.mark.parametrize("width", [390, 1280, 1920])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_width_and_no_scheme_hinders(page: Page, axe: str, width: int, scheme: str) -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        assert page.browser.execute_script("return document.documentElement.scrollWidth") <= width
        if width != 1920:
            page.browser.execute_script("document.querySelector('details').open = true")
            page.browser.execute_script(axe)
            found = page.run("return (await axe.run()).violations")
            serious = [
                (each["id"], each["nodes"][0]["html"][:200], each["nodes"][0]["failureSummary"][:300])
                for each in found
                if each["impact"] in ("serious", "critical")
            ]
            assert serious == []
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_file_that_is_no_picture_is_refused_in_words(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("no picture")
    page.choose(file)
    page.wait("a notice", "return document.getElementById('notices').textContent.includes('no picture')")
    assert "“notes.txt”" in page.text("notices")


def test_fifty_megapixels_are_read_reduced(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "large.jpg"
    Image.new("RGB", (8660, 5774), "olive").save(file, quality=40)
    side = page.run(
        "const {squareOf} = await import('./preprocess.js');"
        "const square = await squareOf(new Blob([new Uint8Array(given[0])]));"
        "return [square.width, square.height, ...square.data.slice(0, 3)]",
        list(file.read_bytes()),
    )
    assert side[:2] == [1024, 1024] and np.abs(np.array(side[2:]) - (128, 128, 0)).max() <= 3
    page.choose(file)
    page.wait("labels", "return document.getElementById('status').textContent.startsWith('Computed')")
    assert page.labels()[1].shape == (SIDE, SIDE)


def test_no_request_leaves_the_page(page: Page) -> None:
    messages = [json.loads(entry["message"])["message"] for entry in page.browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    # Neither what is in the page itself nor what the browser shows before it.
    hosts = {urlsplit(url).netloc for url in asked if url.startswith("http")}
    assert f"{page.address}/image.onnx" in asked and hosts == {urlsplit(page.address).netloc}
    sockets = [m for m in messages if m["method"] == "Network.webSocketCreated"]
    assert sockets == []
    # And if it tried, the browser would not let it.
    refused = page.run(
        "const told = new Promise((say) => {"
        "  addEventListener('securitypolicyviolation', (event) => say(event.effectiveDirective));"
        "  setTimeout(() => say('nothing'), 5000);"
        "});"
        "fetch('http://127.0.0.2:9/').catch(() => null);"
        "return told"
    )
    assert refused == "connect-src"


def test_nothing_was_logged_as_an_error(page: Page) -> None:
    severe = [entry["message"] for entry in page.browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert [each for each in severe if "127.0.0.2" not in each] == []


@contextmanager
def script_first(page: Page, source: str) -> Iterator[None]:
    """Pages that are opened in this block run a script before their own."""
    command = "Page.addScriptToEvaluateOnNewDocument"
    added = page.browser.execute_cdp_cmd(command, {"source": source})
    try:
        yield
    finally:
        page.browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def notice(page: Page) -> str:
    return page.wait("a notice", "return document.getElementById('notices').textContent")


def test_a_browser_without_simd_is_told_and_keeps_the_training(page: Page) -> None:
    with script_first(page, "WebAssembly.validate = () => false"):
        page.open()
        assert "but not its SIMD instructions" in notice(page)
        page.browser.find_elements("css selector", "#pictures button")[1].click()
        page.wait("the same again", "return document.getElementById('notices').children.length > 1")
        assert page.find("live").is_displayed() and page.find("training").is_displayed()


def test_a_server_that_calls_wasm_something_else_is_told(page: Page, folder: Path) -> None:
    with served(folder, {".wasm": "text/plain"}) as address:
        other = Page(page.browser, address)
        other.open()
        assert "“text/plain”; it must send it as “application/wasm”" in notice(other)
        other.ready()


def test_a_server_that_sends_a_page_in_place_of_wasm_is_told(
    page: Page, folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "broken", ignore=shutil.ignore_patterns("*.onnx", "vendor"))
    (tmp_path / "broken" / "vendor").mkdir()
    shutil.copyfile(folder / "vendor" / "ort.js", tmp_path / "broken" / "vendor" / "ort.js")
    (tmp_path / "broken" / "vendor" / "ort.wasm").write_text("<!doctype html>")
    with served(tmp_path / "broken") as address:
        other = Page(page.browser, address)
        other.open()
        other.wait(
            "a notice", "return document.getElementById('notices').textContent.includes('no WebAssembly')"
        )
        assert other.find("live").is_displayed(), "the first picture was computed before"


def test_modules_sent_as_something_else_are_missed_aloud(page: Page, folder: Path) -> None:
    with served(folder, {".js": "text/plain"}) as address:
        other = Page(page.browser, address)
        other.open()
        assert "text/javascript" in notice(other)


def test_from_disk_the_page_says_how_to_serve_it(page: Page, folder: Path) -> None:
    page.browser.get((folder / "index.html").as_uri())
    assert "python -m http.server" in notice(page)
    assert page.find("still").is_displayed()


def test_without_javascript_a_picture_and_text_teach(page: Page) -> None:
    page.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.open()
        pictures = page.browser.find_elements("css selector", "#still img")
        assert len(pictures) == 2 and all(len(each.get_attribute("alt")) > 40 for each in pictures)
        assert page.find("still").is_displayed() and not page.find("live").is_displayed()
        assert "JavaScript is off" in page.browser.find_element("css selector", "noscript").text
    finally:
        page.browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
