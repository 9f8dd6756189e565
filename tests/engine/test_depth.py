"""No default is less exact than the frames: every level of 8, 10 and 16 bits comes through a network that changes nothing."""

from __future__ import annotations

import copy
import itertools
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import srfast
from srfast.backends import KEPT_BITS, default_dtype
from srfast.cli import main
from srfast.engine import Engine
from srfast.engine import engine as engine_module
from srfast.kernels.cpu.classes import CLASSES
from srfast.plan import Plan
from srfast.upscaler import Upscaler
from srfast.video import iter_video, upscale_video
from srfast.video.upscale_stage import SequenceUpscaler
from tests.helpers.networks.small import NETWORKS, randomise

CPU = torch.device("cpu")


class Twice(nn.Module):
    """Every pixel twice in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 1, bias=False)
        self.conv.weight.data = torch.eye(3).repeat_interleave(4, 0)[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(self.conv(x), 2)


def levels(bits: int) -> Tensor:
    """[1, rows, 64, 3] uint16: every level of ``bits`` bits, in order, as 16-bit samples."""
    values = (torch.arange(1 << bits, dtype=torch.float64) * 65535 / ((1 << bits) - 1)).round()
    return values.to(torch.int32).to(torch.uint16).view(1, -1, 64, 1).expand(-1, -1, -1, 3).contiguous()


def lost(engine: Engine, bits: int) -> int:
    """Levels of ``bits`` bits that are not the same afterwards."""
    given = levels(bits)
    out = engine(given)[:, ::2, ::2].double() * ((1 << bits) - 1) / 65535
    return int((out.round() != (given.double() * ((1 << bits) - 1) / 65535).round()).sum())


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Upscaler(Twice(), device="cpu", dtype="fp32").plan


@pytest.fixture
def amx(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU whose default for 8 bits is bfloat16, whatever this one is."""
    monkeypatch.setenv("SRFAST_CPU", "amx")
    assert default_dtype(CPU) == torch.bfloat16


@pytest.mark.parametrize("dtype", KEPT_BITS, ids=str)
def test_bits_that_a_dtype_keeps(plan: Plan, dtype: torch.dtype) -> None:
    """So many and, below 16, no more."""
    engine = Engine(plan, backend="reference", device=CPU, dtype=dtype)
    assert lost(engine, KEPT_BITS[dtype]) == 0
    assert KEPT_BITS[dtype] == 16 or lost(engine, KEPT_BITS[dtype] + 1) > 0


@pytest.mark.parametrize("name", CLASSES)
def test_every_level_of_16_bits(monkeypatch: pytest.MonkeyPatch, plan: Plan, name: str) -> None:
    monkeypatch.setenv("SRFAST_CPU", name)
    engine = Engine(plan, device=CPU)
    assert lost(engine, 16) == 0
    assert engine.statistics.images == 1
    eight = levels(8).to(torch.int32).div(257).to(torch.uint8)
    assert torch.equal(engine(eight)[:, ::2, ::2], eight)


def test_bfloat16_that_was_asked_for_is_used(amx: None, plan: Plan) -> None:
    assert lost(Engine(plan, device=CPU, dtype=torch.bfloat16), 10) > 0


def test_choice_by_bits(amx: None, plan: Plan) -> None:
    assert [default_dtype(CPU, plan, bits) for bits in (8, 9, 16)] == [torch.bfloat16, torch.float32, torch.float32]
    cuda = torch.device("cuda")
    assert [default_dtype(cuda, plan, bits) for bits in (8, 10, 11)] == [torch.float16, torch.float16, torch.float32]
    # Floating images have no levels; nobody finds 8 bits of them enough.
    assert srfast.compile(Twice(), device="cpu").dtype == torch.float32
    engine, x = Engine(plan, device=CPU), torch.rand(1, 8, 8, 3)
    assert engine.dtype == torch.bfloat16
    torch.testing.assert_close(engine(x)[:, ::2, ::2], x, rtol=0, atol=1e-6)


def test_a_depth_that_is_told(monkeypatch: pytest.MonkeyPatch, plan: Plan) -> None:
    """As on a GPU, where 10 bits in 16 stay in float16: what a video tells is believed."""
    monkeypatch.setattr(engine_module, "default_dtype", lambda *_: torch.float16)
    engine = Engine(plan, device=CPU)
    assert engine.dtype == torch.float16
    told = {bits: engine.for_frames(bits, 16, 64) for bits in (8, 10, 12, 16)}
    assert told[8].dtype == told[10].dtype == torch.float16
    assert told[12].dtype == told[16].dtype == torch.float32
    assert engine.for_images(levels(10)).dtype == torch.float32
    assert (lost(engine, 10), lost(told[10], 10), lost(engine, 16)) == (0, 0, 0)
    assert lost(told[10], 12) > 0  # so it was float16
    engine.close()
    for closed in (engine, *told.values()):
        with pytest.raises(srfast.SrfastError, match="closed"):
            closed(levels(10))


