"""The backend on GPUs by measurements of whole networks. All files are made up here: no GPU was measured for them."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from srfast.backends import select_backend
from srfast.backends.base import Candidate, Executable, FunctionExecutable
from srfast.backends.gpu.choice import choose
from srfast.backends.measured import network_kind
from srfast.backends.reference import ReferenceBackend
from srfast.capture import capture
from srfast.diagnostics.info import collect
from srfast.engine import Engine
from srfast.errors import SrfastError
from srfast.kernels.configs import networks
from srfast.kernels.configs.networks import KINDS, SIZES, VARIABLE, parse, size_class, written
from srfast.kernels.cuda.config import find_config as find_cuda
from srfast.kernels.triton.config import find_config as find_triton
from srfast.models import SRResNet, SRVGGNetCompact
from srfast.plan import Plan
from srfast.plan.passes import optimise
from srfast.upscaler import Upscaler
from srfast.video import iter_video, upscale_video
from tests.helpers.video.gradients import make_clip

GPU, HALF = torch.device("cuda"), torch.float16
H200 = ("NVIDIA H200", "sm90", "sm9x", "default")


def row(kind: str = "residual", pixels: int = 480 * 270, **seconds: float) -> dict[str, Any]:
    given = {"kind": kind, "network": f"made-up {kind} of {pixels} pixels", "pixels": pixels, "source": "a test"}
    return given | {"seconds": seconds or {"triton": 0.004, "cuda": 0.001}}


def content(*rows: dict[str, Any], gpu: str = "sm90", **more: Any) -> dict[str, Any]:
    return {"format": "srfast gpu 1", "gpu": gpu, "measured": list(rows or [row()])} | more


@pytest.fixture(autouse=True)
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of shipped files, empty; nobody names a file, and ``collect`` looks at nothing else."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    monkeypatch.setattr(networks, "FOLDER", folder)
    monkeypatch.delenv(VARIABLE, raising=False)
    for part in ("_versions", "_devices", "_cpu", "_backends", "_models", "_tools"):
        monkeypatch.setattr(f"srfast.diagnostics.info.{part}", dict)
    return folder


def put(path: Path, *rows: dict[str, Any], **more: Any) -> Path:
    path.write_text(json.dumps(content(*rows, **more)))
    return path


def way(kind: str = "residual", size: str | None = None, **more: Any) -> str | None:
    found = choose(kind, H200, size, **more)
    return None if found is None else found.way


def test_what_ships_is_right() -> None:
    """Whatever lies beside the other configurations can be read, and is of the GPU in its name."""
    for path in (Path(networks.__file__).parent).glob("gpu-*.json"):
        assert f"gpu-{parse(path).gpu}.json".lower().replace(" ", "-") == path.name


def test_sizes() -> None:
    assert [size_class(n) for n in (1, 256 * 256, 256 * 256 + 1, 512 * 512, 512 * 512 + 1, 10**9)] == [
        *2 * ["small"],
        *2 * ["medium"],
        *2 * ["large"],
    ]
    assert list(SIZES) == ["small", "medium", "large"]


def test_entries_of_kind_and_size_decide(shipped: Path) -> None:
    assert way() is None, "without a file nothing is chosen here"
    put(
        shipped / "gpu-sm90.json",
        row("residual", 480 * 270, triton=0.004, gluon=0.003, cuda=0.0010, mixed=0.002),
        row("residual", 960 * 540, triton=0.016, gluon=0.010, cuda=0.0120, mixed=0.011),
        row("plain", 480 * 270, triton=0.002, eager=0.001),
        row("plain", 960 * 540, triton=0.004, cuda=0.002, trunk=0.001),
    )
    assert way("residual", "medium") == "cuda"
    assert way("residual", "large") == "gluon"
    assert way("residual", "small") is None, "nothing of that size was measured"
    assert way("dense", "medium") is None
    assert way("plain", "large") == "trunk"
    assert way("plain", "medium") == "reference", "eager PyTorch is run by the reference backend"
    # Without a size all count, by ratios to Triton: cuda 4 and 1.33, gluon 1.33 and 1.6, geometric means 2.31 and 1.46.
    assert way("residual") == "cuda"
    assert way("residual", "medium", runnable=("triton", "gluon", "reference")) == "gluon"
    assert way("residual", "medium", runnable=("cuda",)) is None, "one alone is no choice"
    found = choose("residual", H200, "medium")
    assert found is not None and "triton takes 4.00 times as long" in found.reason
    assert found.reason.endswith(f"(made-up residual of 129600 pixels; a test); from {shipped / 'gpu-sm90.json'}")


def test_a_less_general_backend_must_be_worth_it(shipped: Path) -> None:
    for other, best in ((0.001 / 1.04, "triton"), (0.001 / 1.06, "cuda"), (0.0011, "triton")):
        put(shipped / "gpu-sm90.json", row(triton=0.001, cuda=other))
        assert way() == best


def test_which_file_counts(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's before shipped ones, the GPU's own before its architecture's; one of another GPU never."""
    put(shipped / "gpu-a.json", row(triton=1.0, mixed=0.5))
    assert way() == "mixed"
    put(shipped / "gpu-z.json", row(triton=1.0, gluon=0.5), gpu="NVIDIA H200")
    assert way() == "gluon"
    put(shipped / "gpu-b.json", row(triton=1.0, eager=0.1), gpu="sm100")
    assert way() == "gluon"
    user = put(tmp_path / "mine.json", row(triton=1.0, cuda=0.5))
    monkeypatch.setenv(VARIABLE, str(user))
    assert way() == "cuda"
    assert way("plain") is None
    put(user, row("plain", triton=1.0, cuda=0.5))
    assert (way("plain"), way("residual")) == ("cuda", "gluon"), "what the user's file lacks, the next one has"
    put(user, gpu="sm100")
    assert way() == "gluon"


