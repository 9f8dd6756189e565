"""The HTTP interface: image in, image out; video as a job."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypeAlias

from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response

from srfast._version import __version__
from srfast.errors import InputError, OutputError, SrfastError
from srfast.service import work
from srfast.service.config import CONTAINERS, IMAGES
from srfast.service.config import Request as Wanted
from srfast.service.jobs import BusyError, Job, NoJobError
from srfast.service.manual import manual
from srfast.service.service import Service
from srfast.service.uploads import body_of, drain, write_body
from srfast.video.untrusted import LimitError

Format: TypeAlias = Annotated[str, Query(alias="format")]
_KINDS = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
# The first that fits counts: some of these errors are kinds of others.
_STATUS: tuple[tuple[type[SrfastError], int], ...] = (
    (BusyError, 429),
    (NoJobError, 404),
    (LimitError, 413),
    (InputError, 422),
    (OutputError, 422),
)
_BODY = {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"format": "binary"}}}}}
_IMAGE: dict[int | str, dict[str, Any]] = {
    200: {"content": {kind: {} for kind in _KINDS.values()}, "description": "the image"}
}
_FILE: dict[int | str, dict[str, Any]] = {200: {"content": {"application/octet-stream": {}}, "description": "the file"}}
_ERRORS: dict[int | str, dict[str, Any]] = {
    413: {"description": "larger or longer than allowed"},
    422: {"description": "not readable, or a value that is not offered"},
    429: {"description": "too many are waiting: try again after Retry-After seconds"},
}


def build_app(service: Service) -> FastAPI:
    """Make the ASGI application of a service, which starts and stops with it.

    Args:
        service: not started yet.

    Returns:
        The application; who may reach it is not its business (``srfast.service.access``).

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from srfast.service.config import ServiceOptions
        >>> app = build_app(Service(ServiceOptions(Path(tempfile.mkdtemp()))))
        >>> "/images" in app.openapi()["paths"]
        True
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await asyncio.to_thread(service.stop)

    # The pages of FastAPI's own load programs from the network.
    app = FastAPI(title="srfast", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_exception_handler(SrfastError, _refusal)
    app.add_exception_handler(MemoryError, _failure)
    app.add_exception_handler(OSError, _failure)
    _add_about(app, service)
    _add_images(app, service)
    _add_videos(app, service)
    return app


def _add_about(app: FastAPI, service: Service) -> None:
    @app.get("/health", summary="Whether the server is up")
    async def health() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    @app.get("/models", summary="Names of the models")
    async def models() -> list[str]:
        return list(service.options.names)

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(manual(app.openapi()))


def _add_images(app: FastAPI, service: Service) -> None:
    options = service.options

    @app.post("/images", summary="Upscale an image", openapi_extra=_BODY, responses={**_IMAGE, **_ERRORS})
    async def images(
        request: Request, model: str = "srresnet_x4", scale: float | None = None, suffix: Format = "png"
    ) -> Response:
        wanted = Wanted(model, scale, suffix=suffix)
        wanted.check(options, IMAGES)
        with service.slot():
            data = await body_of(request, options.image_bytes, options.idle_seconds)
            done = service.with_images(lambda engines: work.upscale_image(data, "the image", wanted, options, engines))
            content = await asyncio.wrap_future(done)
        return Response(content, media_type=_KINDS[suffix])


def _add_videos(app: FastAPI, service: Service) -> None:
    options, jobs = service.options, service.jobs

    @app.post("/videos", summary="Queue a video", status_code=202, openapi_extra=_BODY, responses=_ERRORS)
    async def videos(
        request: Request,
        model: str = "compact_x4",
        scale: float | None = None,
        suffix: Format = "mp4",
        codec: str | None = None,
        crf: float | None = None,
        name: str = "video",
    ) -> dict[str, Any]:
        wanted = Wanted(model, scale, codec, crf, suffix)
        wanted.check(options, CONTAINERS)
        place = await asyncio.to_thread(jobs.reserve)
        try:
            await write_body(request, place / "input", options.video_bytes, options.idle_seconds)
            checked = service.with_images(
                lambda engines: work.check_job(place / "input", "video", wanted, options, engines)
            )
            await asyncio.wrap_future(checked)
        except BaseException as error:
            shutil.rmtree(place, ignore_errors=True)
            if isinstance(error, (InputError, OutputError)):  # a client knows nothing of the server's folders
                raise type(error)(*(line.replace(str(place / "input"), "the video") for line in error.args)) from error
            raise
        job = Job(place.name, name[:200], "video", wanted)
        return as_dict(await asyncio.to_thread(jobs.submit, place, job))

    @app.get("/videos", summary="All jobs")
    async def listed() -> list[dict[str, Any]]:
        return [as_dict(job) for job in jobs.all()]

    @app.get("/videos/{job_id}", summary="State and progress of a job")
    async def state(job_id: str) -> dict[str, Any]:
        return as_dict(jobs.get(job_id))

    @app.get("/videos/{job_id}/result", summary="The upscaled video", response_class=FileResponse, responses=_FILE)
    async def result(job_id: str) -> FileResponse:
        job = jobs.get(job_id)
        if job.state != "done":
            raise NoJobError(f"the job is {job.state}: there is no result yet")
        return FileResponse(jobs.output(job), filename=job.result_name, headers={"X-Content-Type-Options": "nosniff"})

    @app.post("/videos/{job_id}/cancel", summary="End a job; what is done of it is kept")
    async def cancel(job_id: str) -> dict[str, Any]:
        return as_dict(await asyncio.to_thread(jobs.cancel, job_id))

    @app.post("/videos/{job_id}/resume", summary="Go on with a job that was cancelled or failed")
    async def resume(job_id: str) -> dict[str, Any]:
        return as_dict(await asyncio.to_thread(jobs.resume, job_id))

    @app.delete("/videos/{job_id}", summary="Remove a job with its files", status_code=204, response_class=Response)
    async def delete(job_id: str) -> Response:
        await asyncio.to_thread(jobs.delete, job_id)
        return Response(status_code=204)


def as_dict(job: Job) -> dict[str, Any]:
    """Return what a client is told of a job, in JSON's types: times in seconds, frames, frames per second."""
    told = ("id", "name", "kind", "state", "created", "ended", "done", "total", "error", "notes")
    values: dict[str, Any] = {name: getattr(job, name) for name in told}
    eta = job.eta_seconds
    rest = {"fps": round(job.fps, 3), "eta_seconds": None if eta is None else round(eta, 1)}
    return values | {"model": job.request.model, "scale": job.request.scale, "format": job.request.suffix} | rest


async def _refusal(request: Request, error: Exception) -> JSONResponse:
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    headers = {"Retry-After": "2"} if status == 429 else {}
    if request.method == "POST":
        await drain(request.scope, request.receive)
        headers["Connection"] = "close"
    return JSONResponse({"error": str(error)}, status, headers)


async def _failure(request: Request, error: Exception) -> JSONResponse:
    if request.method == "POST":
        await drain(request.scope, request.receive)
    words = "there is no memory for it" if isinstance(error, MemoryError) else "the disk does not take it"
    return JSONResponse({"error": words}, 507, {"Connection": "close"})