@pytest.mark.parametrize("again", [copy.copy, lambda e: e])
def test_regions_copies_and_frames_in_a_row(amx: None, again: object) -> None:
    """Each of the engine's ways in takes deep images to float32."""
    network = randomise(NETWORKS["compact_x2_leaky"]())
    engine, exact = again(Engine(Upscaler(network).plan)), Engine(Upscaler(network).plan, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 65536, (1, 40, 56, 3), generator=generator, dtype=torch.int32).to(torch.uint16)
    assert torch.equal(engine(images), exact(images))
    assert torch.equal(engine(images, bgr=True), exact(images, bgr=True))
    assert torch.equal(engine.region(images, 3, 5, 20, 30), exact.region(images, 3, 5, 20, 30))
    assert torch.equal(next(engine.stream([images])), exact(images))
    changed = images.clone()
    changed[:, 10:12, 20:22] = 7
    out = exact(images)
    engine.refresh(changed, images, out)
    assert torch.equal(out, exact(changed))
    frames = SequenceUpscaler(Upscaler(network))
    for frame in (images, changed):
        assert np.array_equal(frames(frame[0].numpy()), exact(frame)[0].numpy())
    assert frames.statistics.saved > 0


def make_clip(path: Path, pix_fmt: str) -> None:
    """Two frames of random samples, without loss."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("ffv1", rate=25)
        video.width, video.height, video.pix_fmt = 48, 32, pix_fmt
        for index in range(2):
            frame = av.VideoFrame(48, 32, pix_fmt)
            bits = frame.format.components[0].bits
            for number, plane in enumerate(frame.planes):
                kind = np.uint16 if bits > 8 else np.uint8
                values = np.random.default_rng(10 * index + number).integers(
                    60, 200, plane.buffer_size // kind(0).itemsize
                )
                plane.update(
                    (values << (bits - 8)).astype(kind) + (np.arange(values.size) % (1 << (bits - 8))).astype(kind)
                )
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))


def samples(path: Path) -> list[bytes]:
    with av.open(str(path)) as c:
        return [bytes(plane) for frame in c.decode(video=0) for plane in frame.planes]


@pytest.mark.parametrize(
    ("pix_fmt", "dtype"), [("yuv444p10le", "float32"), ("gbrp16le", "float32"), ("yuv420p", "bfloat16")]
)
def test_a_video(amx: None, tmp_path: Path, pix_fmt: str, dtype: str) -> None:
    """Its own depth decides, and the result says what was computed in."""
    source = tmp_path / "in.mkv"
    make_clip(source, pix_fmt)
    ours = upscale_video(
        source, tmp_path / "ours.mkv", Upscaler(Twice()), encoding=srfast.Encoding("ffv1", pix_fmt=pix_fmt)
    )
    assert ours.arithmetic["dtype"] == dtype
    exact = Upscaler(Twice(), dtype="fp32")
    upscale_video(source, tmp_path / "exact.mkv", exact, encoding=srfast.Encoding("ffv1", pix_fmt=pix_fmt))
    assert samples(tmp_path / "ours.mkv") == samples(tmp_path / "exact.mkv")
    for frame, other in zip(iter_video(source, Upscaler(Twice())), iter_video(source, exact), strict=True):
        assert np.array_equal(frame.image, other.image)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_image_file_of_16_bits(amx: None, tmp_path: Path, channels: int) -> None:
    model = tmp_path / "model.safetensors"
    srfast.checkpoint.save_checkpoint(randomise(NETWORKS["compact_x2_leaky"]()), model)
    image = np.random.default_rng(0).integers(0, 65536, (20, 24, channels), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "in.png"), image)
    for name, options in (("ours", []), ("exact", ["--dtype", "fp32"]), ("asked", ["--dtype", "bf16"])):
        arguments = ["upscale", str(tmp_path / "in.png"), str(tmp_path / f"{name}.png"), "-m", str(model)]
        assert main([*arguments, *itertools.chain(options)]) == 0
    ours, exact, asked = (
        cv2.imread(str(tmp_path / f"{n}.png"), cv2.IMREAD_UNCHANGED) for n in ("ours", "exact", "asked")
    )
    assert ours.dtype == np.uint16 and np.array_equal(ours, exact) and not np.array_equal(asked, exact)
