"""The numbers of docs/performance.md come from records, all of them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import compare, report, tables
from benchmarks import record as records
from benchmarks.record import Quality, Record
from tests.benchmarks.conftest import measured

NUMBER = re.compile(r"\d+(?:\.\d+)?")
MEASURED = re.compile(r"[\d.]+ ?(?:times|x (?!\d)|dB|fps|frames/s|ms|[GT]FLOP|GB/s|%)")


def perturbed(record: Record) -> Record:
    """The same record with other values everywhere, so that no printed number may stay."""
    ours = {m.key: m.contender for m in reversed(record.measurements)}
    measurements = [
        replace(
            m,
            samples=[s * _factor(m.contender, ours[m.key]) * m.run**0.5 for s in m.samples],
            facts={k: 7.77 * v for k, v in m.facts.items()},
        )
        for m in record.measurements
    ]
    return replace(
        record,
        measurements=measurements,
        ceilings=[replace(c, samples=[1.913 * s for s in c.samples]) for c in record.ceilings],
        # Who was left out for its slowness stays slower than those who were measured.
        missing={
            k: re.sub(r"(?<=size: )[\d.]+", lambda m: f"{3.171 * float(m[0])}", why)
            for k, why in record.missing.items()
        },
        quality=[replace(q, psnr=1.27 * q.psnr + len(q.mode) / 7, ssim=q.ssim * 0.513) for q in record.quality],
    )


def _factor(contender: str, ours: str) -> float:
    return 1.37 if contender == ours else 2.213 if contender.startswith("srfast") else 3.171


def names(record: Record) -> set[str]:
    """Numbers that are no measurements: in names, versions and the description of the machine."""
    texts = [tables.machine_line(record), "5% 20th 80th", *(q.model + q.data + q.mode for q in record.quality)]
    texts += [f"{m.subject} {m.case} {m.contender}" for m in record.measurements]
    texts += [c.name for c in record.ceilings]
    return {number for text in texts for number in NUMBER.findall(text)}


def unmoved(record: Record) -> list[str]:
    """Cells that print the same number for another record though no name has it."""
    before, after = (report.section({"x": r}).splitlines() for r in (record, perturbed(record)))
    assert len(before) == len(after)
    fixed = names(record)
    found = []
    for a, b in zip(before, after, strict=True):
        if a == b and set(NUMBER.findall(a)) - fixed:
            found.append(a)
        for one, other in zip(a.split("|"), b.split("|"), strict=True):
            if one == other and one.strip() != "1" and not one.startswith("!") and set(NUMBER.findall(one)) - fixed:
                found.append(one)
    return found


def test_every_number_follows_the_record(record: Record) -> None:
    assert unmoved(record) == []


def test_a_number_of_its_own_would_be_seen(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ceilings", lambda record: "4.2 times as fast")
    assert unmoved(record) == ["4.2 times as fast " + tables.repeatability(record)] * 2


def test_section(record: Record) -> None:
    text = report.section({"test": record})
    assert "| srfast, ms | 101 |" not in text
    assert "| eager fp32 NCHW | 3.03 (3.00 to 3.06) |" in text
    assert "| compact_x4, x4 | 31.15 / 0.8802 (28.43) |" in text
    assert "| srfast bf16: furthest of all from eager fp32 | 0.054 dB |" in text
    assert "| Compact x4, 192x144, 8 frames: plain loop | 7.11 | 2.25 (2.10 to 2.40)\\* |" in text
    assert "Two runs agree within 5% on 1 of 1 ratios." in text
    assert "float32 multiply-adds 150 GFLOP/s" in text


def test_a_precision_whose_reference_is_missing(record: Record) -> None:
    """It changes no figure of the others."""
    record.quality.append(Quality("other, x2", "Set5", "srfast bf16", 5, 20.0, 0.5, "abc"))
    text = report.section({"test": record})
    assert "| srfast bf16: furthest of all from eager fp32 | 0.054 dB |" in text and "other, x2" not in text


def test_the_page_is_made_from_the_records() -> None:
    """Run ``make bench-report`` after a new record."""
    text = report.PAGE.read_text(encoding="utf-8")
    assert report.splice(text, report.section(report.records())) == text
    text = report.README.read_text(encoding="utf-8")
    assert report.splice(text, report.overview(report.records())) == text


@pytest.mark.parametrize("path", sorted(records.FOLDER.glob("*.json")), ids=lambda p: p.name)
def test_every_number_follows_its_committed_record(path: Path) -> None:
    assert unmoved(records.load(path)) == []


def written_by_hand(page: str) -> list[str]:
    """Measured figures outside the generated section: any number of the chapter, and any with a unit elsewhere."""
    text = page.partition(report.BEGIN)[0] + page.partition(report.END)[2]
    prose = re.sub(r"`[^`]*`|\]\([^)]*\)", "", text)
    chapter = prose.partition("## Measured")[2].partition("\n## ")[0]
    return NUMBER.findall(chapter) + MEASURED.findall(prose)


def test_no_figure_is_written_by_hand() -> None:
    assert written_by_hand(report.PAGE.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("claim", ["It is 3 times as fast.", "It gains 2.5 dB.", "12 fps", "5.4x eager", "80% of"])
def test_a_figure_written_by_hand_would_be_seen(claim: str) -> None:
    page, heading = report.PAGE.read_text(encoding="utf-8"), "## Not measured yet"
    assert written_by_hand(page.replace(heading, f"{heading}\n\n{claim}"))


def test_the_fastest_other(record: Record) -> None:
    """Ways of srfast's own are none of the others, and one that was left out may have been the fastest."""
    slow, fast = ([f * s for s in record.measurements[0].samples] for f in (2.0, 0.5))
    record.add([*record.measurements[:2], measured("OpenVINO", slow), measured("srfast cuda", fast)])
    assert "| Compact x4, 240x136 | 100 | OpenVINO | 2.00 (2.00 to 2.00)\\* |" in tables.sizes(record)
    assert tables.overview([record])[2:] == ["| Compact x4, 240x136 | 2.00 |"]
    record.missing["ncnn (Compact x4, 240x136)"] = "left out at this size: 0.3 s for an image in a trial"
    assert len(tables.sizes(record)) == 3
    record.missing["ncnn (Compact x4, 240x136)"] = "left out at this size: 0.1 s for an image in a trial"
    assert tables.sizes(record) == []