def test_a_file_brings_its_kernels(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks run in the kernels that they were measured with; configurations that a user names go before them."""
    before = find_triton(H200, "conv 3x3 64->64"), find_cuda(H200, 64, 64, 3)
    kernels = {
        "cuda": {"conv 3x3 64->64": {"kernel": "wgmma_held", "speedup": 1.5}},
        "triton": {"conv 3x3 64->64": {"warps": 8}},
    }
    put(shipped / "gpu-sm90.json", kernels=kernels)
    assert find_cuda(H200, 64, 64, 3).kernel == "wgmma_held"
    assert find_triton(H200, "conv 3x3 64->64").warps == 8
    assert find_cuda(("sm80", "default"), 64, 64, 3) == before[1]
    user = put(tmp_path / "mine.json", kernels={"cuda": {"conv 3x3 64->64": {"kernel": "wgmma"}}})
    monkeypatch.setenv(VARIABLE, str(user))
    assert find_cuda(H200, 64, 64, 3).kernel == "wgmma"
    assert find_triton(H200, "conv 3x3 64->64").warps == 8
    (tmp_path / "cuda.json").write_text(json.dumps({"default": {"conv": {"kernel": "mma_large"}}}))
    monkeypatch.setenv("SRFAST_CUDA_CONFIGS", str(tmp_path / "cuda.json"))
    assert find_cuda(H200, 64, 64, 3).kernel == "mma_large"
    monkeypatch.delenv("SRFAST_CUDA_CONFIGS")
    for part, find in (("cuda", lambda: find_cuda(H200, 64, 64, 3)), ("triton", lambda: find_triton(H200, "conv"))):
        put(user, kernels={part: {"conv 3x3 64->64": {"wraps": 8}, "conv": {"wraps": 8}}})
        with pytest.raises(ValueError, match=r"configuration has no 'wraps'; it has "):
            find()
        put(user, kernels={part: {"conv 3x3 64->64": {"warps": "8", "speedup": "2"}, "conv": {"warps": "8"}}})
        with pytest.raises(ValueError, match=r"another type|has no 'warps'|has no 'speedup'"):
            find()


BAD: list[tuple[bytes, str]] = [
    (b"", "damaged"),
    (b"\xff\xfe\x00", "damaged"),
    (b"[" * 100_000, "damaged|recursion"),
    (b"[]", "no file of GPU measurements"),
    (json.dumps(content(format="srfast gpu 9")).encode(), "no file of GPU measurements"),
    (json.dumps(content(comment="mine")).encode(), r"the file has an unknown field 'comment'; there are format"),
    (json.dumps(content(gpu="")).encode(), "names no GPU"),
    (json.dumps(content(gpu=90)).encode(), "names no GPU"),
    (json.dumps(content(measured=[])).encode(), "no measurements"),
    (json.dumps(content(measured=[1])).encode(), "has the fields"),
    (json.dumps(content(row() | {"fps": 3})).encode(), "a measurement has an unknown field 'fps'"),
    (json.dumps(content({k: v for k, v in row().items() if k != "pixels"})).encode(), "lacks 'pixels'"),
    (json.dumps(content(row("round"))).encode(), "a kind of plain"),
    (json.dumps(content(row() | {"network": 3})).encode(), "words for kind, network"),
    (json.dumps(content(row(pixels=0))).encode(), "whole number from 1"),
    (json.dumps(content(row() | {"pixels": "9\x1b[2J"})).encode(), r"not '9\\x1b\[2J'"),
    (
        json.dumps(content(row(tensorrt=1.0))).encode(),
        "seconds has an unknown field 'tensorrt'; there are triton, gluon",
    ),
    (json.dumps(content(row(triton=0.0))).encode(), "positive"),
    (json.dumps(content(row(triton=float("nan")))).encode(), "positive"),
    (json.dumps(content(row(triton=True))).encode(), "positive"),
    (json.dumps(content(row() | {"seconds": {}})).encode(), "seconds by the way"),
    (json.dumps(content(kernels={"opencl": {}})).encode(), "unknown field 'opencl'; there are cuda, triton"),
    (json.dumps(content(kernels={"cuda": {"conv": 3}})).encode(), "tables by the shape"),
    (b" " * (1 << 20) + json.dumps(content()).encode(), "too large"),
]


@pytest.mark.parametrize(("data", "says"), BAD, ids=[says[:24] for _, says in BAD])
def test_a_file_that_cannot_be_used(
    data: bytes, says: str, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """It is named, once, in one line that says what is wrong; the next file counts."""
    put(shipped / "gpu-sm90.json", row(triton=1.0, mixed=0.5))
    path = tmp_path / "mine.json"
    path.write_bytes(data)
    monkeypatch.setenv(VARIABLE, str(path))
    assert way() == way() == "mixed"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    line = caplog.records[0].getMessage()
    assert line.isprintable() and len(line) < 700 and str(path) in line and VARIABLE in line
    problem = networks.problem()
    assert problem is not None and re.search(says, problem), problem
    assert collect().gpu["measured"].endswith(problem)
    path.write_text(json.dumps(content(row(triton=1.0, cuda=0.5))))
    assert way() == "cuda", "a file that was mended counts"
    assert networks.problem() is None


def test_a_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, says in (("none.json", "there is no such file"), ("", "it is no file")):
        monkeypatch.setenv(VARIABLE, str(tmp_path / name))
        assert way() is None
        assert says in (networks.problem() or "")


def test_written_files_are_read(tmp_path: Path) -> None:
    path = put(tmp_path / "a.json", row(), row("plain", 7, eager=2.0), kernels={"cuda": {"conv": {"kernel": "mma"}}})
    again = tmp_path / "b.json"
    again.write_text(written(parse(path)))
    assert replace(parse(again), path=path) == parse(path)


class Fake:
    """A backend that runs what it is told to run."""

    def __init__(self, name: str, reasons: list[str]) -> None:
        self.name, self.reasons = name, reasons

    def device_reasons(self, device: torch.device, dtype: torch.dtype) -> list[str]:
        return []

    def not_supported_reasons(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> list[str]:
        return self.reasons


@pytest.fixture
def on_h200(monkeypatch: pytest.MonkeyPatch) -> list[Candidate]:
    """``select_backend`` sees an H200; its candidates may be changed."""
    names = ("triton", "gluon", "cuda", "mixed", "cpu", "reference")
    candidates: list[Any] = [Fake(name, ["it runs on CPUs"] if name == "cpu" else []) for name in names]
    monkeypatch.setattr("srfast.backends.BACKENDS", candidates)
    monkeypatch.setattr("srfast.backends.device_names", lambda device: H200)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return candidates


def plan_of(network: torch.nn.Module) -> Plan:
    return optimise(capture(network.eval()))


def test_auto_follows_the_file(
    shipped: Path, on_h200: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By kind and size where it has an entry, as before where not, and never to a backend that cannot run the plan."""
    residual = plan_of(SRResNet(4, channels=16, num_blocks=2))
    plain = plan_of(SRVGGNetCompact(num_feat=16, num_conv=1, upscale=2))
    assert (network_kind(residual), network_kind(plain)) == ("residual", "plain")

    def chosen(plan: Plan, pixels: int | None = None) -> str:
        return select_backend(plan, GPU, HALF, "auto", pixels).name

    assert chosen(residual) == chosen(plain) == "triton"
    put(
        shipped / "gpu-sm90.json",
        row("residual", 480 * 270, triton=0.004, gluon=0.003, cuda=0.001, mixed=0.002),
        row("residual", 960 * 540, triton=0.016, gluon=0.010, cuda=0.0120),
    )
    with caplog.at_level(logging.INFO, "srfast"):
        assert chosen(residual, 640 * 360) == "cuda"
    assert "backend cuda (triton takes 4.00 times as long, gluon takes 3.00" in caplog.text
    assert str(shipped / "gpu-sm90.json") in caplog.text
    assert chosen(residual, 1920 * 1080) == "gluon"
    assert chosen(residual) == "cuda"
    assert chosen(residual, 64 * 64) == "triton", "no entry of that size"
    assert chosen(plain, 640 * 360) == "triton", "no entry of that kind"
    monkeypatch.setattr("srfast.backends.preferred", lambda plan, names: "mixed")
    assert chosen(plain, 640 * 360) == "mixed", "without an entry single convolutions decide"
    on_h200[2].reasons = ["it was not compiled"]
    assert chosen(residual, 640 * 360) == "mixed", "the fastest of those that run it"
    assert select_backend(residual, GPU, HALF, "triton").name == "triton"


def test_info_says_which_file_decided(shipped: Path, on_h200: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srfast.diagnostics.info.default_device", lambda: GPU)
    monkeypatch.setattr("srfast.diagnostics.info.device_names", lambda device: H200)
    assert collect().gpu == {"measured": "no file of this GPU: single convolutions decide, without them Triton"}
    path = put(shipped / "gpu-sm90.json", row("dense", 960 * 540, triton=1.0, mixed=0.5))
    found = collect().gpu
    assert set(found) == {"dense, large", "measured"}
    assert found["dense, large"].startswith("mixed: triton takes 2.00 times as long")
    assert found["measured"] == f"by {path}"
    put(path, row(triton=1.0, mixed=0.5), gpu="sm100")
    assert collect().gpu == {"measured": "no file of this GPU: single convolutions decide, without them Triton"}


class Noting(Fake):
    """The reference backend under another name, which notes the sizes that it runs."""

    def __init__(self, name: str) -> None:
        super().__init__(name, [])
        self.ran: list[tuple[int, int]] = []

    def compile(self, plan: Plan, device: torch.device, dtype: torch.dtype) -> Executable:
        run = ReferenceBackend().compile(plan, device, dtype)

        def noted(x: torch.Tensor) -> torch.Tensor:
            self.ran.append((x.shape[2], x.shape[3]))
            return run(x)

        return FunctionExecutable(noted, run.traits)


@pytest.fixture
def two_sizes(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Noting, Noting]:
    """Two backends, the first of them faster on small frames and the second on medium ones, as on an H200."""
    put(
        shipped / "gpu-sm90.json",
        row("plain", 64 * 64, triton=0.001, cuda=0.002),
        row("plain", 480 * 270, triton=0.004, cuda=0.001),
    )
    backends = Noting("triton"), Noting("cuda")
    monkeypatch.setattr("srfast.backends.BACKENDS", backends)
    monkeypatch.setattr("srfast.backends.device_names", lambda device: H200)
    monkeypatch.setattr("srfast.backends._sees_gpu", lambda device: True)
    return backends


SMALL, MEDIUM = (48, 64), (264, 272)  # height and width


def test_each_image_goes_by_its_size(two_sizes: tuple[Noting, Noting], caplog: pytest.LogCaptureFixture) -> None:
    """Also regions, which are parts of a whole; not where a backend or tiles were asked for."""
    plan = plan_of(SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2))
    images = {size: torch.zeros(1, *size, 3, dtype=torch.uint8) for size in (SMALL, MEDIUM)}

    def ran(engine: Engine) -> dict[tuple[int, int], list[str]]:
        found = {}
        for size, image in images.items():
            for backend in two_sizes:
                backend.ran.clear()
            engine(image)
            engine.region(image, 3, 5, 7, 9)
            found[size] = [backend.name for backend in two_sizes for _ in backend.ran]
        return found

    with caplog.at_level(logging.INFO, "srfast"), Engine(plan, device="cpu", dtype=torch.float32) as engine:
        assert engine.backend.name == "cuda", "the faster one of all sizes"
        assert ran(engine) == {SMALL: ["triton"] * 2, MEDIUM: ["cuda"] * 2}
        assert engine.statistics.images == 4
        assert [engine.for_frames(8, *size).backend.name for size in images] == ["triton", "cuda"]
    assert "backend triton (cuda takes 2.00 times as long" in caplog.text
    with pytest.raises(SrfastError, match="closed"):
        engine(images[SMALL])
    for options, name in (({"backend": "triton"}, "triton"), ({"tile": 300}, "cuda"), ({"tile": 96}, "triton")):
        with Engine(plan, device="cpu", dtype=torch.float32, memory=1 << 40, **options) as engine:  # type: ignore[arg-type]
            assert {one for names in ran(engine).values() for one in names} == {name}, options


def test_a_video_goes_by_its_size(two_sizes: tuple[Noting, Noting], tmp_path: Path) -> None:
    """Written and iterated over; the result says which backend it was."""
    for (height, width), name in ((SMALL, "triton"), (MEDIUM, "cuda")):
        source = make_clip(tmp_path / f"{name}.mkv", [0, 40], size=(width, height))
        with Upscaler(SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2), device="cpu", dtype="fp32") as upscaler:
            found = upscale_video(source, tmp_path / f"large-{name}.mkv", upscaler)
            assert found.arithmetic["backend"] == name
            assert [backend.name for backend in two_sizes if backend.ran] == [name]
            assert len(list(iter_video(source, upscaler))) == 2
            assert [backend.name for backend in two_sizes if backend.ran] == [name]
        for backend in two_sizes:
            backend.ran.clear()


def test_an_engine_with_tiles_knows_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles are the frames that the backend gets; without them each image says it."""
    asked: list[int | None] = []

    def select(plan: Plan, device: torch.device, dtype: torch.dtype, backend: Any, pixels: int | None = None) -> Any:
        asked.append(pixels)
        return select_backend(plan, device, dtype, backend, pixels)

    monkeypatch.setattr("srfast.engine.runner.select_backend", select)
    plan = plan_of(SRVGGNetCompact(num_feat=8, num_conv=1, upscale=2))
    for tile in (None, 0, 96):
        Engine(plan, device="cpu", dtype=torch.float32, tile=tile)
    assert asked == [None, None, 96 * 96]


def test_every_kind_has_a_word_in_the_documents() -> None:
    text = (Path(__file__).parents[3] / "docs" / "backends.md").read_text()
    assert all(f"`{word}`" in text for word in (*KINDS, *SIZES, VARIABLE))
