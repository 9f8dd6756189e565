"""The page of ``srfast compare`` in a headless browser, opened from the disk, with a server that must hear nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from srfast.cli import main
from tests.helpers.browser import Page, needs_browser, page

pytestmark = needs_browser
RED, BLUE = (220, 20, 20), (20, 20, 220)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two scenes of three pictures of 96x64: red, blue, and red with one blue pixel."""
    folder = tmp_path_factory.mktemp("compare")
    for scene in ("one.png", "two.png"):
        for name, colour in (("red", RED), ("blue", BLUE), ("nearly", RED)):
            (folder / name).mkdir(exist_ok=True)
            image = np.full((64, 96, 3), colour, np.uint8)
            if name == "nearly":
                image[10, 20] = BLUE
            Image.fromarray(image).save(folder / name / scene)
    out = folder / "out.html"
    assert main(["compare", *(str(folder / name) for name in ("red", "blue", "nearly")), str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with page() as started:
        yield started


@pytest.fixture
def opened(browser: Page, file: Path) -> Page:
    browser.size(1000, 800)
    browser.requests.clear()
    browser.problems.clear()
    browser.open("about:blank", "true")
    browser.open(file.as_uri(), "document.body && document.body.dataset.ready === '0'")
    browser.frame()
    return browser


def stage(of: Page) -> dict[str, float]:
    return of.run(
        "(({x, y, width, height}) => ({x, y, width, height}))(document.getElementById('stage').getBoundingClientRect())"
    )


def red(of: Page) -> float:
    """Share of the stage that is red."""
    area, shot = stage(of), of.screenshot()
    image = cv2.imdecode(np.frombuffer(shot, np.uint8), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    y, x = round(area["y"]), round(area["x"])
    part = image[y : y + round(area["height"]), x : x + round(area["width"])]
    reds = (np.abs(part - RED).max(2) < 30).sum()
    return float(reds / (reds + (np.abs(part - BLUE).max(2) < 30).sum()))


def left_right(of: Page, left: int, right: int) -> None:
    of.run(
        f"for (const [id, v] of [['left', {left}], ['right', {right}]]) {{ const e = document.getElementById(id); e.value = v; "
        "e.dispatchEvent(new Event('change')); }"
    )
    of.frame()


def test_the_divider_moves(opened: Page) -> None:
    """By the mouse, by the range beside it as a keyboard does, and by keys on the picture."""
    left_right(opened, 0, 1)
    assert red(opened) == pytest.approx(0.5, abs=0.05)
    area = stage(opened)
    middle = area["y"] + area["height"] / 2
    opened.drag((area["x"] + area["width"] * 0.5, middle), (area["x"] + area["width"] * 0.8, middle))
    assert red(opened) == pytest.approx(0.8, abs=0.05)
    opened.run("document.getElementById('split').focus()")
    for _ in range(20):
        opened.send(
            "Input.dispatchKeyEvent", type="keyDown", key="ArrowLeft", code="ArrowLeft", windowsVirtualKeyCode=37
        )
    opened.frame()
    assert red(opened) == pytest.approx(0.7, abs=0.05)
    opened.run("document.getElementById('stage').focus()")
    for _ in range(10):
        opened.key("[")
    assert red(opened) == pytest.approx(0.5, abs=0.05)
    opened.key("]")
    opened.key("x")
    assert red(opened) == pytest.approx(0.48, abs=0.05)
    assert opened.problems == []


def test_difference_and_spectrum(opened: Page) -> None:
    left_right(opened, 0, 2)
    opened.run("document.getElementById('stage').focus()")
    opened.key("d")
    said = opened.run("document.getElementById('status').textContent")
    mean = 400 / (64 * 96 * 3)  # one pixel, 200 apart in two channels
    assert said == f"Difference of red and nearly: mean {mean:.2f}, largest 200 of 255."
    opened.key("f")
    assert opened.run("document.getElementById('status').textContent").startswith("Spectra of red and nearly")
    assert opened.problems == []


def test_zoom_and_pan(opened: Page) -> None:
    def percent() -> int:
        return int(opened.run("document.getElementById('percent').value").rstrip("%"))

    fitted = percent()
    area = stage(opened)
    opened.send(
        "Input.dispatchMouseEvent", type="mouseWheel", x=area["x"] + 50, y=area["y"] + 50, deltaX=0, deltaY=-600
    )
    opened.wait(f"parseInt(document.getElementById('percent').value) > {2 * fitted}")
    opened.run("document.getElementById('stage').focus()")
    before = opened.screenshot()
    left_right(opened, 2, 2)
    opened.key("ArrowLeft")
    assert opened.screenshot() != before
    opened.key("1")
    assert percent() == 100
    opened.key("0")
    assert percent() == fitted
    assert opened.problems == []


def test_scenes(opened: Page) -> None:
    opened.run("document.getElementById('stage').focus()")
    opened.key("n")
    opened.wait("document.body.dataset.ready === '1'")
    assert opened.run("document.querySelector('[data-scene=\"0\"]').hidden") is True
    assert opened.run("document.querySelector('[data-scene=\"1\"]').hidden") is False


def test_no_request_to_any_network(opened: Page) -> None:
    """None is made, and none could be: the policy forbids what a script in the page would ask for."""
    addresses = {address.partition(":")[0] for address in opened.requests if address != "about:blank"}
    assert addresses == {"file", "data"}
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        host = f"http://127.0.0.1:{server.getsockname()[1]}"
        outcome = opened.run(f"fetch('{host}/').then(() => 'sent', () => 'refused')")
        loading = "i.onload = () => done('sent'); i.onerror = () => done('refused')"
        image = opened.run(f"new Promise(done => {{ const i = new Image(); {loading}; i.src = '{host}/i.png' }})")
        assert (outcome, image) == ("refused", "refused")
        with pytest.raises(BlockingIOError):
            server.accept()
    assert any("Content Security Policy" in problem for problem in opened.problems)


@pytest.mark.parametrize(("width", "height"), [(390, 844), (320, 568)])
def test_on_a_phone(opened: Page, width: int, height: int) -> None:
    opened.size(width, height, phone=True)
    opened.frame()
    assert opened.run("document.documentElement.scrollWidth") <= width
    shown = "[...document.querySelectorAll('button, select')].filter(e => e.offsetParent)"
    small = f"{shown}.filter(e => e.getBoundingClientRect().height < 40)"
    assert opened.run(f"{small}.length") == 0
    area = stage(opened)
    assert area["width"] > width - 30
    assert area["y"] + area["height"] < height


def test_the_measures_are_seen_on_a_phone(browser: Page, tmp_path: Path) -> None:
    """All of them beside the names, without moving the table; a name takes two lines; that of the only picture is told once."""
    generator = np.random.default_rng(0)
    for name, side in (("source", 24), ("of some model", 48), ("truth", 48)):
        image = generator.integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    source, result, truth = (str(tmp_path / f"{name}.png") for name in ("source", "of some model", "truth"))
    assert main(["compare", source, result, "--truth", truth, str(tmp_path / "out.html")]) == 0
    browser.size(390, 844, phone=True)
    browser.open((tmp_path / "out.html").as_uri(), "document.body && document.body.dataset.ready === '0'")
    boxes = "[...document.querySelectorAll('{}')].map(e => e.getBoundingClientRect())"
    measures = browser.run(f"{boxes.format('tbody td:not(.how)')}.map(box => box.right)")
    assert len(measures) == 9 and max(measures) <= 390
    assert max(browser.run(f"{boxes.format('tbody tr')}.map(box => box.height)")) < 60
    shown = "[...document.querySelectorAll('h1, h2')].filter(e => e.offsetWidth > 1).map(e => e.innerText)"
    assert browser.run(shown) == ["source.png"]


def test_everything_has_a_name_for_screen_readers(opened: Page) -> None:
    opened.send("Accessibility.enable")
    nodes = opened.send("Accessibility.getFullAXTree")["nodes"]
    named = ("button", "combobox", "slider", "radio", "application", "region", "group")
    without = [
        node["role"]["value"]
        for node in nodes
        if not node.get("ignored") and node["role"]["value"] in named and not node.get("name", {}).get("value")
    ]
    roles = {node["role"]["value"] for node in nodes if not node.get("ignored")}
    assert {"button", "combobox", "slider", "radio", "application", "status"} <= roles
    assert [role for role in without if role != "group"] == []
