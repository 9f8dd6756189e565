"""``srfast compare``: what the page holds. Pictures are uint8, networks run in float32 on the CPU."""

from __future__ import annotations

import base64
import html
import json
import math
import re
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from srfast import Upscaler
from srfast.cli import main
from srfast.training.backbones import Backbone
from tests.helpers.video.children import save_tiny, tiny

PNG = "data:image/png;base64,"


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """[H, W, 3] RGB with detail, unlike in any two places."""
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (5, 5), 0)


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save(tmp_path / "in.png", smooth(24, 32))


@pytest.fixture
def model(tmp_path: Path) -> str:
    return save_tiny(tmp_path / "tiny.safetensors")


def compare(*arguments: object) -> tuple[str, list[dict[str, Any]]]:
    """Text of the page and its scenes."""
    assert main(["compare", *map(str, arguments), "--device", "cpu", "--dtype", "fp32"]) == 0
    text = next(Path(str(a)) for a in arguments if str(a).endswith(".html")).read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return text, json.loads(found[1])


def picture(view: dict[str, Any]) -> np.ndarray:
    """RGB of a view."""
    data = np.frombuffer(base64.b64decode(view["picture"].partition(",")[2]), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def cells(text: str) -> dict[str, list[str]]:
    """Rows of the tables by the name of their picture."""
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', text)
    return {html.unescape(name): re.findall(r"<td[^>]*>(.*?)</td>", row) for name, row in rows}


def test_source_network_and_file(source: Path, model: str, tmp_path: Path) -> None:
    other = save(tmp_path / "other.png", smooth(48, 64, 1))
    text, (scene,) = compare(source, other, "-m", model, tmp_path / "out.html")
    assert [view["label"] for view in scene["views"]] == ["in.png, bicubic", "other.png", "tiny"]
    small, given = smooth(24, 32), smooth(48, 64, 1)
    bicubic, shown, ours = map(picture, scene["views"])
    assert np.array_equal(bicubic, cv2.resize(small, (64, 48), interpolation=cv2.INTER_CUBIC))
    assert np.array_equal(shown, given)
    upscaler = Upscaler(model, device="cpu", dtype="fp32")
    assert np.array_equal(ours, upscaler(np.ascontiguousarray(small[..., ::-1]))[..., ::-1])
    assert (scene["width"], scene["height"], scene["first_choice"]) == (64, 48, 2)
    assert "PSNR" not in text


def test_a_model_is_chosen_where_nothing_else_is_given(source: Path, tmp_path: Path) -> None:
    assert [v["label"] for v in compare(source, tmp_path / "a.html")[1][0]["views"]] == [
        "in.png, bicubic",
        "srresnet_x4",
    ]
    other = save(tmp_path / "x.png", smooth(24, 32, 2))
    assert [v["label"] for v in compare(source, other, tmp_path / "b.html")[1][0]["views"]] == ["in.png", "x.png"]


def test_measures_against_the_truth(source: Path, model: str, tmp_path: Path) -> None:
    """The truth is larger than twice the source by a row and a column, which are cut off; formulas as in the papers."""
    large = cv2.resize(smooth(24, 32), (64, 48), interpolation=cv2.INTER_LANCZOS4)
    truth = save(tmp_path / "truth.png", cv2.copyMakeBorder(large, 0, 1, 0, 1, cv2.BORDER_CONSTANT))
    text, (scene,) = compare(source, "-m", model, "--truth", truth, tmp_path / "out.html", "--crop", "20x10+3+7")
    assert [view["label"] for view in scene["views"]][2] == "ground truth"
    assert np.array_equal(picture(scene["views"][2]), large[7:17, 3:23])
    bicubic = cv2.resize(smooth(24, 32), (64, 48), interpolation=cv2.INTER_CUBIC)
    inside = (slice(2, -2), slice(2, -2))
    apart = bicubic[inside].astype(np.float64) - large[inside]
    expected = 10 * math.log10(255**2 / np.mean(apart**2))
    assert cells(text)["in.png, bicubic"][1] == f"{expected:.2f} dB"
    weights = np.array([65.481, 128.553, 24.966]) / 255
    expected = 10 * math.log10(255**2 / np.mean((apart @ weights) ** 2))
    assert cells(text)["in.png, bicubic"][0] == f"{expected:.2f} dB"
    assert "PSNR-Y" in text
    assert "of the whole pictures" in text
    assert cells(text)["ground truth"][:3] == ["&ndash;"] * 3


def test_lpips_where_its_network_is_given(
    source: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Against torchmetrics' own, over the same random AlexNet, float32 on the CPU; by the option and by the variable."""
    from torchmetrics.functional.image import lpips as reference

    backbone = Backbone("alex", "random")
    torch.save(backbone.state_dict(), tmp_path / "alex.pth")
    monkeypatch.setattr(reference, "_get_tv_model_features", lambda *_: backbone.features)
    network = reference._LPIPS(net="alex", use_dropout=True)
    small, large = smooth(40, 52), smooth(80, 104)
    truth, given = save(tmp_path / "truth.png", large), save(tmp_path / "small.png", small)
    bicubic = cv2.resize(small, (104, 80), interpolation=cv2.INTER_CUBIC)
    x, y = (torch.from_numpy(image).permute(2, 0, 1)[None] / 255 for image in (bicubic, large))
    with torch.no_grad():
        expected = f"{float(network(x, y, normalize=True)):.4f}"
    arguments = (given, "-m", model, "--truth", truth, tmp_path / "out.html", "-y")
    text, _ = compare(*arguments, "--lpips", tmp_path / "alex.pth")
    assert cells(text)["small.png, bicubic"][3] == expected
    assert "LPIPS" not in compare(*arguments)[0]
    assert "without LPIPS: --lpips FILE" in capsys.readouterr().err
    monkeypatch.setenv("SRFAST_LPIPS", str(tmp_path / "alex.pth"))
    assert cells(compare(*arguments)[0])["small.png, bicubic"][3] == expected
    # A picture that is too small for it has the other measures.
    tiny_truth = save(tmp_path / "tiny.png", smooth(48, 64))
    assert "LPIPS" not in compare(source, "-m", model, "--truth", tiny_truth, tmp_path / "out.html", "-y")[0]
    monkeypatch.setenv("SRFAST_LPIPS", str(tmp_path / "none.pth"))
    assert main(["compare", *map(str, arguments)]) == 3
    assert "none.pth" in capsys.readouterr().err


def test_an_equal_picture_has_no_number(source: Path, tmp_path: Path) -> None:
    same = save(tmp_path / "same.png", smooth(24, 32))
    text, _ = compare(source, "--truth", same, tmp_path / "out.html", "-m", "compact_x2")
    assert cells(text)["in.png"][:2] == ["equal", "equal"]


def test_folders(model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for n in range(4):
        save(tmp_path / "in" / f"{n}.png", smooth(24, 32, n))
        save(tmp_path / "hr" / f"{n}.bmp", smooth(48, 64, n))
    (tmp_path / "hr" / "3.bmp").unlink()
    arguments = (tmp_path / "in", "-m", model, "--truth", tmp_path / "hr", tmp_path / "out.html")
    text, scenes = compare(*arguments, "--most", 2)
    assert [scene["name"] for scene in scenes] == ["0.png", "1.png"]
    assert "1 images of" in caplog.text
    assert "2 of 3 images are shown" in caplog.text
    assert "Mean of 2 pictures" in text
    for n, scene in enumerate(scenes):
        assert np.array_equal(picture(scene["views"][2]), smooth(48, 64, n))


def clip(path: Path, size: tuple[int, int] = (32, 16)) -> Path:
    """Twelve gray frames, 30 a second, each of its own level."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264rgb", rate=30, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = *size, "rgb24"
        for i in range(12):
            image = np.full((size[1], size[0], 3), 20 * i, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("at", "frame"), [("0", 0), ("0.1s", 3), ("0.11", 4), ("0:00.366", 11)])
def test_frames_of_videos(at: str, frame: int, tmp_path: Path) -> None:
    """Matroska rounds times to milliseconds and MP4 does not: the same frame of both, the first at the time or after it."""
    exact, rounded = clip(tmp_path / "a.mp4"), clip(tmp_path / "b.mkv", (64, 32))
    for number, files in enumerate(((exact, rounded), (rounded, exact))):
        _, (scene,) = compare(*files, "--at", at, tmp_path / f"{number}.html")
        assert [round(picture(view).mean() / 20) for view in scene["views"]] == [frame, frame]
        assert re.search(r" at 0\.\d{3} s$", scene["name"])


def test_more_times_and_the_middle(tmp_path: Path) -> None:
    exact, rounded = clip(tmp_path / "a.mp4"), clip(tmp_path / "b.mkv", (64, 32))
    _, scenes = compare(exact, rounded, "--at", "0", "--at", "0.2", tmp_path / "a.html")
    assert [round(picture(scene["views"][1]).mean() / 20) for scene in scenes] == [0, 6]
    _, (scene,) = compare(exact, rounded, tmp_path / "b.html")
    assert round(picture(scene["views"][0]).mean() / 20) == 6


def test_a_page_stays_small(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    a, b = save(tmp_path / "a.png", noise), save(tmp_path / "b.png", noise[::-1].copy())
    sizes = {}
    for limit, form in (("4M", "PNG"), ("1200K", "JPEG of quality"), ("300K", "the part of")):
        text, (scene,) = compare(a, b, "--max-size", limit, tmp_path / "out.html", "-y")
        assert form in text
        assert len(text.encode()) <= int(limit[:-1]) * (1024 if limit[-1] == "K" else 1 << 20)
        sizes[limit] = (scene["width"], scene["height"])
    assert sizes["4M"] == sizes["1200K"] == (500, 400)
    assert sizes["300K"][0] < 500
    assert main(["compare", str(a), str(b), "--max-size", "20K", str(tmp_path / "no.html")]) == 7
    assert not (tmp_path / "no.html").exists()


def test_large_pictures_show_their_most_detailed_part(tmp_path: Path) -> None:
    image = np.full((1500, 2000, 3), 90, np.uint8)
    image[1100:1400, 1500:1900] = smooth(300, 400)
    path = save(tmp_path / "large.png", image)
    text, (scene,) = compare(path, path, tmp_path / "out.html")
    assert (scene["width"], scene["height"]) == (1280, 960)
    assert (picture(scene["views"][0]) != 90).sum() > 0.9 * (image != 90).sum()
    assert "of 2000x1500 the part of 1280x960" in text


def test_nothing_of_a_name_becomes_markup(tmp_path: Path) -> None:
    hostile = save(tmp_path / "<img src=x onerror=y>$data.png", smooth(8, 8))
    text, (scene,) = compare(hostile, hostile, tmp_path / "out.html")
    assert "<img" not in text
    assert scene["name"] == hostile.name


def test_the_page_names_no_address(source: Path, model: str, tmp_path: Path) -> None:
    text, (scene,) = compare(source, "-m", model, tmp_path / "out.html")
    assert all(view["picture"].startswith(PNG) for view in scene["views"])
    assert re.findall(r"(?:https?:)?//[a-z]", re.sub(r"base64,[\w+/=]*", "", text)) == []
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', text)
    assert policy
    assert html.unescape(policy[1]).startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy[1]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["in.png"], 2, "give a source and a page"),
        (["in.png", "out.png"], 7, "should end in .html"),
        (["none.png", "out.html"], 6, "none.png is missing"),
        (["in.png", "clip.mp4", "out.html"], 6, "in.png is an image and clip.mp4 is a video"),
        (["in.png", "wide.png", "out.html"], 6, "another picture's proportions"),
        (["in.png", "in.png", "--at", "1", "out.html"], 2, "--at does nothing for an image"),
        (["in.png", "in.png", "--crop", "40x4", "out.html"], 2, "does not lie in a picture of 32x24"),
        (["clip.mp4", "clip.mp4", "--at", "60", "out.html"], 6, "holds no frame in the times asked for"),
        (["in", "empty", "out.html"], 6, "no image of in has one of the same name in empty"),
        (["in.png", "in.png", "old.html"], 7, "old.html exists"),
        (["in.png", "in.png", "--lpips", "alex.pth", "out.html"], 2, "give that with --truth"),
    ],
)
def test_mistakes(
    arguments: list[str], code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "in.png", smooth(24, 32))
    save(tmp_path / "wide.png", smooth(24, 64))
    save(tmp_path / "in" / "a.png", smooth(24, 32))
    clip(tmp_path / "clip.mp4")
    (tmp_path / "empty").mkdir()
    (tmp_path / "old.html").write_text("old")
    assert main(["compare", *arguments]) == code
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) <= 3
    assert not (tmp_path / "out.html").exists()
    assert (tmp_path / "old.html").read_text() == "old"


def test_options_between_positions(source: Path, model: str, tmp_path: Path) -> None:
    """Also of the other commands: argparse by itself would refuse what follows the option."""
    assert main(["upscale", str(source), "-m", model, str(tmp_path / "out.png")]) == 0
    assert cv2.imread(str(tmp_path / "out.png")).shape == (48, 64, 3)
    assert np.array_equal(cv2.imread(str(tmp_path / "out.png")), tiny()(cv2.imread(str(source))))
