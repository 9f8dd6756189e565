"""The page in a headless browser: looked at, run, cancelled, continued, fetched. CPU, float32, uint8 frames."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import httpx
import numpy as np
import pytest

import srfast
from tests.helpers.hostile.uploads import clip
from tests.helpers.server import Server, running

pytest.importorskip("gradio", reason="the page needs srfast[ui]")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
CLIP = Path(srfast.__file__).parent / "assets" / "clip.mp4"
LONG = 600
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
    with running(folder, "--folder", str(folder / "open"), "--max-image-bytes", "100K", command="ui") as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the page")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium here to drive the page with")
    with playwright.sync_playwright() as driver:
        made = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
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


def test_a_video_is_looked_at_run_cancelled_continued_and_fetched(server: Server, browser: Any, tmp_path: Path) -> None:
    page, asked = opened(browser, server, viewport={"width": 1280, "height": 900}, accept_downloads=True)
    page.set_input_files("#upload input[type=file]", str(clip(tmp_path / "long.avi", "mpeg4", LONG, (96, 64))))
    wait_for_text(page, "#said", "A video of 96x64 pixels, 24.00 s.")
    page.fill("#time input[type=number]", "12")
    page.click("#show")
    page.wait_for_function("document.querySelectorAll('#slider img').length >= 2")
    wait_for_text(page, "#said", "192x128 pixels are shown")
    handle = page.locator("#slider .inner").first
    before = handle.bounding_box()
    assert before is not None
    page.mouse.move(before["x"] + before["width"] / 2, before["y"] + before["height"] / 2)
    page.mouse.down()
    page.mouse.move(before["x"] + 80, before["y"] + before["height"] / 2, steps=4)
    page.mouse.up()
    after = handle.bounding_box()
    assert after is not None and abs(after["x"] - before["x"]) > 20
    assert page.evaluate(UNNAMED) == []
    page.focus("#start")  # by the keyboard
    page.keyboard.press("Enter")
    wait_for_text(page, "#jobs", "frames/s")
    page.click("#cancel")
    wait_for_text(page, "#jobs", "cancelled")
    page.click("#resume")
    page.wait_for_selector("#jobs li[data-state=done] a")
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