def test_bfloat16_beside_float32(record: Record) -> None:
    """The fastest other against each of srfast's dtypes, over the runs in which both took part."""
    ours, eager = record.measurements[:2]
    record.add([ours, measured("srfast bf16", [0.08, 0.08, 0.08]), eager, measured("OpenVINO", [0.2, 0.2, 0.24])])
    head, _, row = tables.sizes(record)
    assert head.endswith("| srfast is so many times as fast | srfast bf16, ms | so many times as fast |")
    assert row.startswith("| Compact x4, 240x136 | 100 | OpenVINO | 2.00")
    assert row.endswith("| 80 | 2.50 (2.50 to 2.80)\\* |")


def test_markers_are_needed() -> None:
    with pytest.raises(ValueError, match="need one line"):
        report.splice("no markers", "new")


def test_page_is_self_contained(record: Record) -> None:
    text = report.page({"test": record})
    assert "3.03 (3.00 to 3.06)" in text
    assert "TensorRT fp16 (Compact x4): not installed" in text
    assert not re.search(r'(?:src|href)="(?!data:)', text)


def test_plots(record: Record, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the bench extra is not installed")
    from benchmarks.plots import draw

    waterfall = [replace(m, suite="waterfall") for m in record.measurements if m.suite == "network"]
    growth = [replace(m, suite="growth", subject="pixels", case="4096") for m in waterfall[:1]]
    draw(replace(record, measurements=[*record.measurements, *waterfall, *growth]), tmp_path, "test")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["test-roofline.png", "test-size.png", "test-waterfall.png"]


def test_compare(record: Record, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = tmp_path / "2026-01-01-test.json", tmp_path / "2026-01-02-test.json"
    records.save(record, old)
    records.save(record, new)
    assert compare.main([str(new)]) == 0
    slower = [
        replace(m, samples=[2 * s for s in m.samples]) if m.contender == "srfast" else m for m in record.measurements
    ]
    records.save(replace(record, measurements=slower), new)
    assert compare.main([str(new)]) == 1
    assert (
        "slower: network: Compact x4, 240x136, eager fp32 NCHW: 1.51 times as fast, was 3.03 (-50%)"
        in capsys.readouterr().out
    )


def test_the_fastest_other_in_float32_stands_beside_one_in_half_precision(record: Record) -> None:
    half, exact = ([f * s for s in record.measurements[0].samples] for f in (1.5, 2.0))
    record.add([*record.measurements[:2], measured("eager bf16 NCHW", half), measured("OpenVINO f32, latency", exact)])
    assert tables.overview([record])[2:] == ["| Compact x4, 240x136 | 1.50 (2.00) |"]
