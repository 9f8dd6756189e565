"""ComfyUI's nodes, called as ComfyUI calls them: by their tables, with keyword arguments. float32 on the CPU."""

from __future__ import annotations

import importlib.util
import inspect
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from srfast import Upscaler, __version__
from srfast.comfyui import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from srfast.errors import InputError, OutputError
from tests.helpers.video.children import save_tiny, tiny, tiny_network

FOLDER = Path(__file__).parents[1] / "examples" / "comfyui"


def call(node: str, **inputs: Any) -> Any:
    """A node's results, after the checks that ComfyUI makes: every input has the type that the node says."""
    kind = NODE_CLASS_MAPPINGS[node]
    types_of = kind.INPUT_TYPES()
    known = {**types_of["required"], **types_of.get("optional", {})}
    assert set(inputs) <= set(known)
    assert set(types_of["required"]) <= set(inputs)
    for name, value in inputs.items():
        offered = known[name][0]
        assert not isinstance(offered, list) or value in offered
    results = getattr(kind(), kind.FUNCTION)(**inputs)
    assert isinstance(results, tuple)
    assert len(results) == len(kind.RETURN_TYPES)
    return results


@pytest.fixture
def model() -> Upscaler:
    return Upscaler(tiny_network(), device="cpu", dtype="fp32")


