"""The comparison report, the rating page and what its ratings say."""

from __future__ import annotations

import base64
import json
import math
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from srfast.checkpoint import save_checkpoint
from srfast.models import SRVGGNetCompact
from srfast.training import compare, curves, mos
from srfast.training.backbones import Backbone
from srfast.training.discriminators import DigitClassifier
from srfast.training.frechet import Features, frechet_distance
from srfast.training.measures import deep_metric
from srfast.training.perceptual import ContentLoss


@pytest.fixture
def study(tmp_path: Path) -> tuple[str, Path]:
    """A checkpoint that repeats pixels, and a folder with one image."""
    torch.manual_seed(0)
    model = SRVGGNetCompact(num_feat=4, num_conv=0, upscale=2)
    torch.nn.init.zeros_(model.body[-1].weight)
    torch.nn.init.zeros_(model.body[-1].bias)
    save_checkpoint(model, tmp_path / "repeat.safetensors")
    (tmp_path / "images").mkdir()
    coarse = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "images" / "one.png"), cv2.resize(coarse, (101, 98), interpolation=cv2.INTER_CUBIC))
    return f"repeat={tmp_path / 'repeat.safetensors'}", tmp_path / "images"


def test_report(study: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, images = study
    out = tmp_path / "report"
    assert compare.main(["--model", model, "--data", f"mine={images}", "--out", str(out)]) == 0
    text = (out / "report.md").read_text()
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in text.splitlines() if "|" in line}
    assert set(rows) >= {"mine", "bicubic", "repeat", "HR"}
    assert rows["HR"][0] == "-"  # infinite
    assert rows["HR"][2].startswith("0.00")
    assert float(rows["bicubic"][0]) > float(rows["repeat"][0])
    grid = cv2.imread(str(out / "mine_one.png"))
    assert grid.shape == (compare.LABEL + 2 * 144, 5 * 144 - 144, 3) or grid.shape[1] == 4 * 144
    assert grid.std() > 10


def test_report_names_what_is_missing(
    study: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, images = study
    arguments = ["--model", model, "--data", str(images), "--out", str(tmp_path / "r"), "--vgg16", "none.pth"]
    assert compare.main(arguments) == 2
    assert "vgg16 backbone is missing at none.pth" in capsys.readouterr().err


def test_busiest_square_is_found() -> None:
    image = np.zeros((60, 80, 3), np.uint8)
    image[20:30, 40:50] = np.random.default_rng(0).integers(0, 256, (10, 10, 3), dtype=np.uint8)
    y, x = compare.busiest(image, 14, 14)
    assert 15 <= y <= 21
    assert 35 <= x <= 41


def test_page_is_blind_and_whole(study: tuple[str, Path], tmp_path: Path) -> None:
    model, images = study
    assert mos.main(["page", "--model", model, "--data", str(images), "--out", str(tmp_path)]) == 0
    page, key = (tmp_path / "rate.html").read_text(), json.loads((tmp_path / "key.json").read_text())
    assert {entry["system"] for entry in key["items"].values()} == {"bicubic", "repeat", "HR"}
    assert not any(name in page for name in ("bicubic", "repeat", "one.png"))
    assert "http" not in page
    items = json.loads(re.search(r" items = (\[.*?\]),", page).group(1))
    assert {i["item"] for i in items} == set(key["items"])
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(items[0]["png"]), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (98, 100, 3)


def test_aggregation_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Raters' means 4.5, 3 and 3: mean 3.5, deviation sqrt(0.75), 4.303 for two degrees of freedom."""
    items = {k: {"system": s, "image": k} for k, s in (("a", "good"), ("b", "good"), ("c", "bad"))}
    (tmp_path / "key.json").write_text(json.dumps({"study": "x", "items": items}))
    scores = [{"a": 5, "b": 4, "c": 1}, {"a": 3, "b": 3, "c": 1}, {"a": 3, "c": 1}]
    files = []
    for index, rater in enumerate(scores):
        files.append(tmp_path / f"ratings-{index}.json")
        ratings = [{"item": k, "score": v} for k, v in rater.items()]
        files[-1].write_text(json.dumps({"study": "x", "ratings": ratings}))
    assert mos.main(["aggregate", str(tmp_path / "key.json"), *map(str, files)]) == 0
    lines = capsys.readouterr().out.splitlines()
    margin = 4.3027 * math.sqrt(0.75) / math.sqrt(3)
    assert lines[2] == f"| good | 3.50 | +-{margin:.2f} | 3 | 5 |"
    assert lines[3] == "| bad | 1.00 | +-0.00 | 3 | 3 |"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a file of ratings"),
        ('{"study": "y", "ratings": []}', "another study"),
        ('{"study": "x", "ratings": [{"item": "z", "score": 3}]}', "unknown or rated twice"),
        ('{"study": "x", "ratings": [{"item": "a", "score": 3}, {"item": "a", "score": 3}]}', "rated twice"),
        ('{"study": "x", "ratings": [{"item": "a", "score": 6}]}', "1 to 5, not 6"),
        ('{"study": "x", "ratings": [{"item": "a", "score": true}]}', "1 to 5, not True"),
    ],
)
def test_bad_ratings_are_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        mos.read_ratings(tmp_path / "r.json", {"study": "x", "items": {"a": {"system": "s", "image": "i"}}})


