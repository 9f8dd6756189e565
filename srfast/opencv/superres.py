"""``cv2.dnn_superres`` without opencv-contrib: the same eight methods on srfast's engines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from srfast.capture import capture
from srfast.devices import usable_device
from srfast.engine import Engine
from srfast.errors import CheckpointError, InputError
from srfast.images.arrays import Array, check_mask
from srfast.opencv.networks import load
from srfast.plan.passes import optimise
from srfast.upscaler import Upscaler

ALGORITHMS = ("edsr", "espcn", "fsrcnn", "lapsrn")


class DnnSuperResImpl:
    """Super resolution with OpenCV's interface.

    ``readModel`` takes the .pb files of OpenCV's ESPCN, FSRCNN and LapSRN, and everything that ``srfast.load`` takes. As in
    OpenCV the first three see the luma only, and the chroma is resized; other models see the colours.

    Examples:
        sr = DnnSuperResImpl_create()
        sr.readModel("ESPCN_x4.pb")
        sr.setModel("espcn", 4)
        large = sr.upsample(image)
    """

    def __init__(self, algo: str = "", scale: int = 0) -> None:
        self._path: Path | None = None
        self._algorithm, self._scale = "", 0
        self._luma: dict[int, Engine] = {}
        self._colour: Upscaler | None = None
        self._device: str | None = None
        if algo:
            self.setModel(algo, scale)

    @staticmethod
    def create() -> DnnSuperResImpl:
        """A new one, without a model."""
        return DnnSuperResImpl()

    def readModel(self, path: str | os.PathLike[str], definition: str | None = None) -> None:  # noqa: N802
        """Names the model's file, or a model that srfast ships.

        Raises:
            CheckpointError: there is no such file.
        """
        named = Path(path)
        if named.suffix == ".pb" and not named.is_file():  # the model before stays, as in OpenCV
            raise CheckpointError(f"{path} is missing")
        self._path = named
        self._luma, self._colour = {}, None

    def setModel(self, algo: str, scale: int) -> None:  # noqa: N802
        """Says what the file holds: 'edsr', 'espcn', 'fsrcnn', 'lapsrn', or any name for srfast's own; and its scale."""
        if scale < 1:
            raise InputError(f"the scale must be positive, not {scale}")
        self._algorithm, self._scale = algo.lower(), int(scale)
        self._luma, self._colour = {}, None

    def setPreferableBackend(self, backendId: int) -> None:  # noqa: N802, N803
        """Accepted for OpenCV's sake: srfast chooses the fastest backend that can run the model.

        Raises:
            InputError: no model was read before.
        """
        self._require()

    def setPreferableTarget(self, targetId: int) -> None:  # noqa: N802, N803
        """The CPU or, for OpenCV's CUDA targets, the GPU.

        Raises:
            InputError: no model was read before.
            BackendError: there is no GPU.
        """
        self._require()
        cuda = {getattr(cv2.dnn, name, None) for name in ("DNN_TARGET_CUDA", "DNN_TARGET_CUDA_FP16")}
        self._device = str(usable_device("cuda" if targetId in cuda else "cpu"))
        self._luma, self._colour = {}, None

    def getScale(self) -> int:  # noqa: N802
        """The scale that was set."""
        return self._scale

    def getAlgorithm(self) -> str:  # noqa: N802
        """The algorithm that was set."""
        return self._algorithm

    def upsample(self, img: Array, result: Array | None = None) -> Array:
        """Upscales an image.

        Args:
            img: [H, W, 3] BGR or [H, W] gray, uint8.
            result: filled with the result if it has its shape and type.

        Returns:
            The same kind of image, ``scale`` times as large.

        Raises:
            InputError: no model, or another kind of image.
        """
        self._require()
        out = self._upsample(img, self._scale)
        if result is not None and result.shape == out.shape and result.dtype == out.dtype:
            result[...] = out
        return out

    def upsampleMultioutput(  # noqa: N802
        self, img: Array, imgs_new: list[Array] | None, scale_factors: Sequence[int], node_names: Sequence[str]
    ) -> list[Array]:
        """Upscales an image by several factors with one LapSRN.

        OpenCV's own returns None in Python; this one returns the images and also puts them into ``imgs_new``.

        Args:
            img: as for ``upsample``.
            imgs_new: a list that gets the results; may be None.
            scale_factors: such as [2, 4], none above the model's.
            node_names: the graph's names of these outputs, one for each factor.

        Raises:
            InputError: the model is no LapSRN, or the lists do not match.
        """
        self._require()
        if self._algorithm != "lapsrn":
            raise InputError(f"only LapSRN has several outputs, not {self._algorithm}")
        if len(scale_factors) != len(node_names) or not scale_factors:
            raise InputError(f"{len(scale_factors)} scale factors for {len(node_names)} node names")
        if max(scale_factors) > self._scale or min(scale_factors) < 1:
            raise InputError(f"the model enlarges up to x{self._scale}, not {list(scale_factors)}")
        results = [self._upsample(img, factor) for factor in scale_factors]
        if imgs_new is not None:
            imgs_new[:] = results
        return results

    def _require(self) -> Path:
        if self._path is None:
            raise InputError("read a model first: readModel(path), then setModel(algorithm, scale)")
        return self._path

    def _upsample(self, img: Array, scale: int) -> Array:
        path = self._require()
        _check(img, (3,) if path.suffix == ".pb" else (3, 4))
        if not self._scale:
            raise InputError("say which model it is first: setModel(algorithm, scale)")
        if path.suffix == ".pb":
            if self._algorithm not in ALGORITHMS:
                raise InputError(f"the algorithm must be one of {', '.join(ALGORITHMS)}, not {self._algorithm!r}")
            return self._by_luma(img, scale)
        if self._colour is None:
            name = str(path)
            self._colour = Upscaler(name, outscale=scale, device=self._device)
        return np.asarray(self._colour(img))

    def _by_luma(self, img: Array, scale: int) -> Array:
        engine = self._luma.get(scale)
        if engine is None:
            engine = self._luma[scale] = _engine(self._require(), self._algorithm, scale, self._device)
        if img.ndim == 2:
            return _run(engine, img)
        y, cr, cb = cv2.split(cv2.cvtColor(img, cv2.COLOR_BGR2YCrCb))
        # Bilinear and without the network, as OpenCV's own does it: these models were trained on luma alone.
        chroma = [_resized(plane, scale) for plane in (cr, cb)]
        merged: Any = cv2.merge([_run(engine, y), *chroma])
        return np.asarray(cv2.cvtColor(merged, cv2.COLOR_YCrCb2BGR))