@pytest.fixture
def comfy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> types.SimpleNamespace:
    """Stands for ComfyUI's modules, with the names that the nodes use of them."""
    state = types.SimpleNamespace(bars=[], interrupt_after=None, checks=0)

    class ProgressBar:
        def __init__(self, total: int) -> None:
            self.total, self.values = total, []
            state.bars.append(self)

        def update_absolute(self, value: int, total: int | None = None, preview: Any = None) -> None:
            self.values.append((value, total))

    class Interrupted(BaseException):
        pass

    def throw_exception_if_processing_interrupted() -> None:
        state.checks += 1
        if state.interrupt_after is not None and state.checks > state.interrupt_after:
            raise Interrupted

    (tmp_path / "upscale_models").mkdir()
    state.Interrupted = Interrupted
    utils = types.SimpleNamespace(ProgressBar=ProgressBar)
    management = types.SimpleNamespace(
        throw_exception_if_processing_interrupted=throw_exception_if_processing_interrupted
    )
    paths = types.SimpleNamespace(
        get_filename_list=lambda kind: sorted(p.name for p in (tmp_path / kind).iterdir()),
        get_full_path=lambda kind, name: str(tmp_path / kind / name),
        get_output_directory=lambda: str(tmp_path / "output"),
    )
    for name, module in {
        "comfy": types.SimpleNamespace(utils=utils, model_management=management),
        "comfy.utils": utils,
        "comfy.model_management": management,
        "folder_paths": paths,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    return state


def clip(path: Path, frames: int = 8) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv444p"
        for i in range(frames):
            image = np.random.default_rng(i).integers(0, 256, (24, 32, 3), dtype=np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv444p")))
        out.mux(stream.encode(None))
    return path


def count(path: Path) -> int:
    with av.open(str(path)) as file:
        return sum(1 for _ in file.decode(video=0))


def test_the_folder_is_a_node_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ComfyUI imports the folder under its whole path, whose dots it replaces, and reads two tables."""
    folder = shutil.copytree(FOLDER, tmp_path / "custom_nodes" / "srfast")
    name = str(folder).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    assert module.NODE_CLASS_MAPPINGS is NODE_CLASS_MAPPINGS
    assert set(module.NODE_DISPLAY_NAME_MAPPINGS) == set(NODE_CLASS_MAPPINGS)


def test_what_the_registry_reads() -> None:
    """The keys of its specification; a name there has no 'ComfyUI' in it."""
    text = (FOLDER / "pyproject.toml").read_text()
    assert f'version = "{__version__}"' in text
    assert 'name = "srfast"' in text
    assert 'license = {text = "Apache-2.0"}' in text
    assert "[tool.comfy]" in text and 'DisplayName = "srfast"' in text
    requirements = (FOLDER / "requirements.txt").read_text().split()
    assert 'dependencies = ["srfast"]' in text and requirements == ["srfast"]
    described = (FOLDER / "README.md").read_text()
    assert all(name in described for name in NODE_DISPLAY_NAME_MAPPINGS.values())


def test_a_file_that_changed_is_done_again(comfy: types.SimpleNamespace, tmp_path: Path) -> None:
    """ComfyUI keeps results of the same inputs, and asks the node about what lies behind a path; wires it gives as None."""
    path = tmp_path / "in.mp4"
    video, load = NODE_CLASS_MAPPINGS["SrfastUpscaleVideo"], NODE_CLASS_MAPPINGS["SrfastLoadModel"]
    for content in (b"a", b"bc"):
        path.write_bytes(content)
        told = video.IS_CHANGED(model=None, source=f" {path} ", target="out.mp4")
        assert told == video.IS_CHANGED(model=None, source=str(path), target="out.mp4", codec="auto")
        assert told == load.IS_CHANGED(name="compact_x2", dtype="auto", path=str(path))
        (tmp_path / "upscale_models" / "mine.pth").write_bytes(content)
        by_name = load.IS_CHANGED(name="mine.pth", dtype="auto")
        assert by_name and by_name != told
        if content == b"a":
            before = told, by_name
    assert told != before[0] and by_name != before[1]
    assert video.IS_CHANGED(model=None, source="no\0file", target="") == load.IS_CHANGED(name="compact_x2") == ""


@pytest.mark.parametrize("name", NODE_CLASS_MAPPINGS)
def test_what_comfyui_reads_of_a_node(name: str) -> None:
    kind = NODE_CLASS_MAPPINGS[name]
    inputs = kind.INPUT_TYPES()
    function = inspect.signature(getattr(kind, kind.FUNCTION))
    assert set(inputs) <= {"required", "optional"}
    for offered, needed in ((inputs["required"], True), (inputs.get("optional", {}), False)):
        for key, (wire, *_) in offered.items():
            assert isinstance(wire, (str, list))
            assert needed or function.parameters[key].default is not inspect.Parameter.empty
    assert isinstance(kind.RETURN_TYPES, tuple)
    assert kind.CATEGORY == "srfast"
    assert NODE_DISPLAY_NAME_MAPPINGS[name]


def test_load(comfy: types.SimpleNamespace, tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "upscale_models" / "tiny.safetensors")
    assert "tiny.safetensors" in NODE_CLASS_MAPPINGS["SrfastLoadModel"].INPUT_TYPES()["required"]["name"][0]
    (found,) = call("SrfastLoadModel", name="tiny.safetensors", dtype="fp32", device="cpu")
    assert (found.name, found.scale) == ("tiny", 2)
    (by_path,) = call("SrfastLoadModel", name="compact_x4", dtype="auto", path=path, device="cpu")
    assert by_path.fingerprint == found.fingerprint


def test_load_outside_of_comfyui() -> None:
    (found,) = call("SrfastLoadModel", name="compact_x2", dtype="fp32", device="cpu")
    assert found.name == "compact_x2"


@pytest.mark.parametrize("channels", [3, 4])
def test_images(channels: int, model: Upscaler, comfy: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    images = torch.rand(3, 13, 17, channels) * 1.2 - 0.1  # decoders leave values outside of 0..1
    taken: list[int] = []
    run = Upscaler.__call__

    def spy(self: Upscaler, frame: Any) -> Any:
        taken.append(frame.numel())
        return run(self, frame)

    monkeypatch.setattr(Upscaler, "__call__", spy)
    (out,) = call("SrfastUpscaleImages", model=model, images=images)
    assert out.dtype == torch.float32
    assert out.shape == (3, 26, 34, channels)
    assert taken == [13 * 17 * channels] * 3  # one image at a time, not the batch
    assert len(comfy.bars) == 1
    assert comfy.bars[0].values == [(1, 3), (2, 3), (3, 3)]
    for image, large in zip(images, out, strict=True):
        expected = run(model, image.clamp(0, 1).permute(2, 0, 1).contiguous()).permute(1, 2, 0)
        assert torch.equal(large, expected)


def test_an_interruption_ends_a_batch(model: Upscaler, comfy: types.SimpleNamespace) -> None:
    comfy.interrupt_after = 2
    with pytest.raises(comfy.Interrupted):
        call("SrfastUpscaleImages", model=model, images=torch.rand(4, 8, 8, 3))
    assert comfy.bars[0].values == [(1, 4), (2, 4)]


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 8, 8, 2), torch.zeros(8, 8, 3), torch.zeros(0, 8, 8, 3), torch.zeros(1, 8, 8, 3).byte()]
)
def test_other_images_are_refused(images: torch.Tensor, model: Upscaler) -> None:
    with pytest.raises(InputError, match=r"images are \[B, H, W, 3\]"):
        call("SrfastUpscaleImages", model=model, images=images)


def test_video(comfy: types.SimpleNamespace, tmp_path: Path) -> None:
    source, target = clip(tmp_path / "in.mp4"), tmp_path / "out.mkv"
    assert call("SrfastUpscaleVideo", model=tiny(), source=str(source), target=str(target)) == (str(target),)
    with av.open(str(target)) as file:
        assert (file.streams.video[0].width, file.streams.video[0].height) == (64, 48)
    assert count(target) == 8
    assert comfy.bars[0].values[-1] == (8, 8)
    with pytest.raises(OutputError, match="exists"):
        call("SrfastUpscaleVideo", model=tiny(), source=str(source), target=str(target))
    call("SrfastUpscaleVideo", model=tiny(), source=str(source), target=str(target), overwrite=True, codec="ffv1")
    (tmp_path / "output").mkdir()
    (path,) = call("SrfastUpscaleVideo", model=tiny(), source=str(source), target="", crf=30.0)
    assert path == str(tmp_path / "output" / "in_x2.mp4")
    with pytest.raises(InputError, match="needs the path"):
        call("SrfastUpscaleVideo", model=tiny(), source=" ", target="")


def test_an_interrupted_video_goes_on(comfy: types.SimpleNamespace, tmp_path: Path) -> None:
    source, target = clip(tmp_path / "in.mp4", 30), tmp_path / "out.mkv"
    comfy.interrupt_after = 12
    with pytest.raises(comfy.Interrupted):
        call("SrfastUpscaleVideo", model=tiny(), source=str(source), target=str(target))
    assert not target.exists()
    comfy.interrupt_after = None
    call("SrfastUpscaleVideo", model=tiny(), source=str(source), target=str(target))
    assert count(target) == 30