@pytest.mark.parametrize(("values", "margin"), [([3.0, 5.0], 12.7062), ([3.0, 4.0, 5.0], 4.3027 / 3**0.5)])
def test_confidence_margin(values: list[float], margin: float) -> None:
    """Quantiles of the printed tables times the deviation (sqrt(2) and 1) over the root of the number."""
    assert mos.confidence_margin(values) == pytest.approx(margin, rel=2e-5)
    assert math.isnan(mos.confidence_margin(values[:1]))


def test_frechet_distance_by_hand() -> None:
    """Features N(0, I) against N(m, I) have distance |m|^2; a set has none to itself."""
    torch.manual_seed(0)
    real = torch.randn(4000, 3, 1, 1, dtype=torch.float64)
    shift = torch.tensor([1.0, 2.0, 0.0]).view(3, 1, 1)

    class Flat(torch.nn.Module):
        num_features = 3

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)

    assert frechet_distance([real], [real + shift], Flat()) == pytest.approx(5, abs=1e-4)
    assert frechet_distance([real], [real], Flat()) == pytest.approx(0, abs=1e-4)
    batches = [torch.rand(200, 1, 28, 28)]
    assert frechet_distance(batches, batches, Features(DigitClassifier().eval())) == pytest.approx(0, abs=1e-2)


def test_curves_show_their_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A record that was written twice, as after a resume, counts once; the chart has both colours."""
    records = [{"step": 1, "psnr": 5.0}, {"step": 2, "psnr": 9.0}, {"step": 2, "psnr": 6.0}, {"step": 3, "l1": 0.1}]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log.jsonl").write_text("\n".join(map(json.dumps, records)))
    assert curves.read_curve(tmp_path / "a", "psnr") == [(1.0, 5.0), (2.0, 6.0)]
    runs = [f"first={tmp_path / 'a'}", f"second={tmp_path / 'b'}"]
    assert curves.main(["--run", *runs, "--value", "psnr", "--out", str(tmp_path / "c.png")]) == 0
    image = cv2.imread(str(tmp_path / "c.png"))[..., ::-1]
    assert image.shape == (280, 480, 3)
    first, second = (31, 119, 180), (255, 127, 14)  # the first two of matplotlib's colours
    # The two runs are equal: the second line hides the first, whose colour is in the legend.
    assert all((image == colour).all(2).any() for colour in (first, second))
    assert curves.main(["--run", *runs, "--value", "fid", "--out", str(tmp_path / "c.png")]) == 2
    assert "it has l1, psnr" in capsys.readouterr().err


def test_pictures_may_spell_any_word(study: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The base64 of a picture stays as it is, whatever words of the page are in it."""
    model, images = study
    monkeypatch.setattr(mos, "_png", lambda image: "STUDYITEMS")
    page, key = mos.build_page(compare.load_systems([model]), sorted(images.iterdir()))
    assert page.count('"png": "STUDYITEMS"') == 3
    assert page.count(str(key["study"])) == 1


def test_systems_have_names_of_their_own(study: tuple[str, Path]) -> None:
    file = study[0].partition("=")[2]
    for models in ([file, file], [f"HR={file}"]):
        with pytest.raises(ValueError, match="two systems are called"):
            compare.load_systems(models)


def test_images_too_small_for_a_backbone_are_left_out(study: tuple[str, Path]) -> None:
    network = deep_metric(ContentLoss(Backbone("vgg19", "random"), (5, 4)))
    systems = compare.load_systems([study[0]])
    image = cv2.imread(str(study[1] / "one.png"))
    cv2.imwrite(str(study[1] / "two.png"), image[:12, :12])
    means = compare.measure(systems, study[1], {"content": network})
    assert means["HR"]["content"] == 0
    assert math.isfinite(means["bicubic"]["content"])
    (study[1] / "one.png").unlink()
    assert math.isnan(compare.measure(systems, study[1], {"content": network})["HR"]["content"])
