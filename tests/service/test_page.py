"""The page in a headless browser: looked at, run, cancelled, continued, fetched. CPU, float32, uint8 frames."""

from __future__ import annotations

import json
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import httpx
import numpy as np
import pytest

import srfast
from srfast.errors import OutputError
from tests.helpers import browser as chromium
from tests.helpers.browser import needs_browser
from tests.helpers.contrast import FAINT
from tests.helpers.hostile.uploads import clip
from tests.helpers.server import Server, running

chromium.package("gradio")
pytestmark = pytest.mark.timeout(900)
CLIP = Path(srfast.__file__).parent / "assets" / "clip.mp4"
LONG = 600
CONTROLS = ("upload", "named", "model", "scale", "time", "slider", "show", "start", "job", "cancel", "resume", "delete")
PHOTO = cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8))[1].tobytes()
# What a screen reader would have no name for.
UNNAMED = """() => [...document.querySelectorAll('input, select, textarea, button, [role=slider]')]
  .filter(e => e.offsetParent !== null && !(e.labels && e.labels.length && e.labels[0].innerText.trim())
    && !e.getAttribute('aria-label') && !e.getAttribute('aria-labelledby') && !e.title && !e.innerText.trim())
  .map(e => e.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    (folder / "open").mkdir()
    shutil.copy(CLIP, folder / "open" / "clip.mp4")
    options = ("--folder", str(folder / "open"), "--max-image-bytes", "100K")
    with running(folder, *options, command="ui") as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = chromium.package("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=chromium.path(), args=[*chromium.FLAGS])
        yield made
        made.close()


def opened(browser: Any, server: Server, **options: Any) -> tuple[Any, list[str]]:
    """A page of a user of their own, and the addresses that it asks for."""
    page = browser.new_context(**options).new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_default_timeout(240_000)
    page.goto(server.address)
    page.wait_for_selector("#start")
    return page, asked


def wait_for_text(page: Any, place: str, text: str) -> None:
    page.wait_for_function(f"document.querySelector('{place}').innerText.includes({json.dumps(text)})")


@needs_browser
def test_a_video_is_looked_at_run_cancelled_continued_and_fetched(server: Server, browser: Any, tmp_path: Path) -> None:
    page, asked = opened(browser, server, viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page.set_input_files("#upload input[type=file]", str(clip(tmp_path / "long.avi", "mpeg4", LONG, (96, 64))))
    wait_for_text(page, "#said", "A video of 96x64 pixels, 24.00 s.")
    page.fill("#time input[type=number]", "12")
    page.click("#show")
    wait_for_text(page, "#said", "192x128 pixels are shown")
    page.wait_for_selector("#slider img.before")
    assert divider(page) == pytest.approx(50)
    area = page.locator("#slider figure").bounding_box()
    y = area["y"] + area["height"] / 2
    page.mouse.move(area["x"] + area["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(area["x"] + area["width"] * 0.8, y, steps=4)
    page.mouse.up()
    assert divider(page) == pytest.approx(80, abs=2)
    assert page.evaluate(UNNAMED) == []
    page.focus("#start")  # by the keyboard
    page.keyboard.press("Enter")
    wait_for_text(page, "#jobs", "frames/s")
    wait_for_buttons(page, "cancel", "delete")
    page.click("#cancel")
    wait_for_text(page, "#jobs", "cancelled")
    wait_for_buttons(page, "resume", "delete")
    page.click("#resume")
    wait_for_buttons(page, "cancel", "delete")
    page.wait_for_selector("#jobs li[data-state=done] a")
    wait_for_buttons(page, "delete")
    with page.expect_download() as fetched:
        page.click("#jobs a")
    assert fetched.value.suggested_filename == "long_compact_x2.mp4"
    with av.open(str(fetched.value.path())) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (192, 128)
        assert sum(1 for _ in container.decode(video=0)) == LONG
    page.reload()  # the same browser finds its jobs again
    page.wait_for_selector("#jobs li[data-state=done] a")
    elsewhere = [url for url in asked if not url.startswith((server.address, "data:", "blob:"))]
    assert elsewhere == []


def wait_for_buttons(page: Any, *names: str) -> None:
    """Waits until these buttons of a job can be pressed, and no others."""
    pressable = "[...document.querySelectorAll('.controls button:enabled')].map(e => e.id).join()"
    page.wait_for_function(f"{pressable} === '{','.join(names)}'")


def divider(page: Any) -> float:
    """Where the picture of before ends, in percent of its width, as it is drawn."""
    clip_path = page.evaluate("getComputedStyle(document.querySelector('#slider .before')).clipPath")
    found = re.fullmatch(r"inset\(0(?:px)? (?:calc\(100% - ([\d.]+)%\)|([\d.]+)%) 0(?:px)? 0(?:px)?\)", clip_path)
    assert found, clip_path
    return float(found[1]) if found[1] else 100 - float(found[2])


@needs_browser
def test_everything_is_reached_and_done_by_the_keyboard(server: Server, browser: Any, tmp_path: Path) -> None:
    """From the top to the bottom in the order of the page, the divider by arrows, and a link that keeps the focus."""
    page, _ = opened(browser, server, viewport={"width": 1280, "height": 900})
    (tmp_path / "photo.png").write_bytes(PHOTO)
    page.set_input_files("#upload input[type=file]", str(tmp_path / "photo.png"))
    wait_for_text(page, "#said", "An image of 40x30 pixels.")
    page.focus("#show")
    page.keyboard.press("Enter")
    page.wait_for_selector("#slider img.before")
    page.focus("#slider input")
    for key in ("ArrowLeft",) * 7 + ("ArrowRight",) * 2:
        page.keyboard.press(key)
    assert divider(page) == pytest.approx(45)
    page.keyboard.press("Home")
    assert divider(page) == pytest.approx(0)
    assert not page.is_visible("#delete")  # there is no job yet
    page.focus("#start")
    page.keyboard.press("Enter")
    page.wait_for_selector("#jobs li[data-state=done] a")
    page.evaluate("document.activeElement.blur(); document.body.tabIndex = -1; document.body.focus()")
    page.mouse.click(2, 2)
    reached: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        place = page.evaluate(
            "names => document.activeElement.closest(names)?.id", ", ".join(f"#{n}" for n in CONTROLS)
        )
        if place and place not in reached:
            reached.append(place)
    assert reached == [name for name in CONTROLS if name in reached]
    assert set(CONTROLS) - set(reached) == {
        "time",
        "cancel",
        "resume",
    }  # of videos, and of jobs that have not ended well
    page.focus("#jobs a")
    page.wait_for_timeout(2500)  # the lists are asked for twice
    assert page.evaluate("document.activeElement.matches('#jobs a')")


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_text_is_faint_and_what_is_said_is_told(server: Server, browser: Any, tmp_path: Path, scheme: str) -> None:
    page, _ = opened(browser, server, viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    wait_for_text(page, "#jobs", "There are none yet.")
    assert page.evaluate(FAINT) == []
    (tmp_path / "photo.png").write_bytes(PHOTO)
    page.set_input_files("#upload input[type=file]", str(tmp_path / "photo.png"))
    wait_for_text(page, "#said", "An image of 40x30 pixels.")
    assert page.get_attribute("#said", "role") == "status"  # read by screen readers when it changes
    page.click("#start")
    page.wait_for_selector("#jobs li[data-state=done] a")
    assert page.evaluate(FAINT) == []


@needs_browser
def test_two_users_see_their_own_jobs(server: Server, browser: Any, tmp_path: Path) -> None:
    pages = []
    for number in range(2):
        page, _ = opened(browser, server, viewport={"width": 390, "height": 844})
        image = tmp_path / f"photo{number}.png"
        image.write_bytes(PHOTO)
        page.set_input_files("#upload input[type=file]", str(image))
        wait_for_text(page, "#said", "An image of")
        page.click("#start")
        pages.append(page)
    for number, page in enumerate(pages):
        page.wait_for_selector("#jobs li[data-state=done] a")
        assert f"photo{number}.png" in page.inner_text("#jobs")
        assert f"photo{1 - number}.png" not in page.inner_text("#jobs")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_other_files_of_the_machine_stay_closed(server: Server, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("canary")
    names = [
        str(secret),
        "/etc/passwd",
        "/etc/../etc/passwd",
        f"{tmp_path}/",
        str(tmp_path / "open" / ".." / "secret.txt"),
    ]
    for name in names:
        for place in (f"gradio_api/file={name}", f"file={name}", f"gradio_api/stream/x/{name}"):
            response = server.client.get(place)
            assert "canary" not in response.text and "root:" not in response.text
        told = called(server, "_look", [None, name])
        assert "no file in the folders" in told
        told = called(server, "_look", [{"path": name, "meta": {"_type": "gradio.FileData"}}, None])
        assert "canary" not in told and "A video" not in told and "An image" not in told
    inside = Path(server.process.args[server.process.args.index("--folder") + 1]) / "clip.mp4"  # type: ignore
    assert "A video of 192x144" in called(server, "_look", [None, str(inside)])


def test_what_no_job_could_do_is_refused_at_once(server: Server, tmp_path: Path) -> None:
    """By its own name, whether it is a video or not, and with the sentence of the command; nothing is queued."""
    owner = "0" * 32
    asked = ["compact_x2", "the model's own", "mp4", "the format's usual", 0, "png"]
    webm = [*asked[:2], "webm", "libx264", 0, "png"]
    with srfast.load("compact_x2", device="cpu") as upscaler, pytest.raises(OutputError) as refused:
        srfast.upscale_video(CLIP, tmp_path / "a.webm", upscaler, encoding=srfast.Encoding("libx264"))
    tiff = cv2.imencode(".tiff", np.zeros((30, 40, 3), np.uint8))[1].tobytes()
    neither = "is neither an image nor a video that is taken here; PNG, JPEG, WebP and BMP are, and MP4, MOV"
    for name, content, how, said in (
        ("photo.tiff", tiff, asked, f"photo.tiff {neither}"),
        ("notes.txt", b"hello", asked, f"notes.txt {neither}"),
        ("large.png", PHOTO + bytes(110_000), asked, f"large.png has {len(PHOTO) + 110_000} bytes; at most 102400 are"),
        ("cut.mp4", CLIP.read_bytes()[:1000], asked, "cut.mp4"),
        ("clip.mp4", CLIP.read_bytes(), webm, str(refused.value)),
    ):
        (path,) = server.client.post("gradio_api/upload", files={"files": (name, content)}).json()
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        seen = called(server, "_look", [file, None])
        if how is asked:
            assert "Not done" in seen and said in seen, seen
        told = called(server, "_start", [owner, file, None, *how])
        assert "Not done" in told and said in told.replace("&#x27;", "'"), told
    assert "no job" in called(server, "_jobs", [owner, None, "", ""]).replace("There are none yet", "no job")


def called(server: Server, name: str, data: list[Any]) -> str:
    """What a function of the page gives, as text."""
    began = server.client.post(f"gradio_api/call/{name}", json={"data": data})
    assert began.status_code == 200, began.text
    return server.client.get(f"gradio_api/call/{name}/{began.json()['event_id']}").text


def test_uploads_are_held_to_the_limit(tmp_path: Path) -> None:
    with running(tmp_path, "--max-bytes", "50K", "--max-image-bytes", "50K", command="ui") as server:
        for size, good in ((1000, True), (100_000, False)):
            try:
                response = server.client.post("gradio_api/upload", files={"files": ("a.bin", bytes(size))})
            except httpx.TransportError:
                assert not good
                continue
            assert (response.status_code == 200) is good


def test_an_open_page_does_not_hold_up_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every page holds a stream that only a heartbeat would end, here of an hour; the server does not give up waiting for it."""
    monkeypatch.setenv("GRADIO_HEARTBEAT_INTERVAL", "3600")
    with running(tmp_path, command="ui") as server, server.client.stream("GET", "gradio_api/heartbeat/one") as stream:
        lines = stream.iter_lines()  # which closes the stream when nobody holds it
        assert next(lines) == "data: ALIVE"
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(120) == 0
    assert server.said == ["srfast: stopped\n"]
