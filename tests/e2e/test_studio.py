"""The mixing studio in a browser, on a server with a tiny model."""

import base64
import io
import json
import math
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright

from mixnmatch.animation import read_frames
from mixnmatch.bundle import load_bundle, save_bundle
from mixnmatch.data.store import Dataset
from mixnmatch.mixer import Mixer, Mode
from mixnmatch.sheets import to_picture
from mixnmatch_platform.serving.app import make_app
from mixnmatch_platform.serving.batching import Bench
from mixnmatch_platform.serving.gallery import choose_pictures
from mixnmatch_platform.serving.metrics import Metrics
from mixnmatch_platform.serving.models import Served
from mixnmatch_platform.serving.painter import Painter
from mixnmatch_platform.serving.service import Service, loaded_from
from mixnmatch_platform.serving.watch import digest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium or google-chrome on the PATH"),
]
Pixels = np.ndarray[Any, Any]
FACTORS = ("background", "pose", "shape", "texture")
PATIENCE = 60_000
"""Milliseconds that the page may take for anything: test machines are busy."""


@pytest.fixture(scope="module")
def files(tiny_dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A picture file of the user's own for each factor."""
    folder = tmp_path_factory.mktemp("own")
    out = {}
    for factor, record in zip(FACTORS, tiny_dataset, strict=False):
        out[factor] = folder / f"{factor}.png"
        out[factor].write_bytes(record.image)
    return out


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with larger weights: untrained as it is, it paints all in nearly one grey."""
    vivid = load_bundle(tiny_bundle)
    with torch.no_grad():
        for network in (vivid.generator, vivid.encoders):
            for parameter in network.parameters():
                parameter.mul_(1.4)
    return save_bundle(vivid, tmp_path_factory.mktemp("vivid") / "bundle")


@pytest.fixture(scope="module")
def mixer(bundle: Path) -> Mixer:
    return Mixer.from_pretrained(bundle)


@pytest.fixture(scope="module")
def service(bundle: Path, tiny_dataset: Dataset) -> Iterator[Service]:
    """What a replica answers from, here without Ray around it."""
    metrics = Metrics()
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as thread:
        bench = Bench(thread)
        served = Served(name="tiny", version=3, source=str(bundle), store=None)
        painter = Painter(served.load("cpu", 32), bench, metrics.batch)
        loaded = loaded_from(served, painter, choose_pictures(tiny_dataset, 12))
        yield Service(loaded=loaded, replica="one", bench=bench, metrics=metrics)


@pytest.fixture(scope="module")
def server(service: Service) -> Iterator[str]:
    """Address of the service."""

    async def alone() -> dict[str, Any]:
        return {}

    app = make_app(service, alone)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def changing(service: Service) -> Iterator[Service]:
    """The service, to be changed by one test."""
    loaded, limits = service.loaded, service.limits
    yield service
    service.loaded, service.limits, service.token = loaded, limits, None


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        args = [
            "--no-sandbox",
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
        ]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=args)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser, server: str) -> Iterator[BrowserContext]:
    """A fresh profile, in which nothing leaves the server's origin or breaks the policy."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=server)
    context.set_default_timeout(PATIENCE)
    context.grant_permissions(["camera", "clipboard-read", "clipboard-write"])
    asked: list[str] = []
    faults: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    context.on("weberror", lambda error: faults.append(str(error.error)))
    # Chromium says of each answer above 399 that it is one; the tests look at what the page says.
    context.on(
        "console",
        lambda said: (
            faults.append(said.text)
            if said.type in ("error", "warning")
            and not said.text.startswith("Failed to load resource")
            else None
        ),
    )
    yield context
    context.close()
    assert faults == []
    away = [url for url in asked if not url.startswith((server, "data:", "blob:"))]
    assert away == []
    assert asked


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """The studio, with the mixture that it begins with."""
    return opened(context, "/")


def opened(context: BrowserContext, address: str) -> Page:
    page = context.new_page()
    page.goto(address)
    expect(page.locator("#said")).to_contain_text("Mixed in")
    return page


def put(page: Page, factor: str, file: Path) -> None:
    page.get_by_role("button", name=f"Choose {factor}").click()
    page.locator("#file").set_input_files(file)


def pixels(address: str) -> Pixels:
    """Of a data URI."""
    picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    return np.asarray(picture.convert("RGB"))


def shown(page: Page) -> Pixels:
    return pixels(page.locator("#picture").get_attribute("src") or "")


def becomes(page: Page, wanted: Pixels) -> None:
    """Wait until the mixed picture is this one, but for rounding."""
    wait_until(page, lambda: near(shown(page), wanted))


def near(one: Pixels, other: Pixels) -> bool:
    return int(np.abs(one.astype(int) - other.astype(int)).max()) <= 1


def address_of(page: Page, factor: str) -> str:
    """What the picture of a slot is shown from."""
    image = page.locator(f"[data-factor={factor}] img")
    expect(image).to_be_visible()
    return image.get_attribute("src") or ""


def wait_until(page: Page, true: Callable[[], bool]) -> None:
    for _ in range(PATIENCE // 50):
        if true():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it never came about")


def painted(mixer: Mixer, files: dict[str, Path], mode: Mode, **other: Path) -> Pixels:
    return np.asarray(mixer.mix(**{**files, **other}, mode=mode))


def test_four_pictures_in_both_modes(page: Page, mixer: Mixer, files: dict[str, Path]) -> None:
    for factor, file in files.items():
        put(page, factor, file)
    code, feature = (painted(mixer, files, mode) for mode in ("code", "feature"))
    assert np.abs(code.astype(int) - feature).max() > 50, "so that this can fail"
    becomes(page, code)
    expect(page.locator("#link-note")).to_contain_text("background, pose, shape, texture")

    page.get_by_label("Feature").check()
    becomes(page, feature)
    expect(page.get_by_role("button", name="Choose pose")).to_be_disabled()
    expect(page.locator("#pose-why")).to_contain_text("takes the pose from the shape")
    expect(page.get_by_label("shape category")).to_be_disabled()
    page.get_by_label("Code").check()
    becomes(page, code)

    page.get_by_role("button", name="Clear pose").click()
    becomes(page, painted(mixer, files, "code", pose=files["shape"]))
    page.get_by_role("button", name="Clear texture").click()
    expect(page.locator("#said")).to_have_text("Still to choose: texture.")
    expect(page.get_by_role("button", name="Download picture")).to_be_disabled()


def test_pictures_come_by_drop_paste_camera_and_from_slot_to_slot(
    page: Page, mixer: Mixer, files: dict[str, Path]
) -> None:
    def transfer(file: Path) -> Any:
        return page.evaluate_handle(
            """text => {
              const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
              const transfer = new DataTransfer();
              transfer.items.add(new File([bytes], "some.png", {type: "image/png"}));
              return transfer;
            }""",
            base64.b64encode(file.read_bytes()).decode(),
        )

    slot = "[data-factor=background]"
    page.dispatch_event(slot, "dragover", {"dataTransfer": transfer(files["background"])})
    page.dispatch_event(slot, "drop", {"dataTransfer": transfer(files["background"])})
    page.get_by_role("button", name="Choose shape").focus()
    page.evaluate(
        "data => document.activeElement.dispatchEvent(new ClipboardEvent("
        "'paste', {clipboardData: data, bubbles: true, cancelable: true}))",
        transfer(files["shape"]),
    )
    expect(page.get_by_alt_text("Shape picture: some.png")).to_be_visible()
    page.drag_and_drop("[data-factor=shape] img", "[data-factor=pose] .preview")
    # The button that does the same.
    page.get_by_role("button", name="Choose texture").click()
    page.get_by_role("button", name="As in background").click()
    expect(page.get_by_role("button", name="Choose texture")).to_be_focused()
    same = {"pose": files["shape"], "texture": files["background"]}
    becomes(page, painted(mixer, files, "code", **same))

    page.get_by_role("button", name="Choose texture").click()
    page.get_by_role("button", name="Camera").click()
    page.get_by_role("button", name="Take the picture").click()
    expect(page.get_by_alt_text("Texture picture: camera picture")).to_be_visible()
    page.get_by_role("button", name="Choose texture").click()
    page.locator("#gallery button").nth(2).click()
    expect(page.locator("#link-note")).not_to_contain_text("texture")


def test_a_file_that_is_none_is_named_in_its_slot(page: Page, tmp_path: Path) -> None:
    wrong = tmp_path / "notes.txt"
    wrong.write_text("no picture at all")
    put(page, "texture", wrong)
    fault = page.locator("#texture-problem")
    expect(fault).to_contain_text("notes.txt")
    expect(page.locator("#said")).to_have_text("Not mixed: look at the texture picture.")
    expect(page.get_by_role("alert").filter(visible=True)).to_have_count(1)
    slider = page.get_by_label("texture category")
    expect(slider).to_have_attribute("aria-valuetext", "the picture's")
    page.get_by_role("button", name="Choose texture").click()
    page.locator("#gallery button").first.click()
    expect(page.locator("#said")).to_contain_text("Mixed in code mode")
    expect(fault).to_be_hidden()


def test_sliders_and_alternatives(page: Page) -> None:
    said = page.locator("#said")
    page.get_by_label("background category").fill("3")
    expect(said).to_contain_text("background 3")
    own = page.get_by_label("texture category")
    before = own.get_attribute("aria-valuetext") or ""
    assert before.endswith(", the picture's")
    second = page.get_by_role("button", name="Texture 2")
    expect(second.locator("img")).to_be_visible()
    second.click()
    expect(said).to_contain_text("texture 2")
    expect(second).to_have_attribute("aria-pressed", "true")
    alike = second.locator("img")
    wait_until(page, lambda: near(shown(page), pixels(alike.get_attribute("src") or "")))
    expect(own).to_have_attribute("aria-valuetext", "2, chosen")
    page.get_by_role("button", name="Reset texture").click()
    expect(own).to_have_attribute("aria-valuetext", before)

    page.get_by_label("Factor").select_option("pose")
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Pose seed 13").click()
    expect(said).to_contain_text("pose seed 13")
    assert page.get_by_label("Pose seed").input_value() == "13"
    page.get_by_label("Feature").check()
    expect(page.get_by_label("Factor")).to_have_value("texture")


def test_the_focus_stays_on_the_alternative_taken(page: Page) -> None:
    said = page.locator("#said")
    page.get_by_role("button", name="Clear texture").click()
    expect(said).to_have_text("Still to choose: texture.")
    page.get_by_label("texture category").fill("1")
    second = page.get_by_role("button", name="Texture 2")
    expect(second).to_be_visible()
    varied: list[str] = []
    page.on("request", lambda request: varied.append(request.url))
    second.press("Enter")
    expect(said).to_contain_text("texture 2")
    page.wait_for_timeout(300)
    assert [url for url in varied if url.endswith("/vary")] == []
    expect(second).to_be_focused()
    expect(second).to_have_attribute("aria-pressed", "true")


def test_alternatives_of_a_model_with_fewer_of_them(
    context: BrowserContext, changing: Service
) -> None:
    changing.limits = replace(changing.limits, count=2)
    page = opened(context, "/")
    page.get_by_role("button", name="Next").press("Enter")
    expect(page.locator("#range")).to_have_text("2 to 3 of 4")
    expect(page.get_by_role("button", name="Previous")).to_be_focused()

    def fewer(route: Route) -> None:
        about = route.fetch().json()
        about["categories"]["texture"] = 2
        route.fulfill(json=about)

    page.route("**/about", fewer)
    loaded = changing.loaded
    changing.loaded = replace(loaded, served=replace(loaded.served, version=4))
    page.get_by_label("background category").fill("1")
    expect(page.locator("#notice")).to_contain_text("from version 3 to 4")
    expect(page.locator("#range")).to_have_text("0 to 1 of 2")
    expect(page.get_by_role("button", name="Texture 1")).to_be_visible()
    expect(page.locator("#strip .problem")).to_be_hidden()


def test_a_shape_drawn_by_mouse(
    page: Page, mixer: Mixer, files: dict[str, Path], tmp_path: Path
) -> None:
    for factor in ("background", "texture"):
        put(page, factor, files[factor])
    page.get_by_role("button", name="Draw shape").click()
    expect(page.get_by_label("Feature")).to_be_checked()

    def line(*points: tuple[float, float]) -> None:
        paper = page.locator("canvas")
        paper.scroll_into_view_if_needed()
        box = paper.bounding_box()
        assert box is not None
        for number, (x, y) in enumerate(points):
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
            if number == 0:
                page.mouse.down()
        page.mouse.up()

    line((0.1, 0.1), (0.2, 0.1))
    fault = page.locator("#shape-problem")
    expect(fault).to_contain_text("enclose nothing")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#said")).to_have_text("Still to choose: shape.")
    turns = [number * math.pi / 12 for number in range(25)]
    line(*((0.5 + 0.3 * math.cos(turn), 0.5 + 0.2 * math.sin(turn)) for turn in turns))
    expect(page.locator("#said")).to_contain_text("Mixed in feature mode")
    drawing = tmp_path / "drawing.png"
    text = page.evaluate("document.querySelector('canvas').toDataURL()")
    drawing.write_bytes(base64.b64decode(text.partition(",")[2]))
    shape = mixer.read_drawing(drawing, fill=True, trim=True)
    background, texture = mixer.read(files["background"], files["texture"]).split(1)
    mixed = mixer.mix_tensors(
        background=background, pose=shape, shape=shape, texture=texture, mode="feature"
    )
    becomes(page, np.asarray(to_picture(mixed[0])))
    expect(page.get_by_label("a drawing on paper")).to_be_checked()

    page.evaluate("location.hash = '#seed=5&mode=feature'")
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()
    assert page.evaluate("document.querySelector('canvas').toDataURL()") != text


def test_a_link_gives_the_same_mixture(context: BrowserContext, files: dict[str, Path]) -> None:
    page = opened(context, "/#seed=7&mode=feature&background_code=2")
    page.get_by_role("button", name="Choose texture").click()
    page.locator("#gallery button").nth(3).click()
    page.get_by_label("texture category").fill("3")
    expect(page.locator("#said")).to_contain_text("texture 3")
    again = opened(context, page.url)
    assert np.array_equal(shown(again), shown(page))
    assert again.locator("#said").text_content() == page.locator("#said").text_content()
    other = opened(context, "/#seed=8&mode=feature&background_code=2&texture_code=3")
    assert not np.array_equal(shown(other), shown(page))
    for factor in FACTORS:
        assert other.locator(f"[data-factor={factor}] img").get_attribute("alt")

    put(page, "shape", files["shape"])
    expect(page.locator("#link-note")).to_contain_text("your own pictures: shape")
    page.wait_for_url("**own=shape**")
    poorer = context.new_page()
    poorer.goto(page.url)
    expect(poorer.locator("#said")).to_have_text("Still to choose: shape.")
    expect(poorer.locator("#shape-problem")).to_contain_text("link could not carry")
    poorer.goto("/#seed=7&texture_code=99&shape=nothing")
    expect(poorer.locator("#texture-problem")).to_contain_text("texture_code 99")
    expect(poorer.locator("#shape-problem")).to_contain_text("names nothing")


def test_surprises_differ_and_are_links(page: Page) -> None:
    before = page.url
    page.get_by_role("button", name="Surprise me").click()
    page.wait_for_url(lambda url: url != before)
    seed = page.get_by_label("Seed", exact=True).input_value()
    assert f"seed={seed}&" in page.url
    page.get_by_role("button", name="Copy link").click()
    expect(page.get_by_role("button", name="Link copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == page.url


def test_downloads(page: Page, tmp_path: Path) -> None:
    with page.expect_download() as got:
        page.get_by_role("button", name="Download picture").click()
    assert got.value.suggested_filename == "mix.png"
    with Image.open(got.value.path()) as picture:
        assert np.array_equal(np.asarray(picture.convert("RGB")), shown(page))
    with page.expect_download() as got:
        page.get_by_role("button", name="Download codes").click()
    codes = json.loads(Path(got.value.path()).read_text())
    assert codes["mode"] == "code"
    assert len(codes["codes"]["pose"]) == 5
    assert codes["sources"]["shape"]["picture"].startswith("gallery:")
    assert codes["link"] == page.url


def test_a_film_becomes_a_gif(page: Page, files: dict[str, Path], tmp_path: Path) -> None:
    film = tmp_path / "film.gif"
    first, *others = (Image.open(file).convert("RGB") for file in files.values())
    first.save(film, save_all=True, append_images=others, duration=80)
    animate = page.get_by_role("button", name="Animate")
    expect(animate).to_be_disabled()
    page.locator("#film").set_input_files(film)
    animate.click()
    expect(page.get_by_alt_text("Painted animation after film.gif")).to_be_visible()
    with page.expect_download() as got:
        page.get_by_role("button", name="Download GIF").click()
    assert len(list(read_frames(got.value.path()))) == 4

    page.emulate_media(reduced_motion="reduce")
    animate.click()
    expect(page.locator("#film-said")).to_contain_text("Painted after film.gif")
    expect(page.locator("#painted")).to_be_hidden()
    page.get_by_role("button", name="Show the animation").click()
    expect(page.locator("#painted")).to_be_visible()

    film.write_text("no film")
    page.locator("#film").set_input_files(film)
    animate.click()
    expect(page.locator("#animate .problem")).to_contain_text("film.gif")


def test_another_film_chosen_while_one_is_painted(
    context: BrowserContext, changing: Service, files: dict[str, Path], tmp_path: Path
) -> None:
    changing.limits = replace(changing.limits, film_bytes=100_000)
    page = opened(context, "/")
    film, other, large = (tmp_path / name for name in ("film.gif", "other.gif", "large.gif"))
    for path in (film, other):
        Image.open(files["shape"]).save(path)
    large.write_bytes(bytes(200_000))
    held: list[Route] = []
    page.route("**/animate", lambda route: held.append(route))
    animate = page.get_by_role("button", name="Animate")
    said = page.locator("#film-said")
    stop = page.get_by_role("button", name="Stop")

    def begin() -> Route:
        page.locator("#film").set_input_files(film)
        animate.click()
        wait_until(page, lambda: bool(held))
        return held.pop()

    route = begin()
    page.locator("#film").set_input_files(other)
    route.continue_()
    expect(said).to_have_text("Painted after film.gif, in code mode.")
    expect(page.get_by_alt_text("Painted animation after film.gif")).to_be_visible()
    expect(animate).to_be_enabled()

    route = begin()
    page.locator("#film").set_input_files(large)
    expect(page.locator("#animate .problem")).to_contain_text("large.gif")
    route.continue_()
    expect(said).to_have_text("Painted after film.gif, in code mode.")
    expect(stop).to_be_hidden()

    route = begin()
    page.locator("#film").set_input_files(large)
    route.fulfill(status=422, json={"error": "driving: it is no film"})
    expect(page.locator("#animate .problem")).to_have_text("film.gif: it is no film")
    expect(stop).to_be_hidden()
    expect(page.locator("#film")).to_be_focused()


def test_large_files(context: BrowserContext, changing: Service, tmp_path: Path) -> None:
    changing.limits = replace(changing.limits, picture_bytes=100_000, film_bytes=300_000)
    page = opened(context, "/")
    large = tmp_path / "large.png"
    noise = np.random.default_rng(0).integers(0, 256, (1600, 1600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(large, compress_level=0)
    put(page, "texture", large)
    expect(page.locator("#texture-problem")).to_contain_text("the server takes up to 0.1 MB")
    expect(page.locator("#link-note")).to_be_empty()

    plain = Image.effect_mandelbrot((1500, 1000), (-2, -1.5, 1, 1.5), 50).convert("RGB")
    plain.save(large, compress_level=0)
    with page.expect_request("**/mix") as sent:
        put(page, "texture", large)
    size = int(sent.value.all_headers()["content-length"])
    assert 1_000 < size < 100_000 < 1_000_000 < large.stat().st_size
    expect(page.locator("#texture-problem")).to_be_hidden()
    expect(page.get_by_alt_text("Texture picture: large.png")).to_be_visible()
    expect(page.locator("#said")).to_contain_text("Mixed in")

    page.locator("#film").set_input_files(large)
    expect(page.locator("#animate .problem")).to_contain_text("the server takes up to 0.3 MB")


HELD = """() => {
  window.held = [];
  window.made = 0;
  const read = createImageBitmap;
  window.createImageBitmap = async file => {
    await new Promise(go => held.push(go));
    return read(file);
  };
  const make = URL.createObjectURL;
  URL.createObjectURL = blob => {
    made += 1;
    return make.call(URL, blob);
  };
}"""


def test_a_large_photo_does_not_replace_what_was_chosen_while_it_was_read(
    page: Page, files: dict[str, Path], tmp_path: Path
) -> None:
    large = tmp_path / "large.png"
    Image.effect_mandelbrot((700, 700), (-2, -1.5, 1, 1.5), 9).convert("RGB").save(
        large, compress_level=0
    )
    slot = page.locator("[data-factor=texture]")
    picture, reading = slot.locator("img"), slot.get_by_role("status")

    def gallery() -> None:
        page.get_by_role("button", name="Choose texture").click()
        page.locator("#gallery button").nth(2).click()

    def small() -> None:
        put(page, "texture", files["texture"])

    def surprise() -> None:
        page.get_by_label("Seed", exact=True).fill("9")
        page.get_by_label("Seed", exact=True).press("Enter")

    def link() -> None:
        page.evaluate("location.hash = '#seed=10'")

    def clear() -> None:
        page.get_by_role("button", name="Clear texture").click()

    expect(page.locator("#alternatives button").first).to_be_visible()
    page.get_by_role("button", name="Choose texture").click()
    expect(page.locator("#gallery img").last).to_have_attribute("src", re.compile("blob:"))
    page.keyboard.press("Escape")
    page.evaluate(HELD)
    for newer in (gallery, small, surprise, link, clear):
        put(page, "texture", large)
        expect(reading).to_have_text("Reading large.png …")
        newer()
        expect(reading).to_be_empty()
        made = page.evaluate("made")
        page.evaluate("held.pop()()")
        page.wait_for_function("before => made > before", arg=made)
        page.wait_for_timeout(100)
        assert "large.png" not in (picture.get_attribute("alt") or "")
    expect(page.locator("#said")).to_have_text("Still to choose: texture.")

    put(page, "texture", large)
    expect(reading).to_have_text("Reading large.png …")
    page.evaluate("held.pop()()")
    expect(picture).to_have_attribute("alt", "Texture picture: large.png")
    expect(reading).to_be_empty()


def test_pictures_that_no_slot_has_are_let_go(
    context: BrowserContext, files: dict[str, Path]
) -> None:
    context.add_init_script(
        """window.there = new Set();
        const [make, end] = [URL.createObjectURL, URL.revokeObjectURL];
        URL.createObjectURL = blob => {
          const url = make.call(URL, blob);
          there.add(url);
          return url;
        };
        URL.revokeObjectURL = url => { there.delete(url); end.call(URL, url); };"""
    )
    page = opened(context, "/")

    def there(address: str) -> bool:
        return bool(page.evaluate("url => there.has(url)", address))

    put(page, "texture", files["texture"])
    expect(page.get_by_alt_text("Texture picture: texture.png")).to_be_visible()
    first = address_of(page, "texture")
    page.drag_and_drop("[data-factor=texture] img", "[data-factor=pose] .preview")
    expect(page.get_by_alt_text("Pose picture: texture.png")).to_be_visible()
    put(page, "texture", files["shape"])
    expect(page.get_by_alt_text("Texture picture: shape.png")).to_be_visible()
    second = address_of(page, "texture")
    assert there(first), "the pose has it"
    page.get_by_role("button", name="Clear pose").click()
    assert not there(first)
    assert there(second)
    page.get_by_role("button", name="Surprise me").click()
    assert not there(second)
    gallery = address_of(page, "texture")
    put(page, "texture", files["texture"])
    expect(page.get_by_alt_text("Texture picture: texture.png")).to_be_visible()
    assert there(gallery)


def test_without_a_gallery_no_seed_takes_the_pictures_away(
    context: BrowserContext, changing: Service, files: dict[str, Path]
) -> None:
    changing.loaded = replace(changing.loaded, gallery={})
    page = context.new_page()
    page.goto("/")
    for factor, file in files.items():
        put(page, factor, file)
    expect(page.locator("#said")).to_contain_text("Mixed in")
    expect(page.get_by_label("Seed", exact=True)).to_be_disabled()
    expect(page.get_by_role("button", name="Surprise me")).to_be_disabled()


def test_only_the_newest_answer_is_shown(page: Page) -> None:
    held: list[Route] = []
    ended: list[str] = []
    page.on("requestfailed", lambda request: ended.append(request.url))

    def hold_the_first(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    page.route("**/mix", hold_the_first)
    slider = page.get_by_label("texture category")
    slider.fill("1")
    wait_until(page, lambda: bool(held))
    slider.fill("2")
    expect(page.locator("#said")).to_contain_text("texture 2")
    assert [url.rpartition("/")[2] for url in ended] == ["mix"]

    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    for value in "0123012301":
        slider.fill(value)
    expect(page.locator("#said")).to_contain_text("texture 1")
    assert len([url for url in sent if url.endswith("/mix")]) < 5


def test_what_the_server_says(page: Page) -> None:
    page.route("**/mix", lambda route: route.fulfill(status=503, json={"error": "busy: try again"}))
    page.get_by_label("texture category").fill("1")
    trouble = page.locator("#trouble")
    expect(trouble).to_contain_text("busy: try again")
    page.unroute("**/mix")
    page.route("**/mix", lambda route: route.abort())
    trouble.get_by_role("button").click()
    expect(trouble).to_contain_text("does not answer")
    page.unroute("**/mix")
    trouble.get_by_role("button").click()
    expect(page.locator("#said")).to_contain_text("texture 1")
    expect(trouble).to_be_hidden()


def test_a_new_version_is_said(page: Page, changing: Service) -> None:
    loaded = changing.loaded
    changing.loaded = replace(loaded, served=replace(loaded.served, version=4))
    page.get_by_label("texture category").fill("1")
    expect(page.locator("#notice")).to_contain_text("from version 3 to 4")
    expect(page.locator("#model summary")).to_have_text("tiny, version 4")
    page.wait_for_url("**version=4**")
    expect(page.locator("#said")).to_contain_text("texture 1")


def test_a_model_without_stage_2(
    context: BrowserContext, changing: Service, stage1_bundle: Path
) -> None:
    served = Served(name="half", version=None, source=str(stage1_bundle), store=None)
    painter = Painter(served.load("cpu", 32), changing.bench, changing.metrics.batch)
    changing.loaded = replace(changing.loaded, served=served, painter=painter)
    page = opened(context, "/#seed=1&mode=feature")
    expect(page.locator("#model summary")).to_have_text("half")
    page.locator("#model summary").click()
    expect(page.locator("#sizes")).to_have_text("32×32 px; 4 backgrounds, 2 shapes, 4 textures.")
    expect(page.get_by_label("Feature")).to_be_disabled()
    expect(page.locator("#mode-note")).to_contain_text("stage 2")
    expect(page.get_by_label("Code")).to_be_checked()


NAMES = """() => {
  const nameOf = element =>
    element.getAttribute("aria-label") ||
    (element.getAttribute("aria-labelledby") ?? "").split(" ")
      .map(id => document.getElementById(id)?.textContent ?? "").join(" ").trim() ||
    [...(element.labels ?? [])].map(label => label.textContent).join(" ").trim() ||
    element.textContent.trim() || element.querySelector?.("img")?.alt || element.title;
  const seen = element => element.checkVisibility({visibilityProperty: true});
  const all = selector => [...document.querySelectorAll(selector)].filter(seen);
  return {
    controls: all("button, input, select, summary, canvas, dialog, section, figure, article")
      .map(element => [element.outerHTML.slice(0, 80), nameOf(element)]),
    pictures: all("img").map(element => [element.outerHTML.slice(0, 80), element.alt]),
    doubled: [...document.querySelectorAll("[id]")].map(element => element.id)
      .filter((id, place, ids) => ids.indexOf(id) !== place),
    dangling: [...document.querySelectorAll("[aria-describedby], [aria-controls], [for]")]
      .flatMap(element => ["aria-describedby", "aria-controls", "for"]
        .flatMap(name => (element.getAttribute(name) ?? "").split(" ").filter(Boolean)))
      .filter(id => !document.getElementById(id)),
    levels: all("h1, h2, h3, h4").map(element => Number(element.tagName[1])),
  };
}"""


def test_everything_has_a_name(page: Page) -> None:
    page.get_by_role("button", name="Draw shape").click()
    everything_named(page)
    page.get_by_role("button", name="Choose shape").click()
    expect(page.locator("#gallery img").last).to_be_visible()
    everything_named(page)


def everything_named(page: Page) -> None:
    found = page.evaluate(NAMES)
    assert len(found["controls"]) > 30
    assert [html for html, name in found["controls"] if not name] == []
    assert [html for html, alt in found["pictures"] if not alt] == []
    assert found["doubled"] == found["dangling"] == []
    assert all(b - a <= 1 for a, b in zip(found["levels"], found["levels"][1:], strict=False))


def test_the_keyboard_reaches_everything_in_order(page: Page) -> None:
    expect(page.locator("#alternatives button").first).to_be_visible()
    with page.expect_response("**/vary"):
        page.get_by_role("button", name="Draw shape").press("Enter")
    expect(page.locator("#sketch-title")).to_be_focused()
    expect(page.locator("#alternatives")).to_have_attribute("aria-busy", "false")
    wanted = page.evaluate(
        """() => {
          const wordOf = element => element.id || element.ariaLabel || element.textContent.trim();
          window.reached = [];
          addEventListener("focusin", event => window.reached.push(wordOf(event.target)));
          document.activeElement.blur();
          // Of radio buttons with one name the chosen one is a stop, and arrows reach the others.
          return [...document.querySelectorAll("button, input, select, summary")].filter(
            element => element.checkVisibility({visibilityProperty: true}) && !element.disabled
              && !(element.type === "radio" && !element.checked)).map(wordOf);
        }"""
    )
    page.locator("h1").click()
    for _ in wanted:
        page.keyboard.press("Tab")
    assert page.evaluate("window.reached") == wanted
    assert len(wanted) > 25
    ring = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(ring) == "solid"

    page.get_by_role("button", name="Choose texture").press("Enter")
    expect(page.get_by_role("dialog", name="Picture for the texture")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Choose texture")).to_be_focused()
    page.get_by_label("texture category").press("ArrowRight")
    expect(page.get_by_label("texture category")).to_have_attribute(
        "aria-valuetext", re.compile(r"\d, chosen")
    )


CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const light = (...colours) => {
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    const parts = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map(v => v / 255)
      .map(v => v > .04045 ? ((v + .055) / 1.055) ** 2.4 : v / 12.92);
    return .2126 * parts[0] + .7152 * parts[1] + .0722 * parts[2];
  };
  const behind = element => {
    const colours = [];
    for (let at = element; at; at = at.parentElement) {
      colours.unshift(getComputedStyle(at).backgroundColor);
    }
    return colours;
  };
  return [...document.querySelectorAll("body *")]
    .filter(one => one.checkVisibility() && !one.closest(":disabled, :has(> :disabled), .off")
      && [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim()))
    .map(one => {
      const back = behind(one);
      const both = [light(...back), light(...back, getComputedStyle(one).color)];
      return [(Math.max(...both) + .05) / (Math.min(...both) + .05), one.outerHTML.slice(0, 80)];
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(page: Page, scheme: Any, tmp_path: Path) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    wrong = tmp_path / "notes.txt"
    wrong.write_text("no picture at all")
    put(page, "texture", wrong)
    expect(page.locator("#texture-problem")).to_be_visible()
    found = page.evaluate(CONTRASTS)
    assert len(found) > 25
    assert [html for contrast, html in found if contrast < 4.5] == []
    assert page.evaluate("document.getAnimations().length") == 0


def test_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 720})
    page.get_by_role("button", name="Draw shape").click()
    page.get_by_role("button", name="Choose texture").scroll_into_view_if_needed()
    sides = "[document.documentElement.scrollWidth, innerWidth]"
    assert page.evaluate(sides) == [360, 360]
    # The mixture stays in sight above what changes it, and covers nothing that has the focus.
    slider = page.get_by_label("texture category")
    slider.focus()
    mixture = page.locator("#mixed").bounding_box()
    place = slider.bounding_box()
    assert mixture is not None
    assert place is not None
    assert mixture["y"] == 0
    assert mixture["y"] + mixture["height"] <= place["y"]
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, select, .button, input[type=range]")]
          .filter(one => one.checkVisibility() && one.getBoundingClientRect().height < 24)
          .map(one => one.outerHTML)"""
    )
    assert small == []
    page.get_by_role("button", name="Choose texture").click()
    assert page.evaluate("document.querySelector('#picker').scrollWidth") <= 360
    assert page.evaluate(sides) == [360, 360]


def test_a_token_is_asked_for(context: BrowserContext, changing: Service) -> None:
    changing.token = digest("right")
    page = context.new_page()
    page.goto("/")
    dialog = page.get_by_role("dialog", name="This server wants a token")
    dialog.get_by_label("Token").fill("wrong")
    dialog.get_by_role("button", name="Use it").click()
    expect(dialog).to_contain_text("the token is missing or wrong")
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.locator("#failed")).to_contain_text("the token is missing or wrong")
    page.get_by_role("button", name="Try again").click()
    for typed, wrong in [("right\u200b", "character 6 (U+200B)"), (" rig…", "4 (U+2026)")]:
        dialog.get_by_label("Token").fill(typed)
        dialog.get_by_role("button", name="Use it").click()
        expect(dialog).to_contain_text(wrong)
        expect(dialog.get_by_label("Token")).to_be_focused()
        assert page.evaluate("sessionStorage.getItem('mixnmatch-token')") == "wrong"
    dialog.get_by_label("Token").fill(" right ")
    dialog.get_by_label("Token").press("Enter")
    expect(page.locator("#said")).to_contain_text("Mixed in")
    expect(page.locator("[data-factor=pose] img")).to_be_visible()
    assert page.evaluate("sessionStorage.length + localStorage.length") == 1