def _check(img: Any, channels: tuple[int, ...]) -> None:
    """Refuses what is not an image, such as the None of a ``cv2.imread`` that found no file."""
    given = str(type(img).__name__)
    if isinstance(img, np.ndarray):
        check_mask(img)
        given = f"{list(img.shape)} of {img.dtype}"
        if img.dtype == np.uint8 and img.size and (img.ndim == 2 or (img.ndim == 3 and img.shape[2] in channels)):
            return
    raise InputError(f"an image must be [H, W, 3] BGR or [H, W] gray of uint8, not {given}")


def _resized(plane: Array, scale: int) -> Array:
    """Chroma as OpenCV's module resizes it: in float32 of 0..1, rounded once at the end."""
    unit = plane * np.float32(1 / 255)
    large = cv2.resize(unit, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.convertScaleAbs(large, alpha=255))


def _engine(path: Path, algorithm: str, scale: int, device: str | None) -> Engine:
    plan = optimise(capture(load(path, algorithm, scale)))
    # float32, because OpenCV's own module computes in it, and its users compare.
    return Engine(plan, device=device, dtype=torch.float32)


def _run(engine: Engine, plane: Array) -> Array:
    image: Tensor = torch.from_numpy(np.ascontiguousarray(plane))[None, :, :, None]
    return np.asarray(engine(image)[0, :, :, 0].numpy())


def DnnSuperResImpl_create(algo: str = "", scale: int = 0) -> DnnSuperResImpl:  # noqa: N802
    """A new ``DnnSuperResImpl``, as ``cv2.dnn_superres.DnnSuperResImpl_create`` gives."""
    return DnnSuperResImpl(algo, scale)
