"""ncnn files with random weights, written from the format's description."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

TAGS = {"fp32": 0, "raw": 0x0002C056, "fp16": 0x01306B47, "bf16": 0x01348B83, "int8": 0x000D4B38, "table": 0x00000101}


class Writer:
    """Lines of a .param file and bytes of its .bin.

    Args:
        seed: of the weights.
        tag: type of the weights of convolutions, one of ``TAGS``.

    Attributes:
        stored: weight and bias of every convolution, as a reader has to see them.
    """

    def __init__(self, seed: int, tag: str = "fp32") -> None:
        self.random = np.random.default_rng(seed)
        self.tag = tag
        self.lines: list[str] = []
        self.data = b""
        self.stored: list[tuple[Tensor, Tensor]] = []

    def add(self, kind: str, inputs: list[str], outputs: list[str], params: dict[int, Any] | None = None) -> None:
        """A layer without weights; a parameter that is a list is an array with its length."""
        words = [f"{k}={','.join(map(str, v)) if isinstance(v, list) else v}" for k, v in (params or {}).items()]
        names = [*inputs, *outputs]
        name = f"{kind.lower()}_{len(self.lines)}" if kind != "Input" else "in"
        self.lines.append(" ".join([kind, name, str(len(inputs)), str(len(outputs)), *names, *words]))

    def conv(
        self,
        x: str,
        y: str,
        channels: int,
        out: int,
        kernel: int,
        padding: int = 0,
        groups: int = 1,
        activation: tuple[int, list[float]] = (0, []),
    ) -> None:
        """A convolution with a bias."""
        shape = (out, channels // groups, kernel, kernel)
        weight = (self.random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype("<f4")
        bias = self.random.standard_normal(out).astype("<f4") * np.float32(0.1)
        kind = "ConvolutionDepthWise" if groups > 1 else "Convolution"
        words = [f"0={out}", f"1={kernel}", f"4={padding}", "5=1", f"6={weight.size}"]
        words += [f"7={groups}"] if groups > 1 else []
        words += ["8=1"] if self.tag == "int8" else []
        words += [f"9={activation[0]}"] if activation[0] else []
        words += [f"-23310={len(activation[1])},{','.join(map(str, activation[1]))}"] if activation[1] else []
        number = len(self.stored) + 1
        self.lines.append(" ".join([kind, f"conv{number}", "1 1", x, y, *words]))
        payload, seen, scales = self._encoded(weight)
        self.data += struct.pack("<I", TAGS[self.tag]) + payload + b"\0" * (-len(payload) % 4) + bias.tobytes() + scales
        self.stored.append((torch.from_numpy(seen.astype("f4").copy()), torch.from_numpy(bias.copy())))

    def _encoded(self, weight: Any) -> tuple[bytes, Any, bytes]:
        """Bytes, what they stand for, and scales that follow the bias."""
        if self.tag == "fp16":
            half = weight.astype("<f2")
            return half.tobytes(), half, b""
        if self.tag == "bf16":
            bits = (weight.view("<u4") >> 16).astype("<u2")
            return bits.tobytes(), (bits.astype("<u4") << 16).view("<f4"), b""
        if self.tag == "int8":
            scale = 127 / np.abs(weight.reshape(len(weight), -1)).max(1).astype("<f4")
            whole = np.round(weight * scale[:, None, None, None]).astype("i1")
            return whole.tobytes(), whole / scale[:, None, None, None], scale.tobytes() + np.float32(1).tobytes()
        if self.tag == "table":
            table = np.linspace(weight.min(), weight.max(), 256).astype("<f4")
            index = np.abs(weight.reshape(-1, 1) - table).argmin(1).astype("u1")
            return table.tobytes() + index.tobytes(), table[index].reshape(weight.shape), b""
        return weight.tobytes(), weight, b""

    def plain(self, kind: str, x: str, y: str, params: dict[int, Any], counts: list[int]) -> None:
        """A layer with float32 vectors without tags."""
        self.add(kind, [x], [y], params)
        for count in counts:  # a negative one counts numbers around 0 rather than above
            values = self.random.standard_normal(abs(count)).astype("<f4") * np.float32(0.2)
            self.data += (values if count < 0 else np.abs(values) + np.float32(0.5)).astype("<f4").tobytes()

    def text(self) -> bytes:
        blobs = sum(int(line.split()[3]) for line in self.lines)
        return "\n".join(["7767517", f"{len(self.lines)} {blobs}", *self.lines, ""]).encode()

    def numbers(self) -> bytes:
        return self.data

    def write(self, path: Path) -> Path:
        """Both files; returns the .param file's path."""
        path.write_bytes(self.text())
        path.with_suffix(".bin").write_bytes(self.data)
        return path
