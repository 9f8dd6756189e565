"""Other runtimes (the ``bench`` extra): each takes the same module and image, and says why where it cannot."""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.sampling import Run

# Images in flight at once in OpenVINO's throughput mode.
STREAMS = 4


class MissingError(Exception):
    """A contender that cannot run here; the text is the reason that the record gives."""


def require(name: str) -> Any:
    """The module of that name.

    Raises:
        MissingError: it cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingError(f"not installed: {error}") from error


def openvino_run(module: nn.Module, x: Tensor, *, precision: str, hint: str) -> Run:
    """OpenVINO on as many threads as PyTorch uses; with the throughput hint, ``STREAMS`` images are submitted together."""
    ov = require("openvino")
    options = {
        "PERFORMANCE_HINT": hint,
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    if hint == "THROUGHPUT":
        options["PERFORMANCE_HINT_NUM_REQUESTS"] = STREAMS
    model = ov.convert_model(module, example_input=x, input=[tuple(x.shape)])
    compiled = ov.Core().compile_model(model, "CPU", options)
    image = x.numpy()
    if hint == "LATENCY":
        return lambda: compiled(image)[0]
    requests = [compiled.create_infer_request() for _ in range(STREAMS)]

    def run() -> Any:
        for request in requests:
            request.start_async(image, share_inputs=True)
        for request in requests:
            request.wait()
        return requests[0].get_output_tensor(0).data

    return run


def onnxruntime_run(module: nn.Module, x: Tensor) -> Run:
    """ONNX Runtime's CPU provider, all graph optimisations."""
    ort = require("onnxruntime")
    require("onnx")
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = ort.InferenceSession(onnx_bytes(module, x), options, providers=["CPUExecutionProvider"])
    feed = {"x": x.numpy()}
    return lambda: session.run(None, feed)[0]


def onnx_bytes(module: nn.Module, x: Tensor) -> bytes:
    """The module as ONNX for images of x's size."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        torch.onnx.export(module, (x,), path, dynamo=False, input_names=["x"], output_names=["y"])
        return path.read_bytes()


def ncnn_run(module: nn.Module, x: Tensor) -> Run:
    """ncnn on the CPU, converted by pnnx, float32 storage and arithmetic."""
    ncnn, pnnx = require("ncnn"), require("pnnx")
    wide = max((m.kernel_size[0] for m in module.modules() if isinstance(m, nn.Conv2d)), default=1)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "network"
        pnnx.export(module, str(base.with_suffix(".pt")), (x,), fp16=False)
        if not base.with_suffix(".ncnn.param").exists():
            raise MissingError("pnnx could not convert the network")
        net = ncnn.Net()
        net.opt.num_threads = torch.get_num_threads()
        for option in ("use_fp16_arithmetic", "use_fp16_packed", "use_fp16_storage"):
            setattr(net.opt, option, False)
        # Its matrix form of a 9x9 convolution copies the image 81 times: 11 GB behind SRResNet x4 at 240x136. Without, a 9x9
        # convolution 64-3 at 480x272 took 0.24 s instead of 1.7 s, and 2.6 GB less.
        net.opt.use_sgemm_convolution = wide <= 5
        if net.load_param(str(base.with_suffix(".ncnn.param"))) or net.load_model(str(base.with_suffix(".ncnn.bin"))):
            raise MissingError("ncnn could not load what pnnx wrote")
    image = ncnn.Mat(np.ascontiguousarray(x[0].numpy()))

    def run() -> Any:
        extractor = net.create_extractor()
        extractor.input("in0", image)
        failed, out = extractor.extract("out0")
        if failed:
            raise MissingError(f"ncnn could not run the network (code {failed})")
        return np.array(out)[None]

    run()
    return run


def cudnn_fused_run(module: nn.Module, x: Tensor) -> Run:
    """cuDNN's one-call convolution + bias + ReLU, or + add + ReLU, where the module is one of these operations."""
    last = list(module.modules())[-1]
    conv = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
    convolutions = sum(isinstance(m, nn.Conv2d) for m in module.modules())
    if conv is None or convolutions > 1 or not isinstance(last, nn.ReLU) or x.device.type != "cuda":
        raise MissingError("cuDNN fuses a single convolution with an addition and a ReLU only")
    weight = conv.weight.detach().to(x.device, torch.float16).contiguous(memory_format=torch.channels_last)
    assert conv.bias is not None
    bias = conv.bias.detach().to(x.device, torch.float16)
    image = x.half().contiguous(memory_format=torch.channels_last)
    sizes: tuple[Any, ...] = (conv.stride, conv.padding, conv.dilation, conv.groups)
    if isinstance(module, nn.Sequential):
        return lambda: torch.cudnn_convolution_relu(image, weight, bias, *sizes)
    return lambda: torch.cudnn_convolution_add_relu(image, weight, image, 1.0, bias, *sizes)


def tensorrt_run(module: nn.Module, x: Tensor) -> Run:
    """TensorRT through its ONNX parser, float16."""
    trt = require("tensorrt")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    half = module.half().to(x.device)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx_bytes(half, x.half())):
        raise MissingError(f"TensorRT cannot parse the network: {parser.get_error(0)}")
    engine = trt.Runtime(logger).deserialize_cuda_engine(
        builder.build_serialized_network(network, builder.create_builder_config())
    )
    context = engine.create_execution_context()
    image = x.half().contiguous()
    out = torch.empty(tuple(engine.get_tensor_shape("y")), dtype=torch.float16, device=x.device)
    context.set_tensor_address("x", image.data_ptr())
    context.set_tensor_address("y", out.data_ptr())
    context.infer_shapes()

    def run() -> Tensor:
        context.execute_async_v3(torch.cuda.current_stream().cuda_stream)
        return out

    return run
