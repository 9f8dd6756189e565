"""The page of ``srfast ui``: drop a file, look at a frame before the run, start, and fetch the result."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # nothing is told to anybody
os.environ["HF_HUB_OFFLINE"] = "1"

import gradio as gr
from fastapi import FastAPI

from srfast.diagnostics.compare.page import address
from srfast.errors import InputError, SrfastError
from srfast.images.arrays import Array
from srfast.service import work
from srfast.service.app import build_app
from srfast.service.config import CODECS, CONTAINERS, IMAGES, Request
from srfast.service.jobs import ENDED, Job, check_source
from srfast.service.service import Service

_USUAL = "the format's usual"
_OWN = "the model's own"
_SCALES = {_OWN: None, "x1.5": 1.5, "x2": 2.0, "x3": 3.0, "x4": 4.0}
_CSS = """
.gradio-container { width: 100%; max-width: 76rem !important; margin: auto; }
.jobs ul { list-style: none; padding: 0; margin: 0; }
.jobs li { padding: 0.6rem 0; border-bottom: 1px solid var(--border-color-primary); }
.jobs progress { display: block; width: 100%; height: 0.6rem; margin-top: 0.3rem; appearance: none; border: 0;
  border-radius: 1rem; overflow: hidden; background: var(--border-color-primary); }
.jobs progress::-webkit-progress-bar { background: var(--border-color-primary); }
.jobs progress::-webkit-progress-value { background: var(--color-accent); }
.jobs progress::-moz-progress-bar { background: var(--color-accent); }
.jobs a { padding: 0; text-decoration: underline; font-weight: 600; overflow-wrap: anywhere; }
.jobs .name { font-weight: 600; overflow-wrap: anywhere; }
#jobs { gap: 0; }
#jobs .block:has(ul:empty) { display: none; }
.gradio-container:not(:has(#jobs li)) .controls { display: none; }
#slider figure { position: relative; margin: auto; overflow: hidden; }
#slider img { display: block; width: 100%; height: 100%; }
#slider .before { position: absolute; inset: 0; clip-path: inset(0 calc(100% - var(--at)) 0 0); }
#slider figure::after { content: ""; position: absolute; inset: 0 auto 0 var(--at); width: 2px; margin-left: -1px;
  background: #fff; box-shadow: 0 0 3px #000; pointer-events: none; }
#slider figure:focus-within { outline: 3px solid var(--color-accent); outline-offset: 2px; }
#slider input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; z-index: 1;
  appearance: none; cursor: ew-resize; touch-action: pan-y; }
#slider input::-webkit-slider-thumb { appearance: none; width: 1px; height: 1px; }
#slider input::-moz-range-thumb { width: 1px; height: 1px; border: 0; }
#slider figcaption { position: absolute; inset: auto 0 0 0; display: flex; justify-content: space-between; }
#slider figcaption span { padding: 0.1rem 0.5rem; color: #fff; background: #000b; font-size: 0.85rem; }
#slider p { padding: 6rem 1rem; text-align: center; color: var(--body-text-color-subdued); }
.controls { align-items: end; }
.controls button { min-height: 3rem; flex-grow: 1; }
footer { display: none !important; }
"""
# Text in Gradio's own grays, and white on its orange and red, is fainter than 4.5 to 1 (WCAG 2.2, 1.4.3).
_COLOURS = {
    "body_text_color_subdued": "*neutral_600",
    "body_text_color_subdued_dark": "*neutral_300",
    "input_placeholder_color": "*neutral_500",
    "input_placeholder_color_dark": "*neutral_400",
    "button_primary_background_fill": "*primary_700",
    "button_primary_background_fill_hover": "*primary_800",
    "button_primary_background_fill_dark": "*primary_700",
    "button_primary_background_fill_hover_dark": "*primary_800",
    "button_cancel_background_fill": "#b91c1c",
    "button_cancel_background_fill_hover": "#991b1b",
    "button_cancel_background_fill_dark": "#b91c1c",
    "button_cancel_background_fill_hover_dark": "#991b1b",
}
_TALLEST = 26  # of the two pictures, in rem
_CONTROLS = ("cancel", "resume", "delete")
_NO_JOBS = "<p>There are none yet.</p>"
_NOTHING_YET = "<p>Before and after appear here.</p>"
# Screen readers tell what is said there when it changes.
_ANNOUNCE = "() => document.querySelector('#said').setAttribute('role', 'status')"
# The divider is a range over the whole picture: by mouse, by finger, and by keys.
_DIVIDE = (
    "element.addEventListener('input', e => e.target.parentElement.style.setProperty('--at', e.target.value + '%'))"
)


def build_page(service: Service) -> tuple[FastAPI, Callable[[], None]]:
    """Make the application of the page, with the HTTP interface of ``srfast serve`` behind it.

    Files that an earlier page was given are deleted. Nothing is fetched from the network and nothing is told to anybody.

    Args:
        service: not started yet; it starts and stops with the application.

    Returns:
        The ASGI application, with the page at ``/``; and what ends the streams that every open page holds: to be called when
        the server begins to stop, as ``srfast.service.server.serve`` does with ``stopping``.
    """
    uploads = service.options.folder / "uploads"
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    shutil.rmtree(uploads, ignore_errors=True)  # what an earlier page left
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]).set(**_COLOURS)
    app = build_app(service)
    most = max(service.options.video_bytes, service.options.image_bytes)
    mounted: FastAPI = gr.mount_gradio_app(
        app,
        _Page(service, uploads).blocks(),
        path="/",
        max_file_size=most,
        ssr_mode=False,
        enable_monitoring=False,
        show_error=True,
        footer_links=[],
        theme=theme,
        css=_CSS,
        js=_ANNOUNCE,
    )
    inner: Any = next(one for r in mounted.routes if isinstance(one := getattr(r, "app", None), gr.routes.App))
    return mounted, inner.stop_event.set


class _Page:
    """Builds the page and answers its events.

    Args:
        service: behind it.
        uploads: where files that were dropped lie.
    """

    def __init__(self, service: Service, uploads: Path) -> None:
        self._service, self._uploads, self._options = service, uploads, service.options

    def blocks(self) -> Any:
        """Return the page as Gradio's blocks, with their events."""
        with gr.Blocks(title="srfast", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
            gr.Markdown("# srfast\nUpscale images and videos on this machine.")
            owner = gr.BrowserState("", storage_key="srfast-owner", secret="srfast")
            with gr.Row():
                with gr.Column(scale=2, min_width=300):
                    dropped = gr.File(label="Image or video", height=140, elem_id="upload")
                    named = gr.Textbox(
                        label="Or a file of this machine",
                        placeholder="/folder/clip.mp4",
                        visible=bool(self._options.sources),
                        elem_id="named",
                    )
                    model = gr.Dropdown(list(self._options.names), value="compact_x2", label="Model", elem_id="model")
                    scale = gr.Dropdown(list(_SCALES), value=_OWN, label="Enlargement", elem_id="scale")
                    with gr.Accordion("Format and encoder", open=False):
                        container = gr.Dropdown(list(CONTAINERS), value="mp4", label="Format of videos")
                        codec = gr.Dropdown([_USUAL, *CODECS], value=_USUAL, label="Encoder of videos")
                        crf = gr.Slider(0, 51, value=0, step=1, label="Quality (CRF; 0 is the encoder's usual)")
                        picture = gr.Dropdown(list(IMAGES), value="png", label="Format of images")
                with gr.Column(scale=3, min_width=300):
                    time = gr.Slider(
                        0, 1, value=0, step=0.04, label="Frame to look at, in seconds", visible=False, elem_id="time"
                    )
                    slider = gr.HTML(_NOTHING_YET, js_on_load=_DIVIDE, container=True, elem_id="slider")
                    with gr.Row():
                        show = gr.Button("Show before and after", elem_id="show")
                        start = gr.Button("Start", variant="primary", elem_id="start")
                    said = gr.Markdown(elem_id="said")
            gr.Markdown("## Jobs")
            with gr.Column(elem_id="jobs", elem_classes="jobs"):
                # Those at hand change every second, and the links in the other list do not.
                listed = [gr.HTML(_NO_JOBS), gr.HTML(_list("Jobs that have ended", []))]
            with gr.Row(elem_classes="controls"):
                chosen = gr.Dropdown([], label="Job", elem_id="job", scale=2)
                cancel = gr.Button("Cancel", elem_id="cancel", interactive=False)
                resume = gr.Button("Resume", elem_id="resume", interactive=False)
                remove = gr.Button("Delete", variant="stop", elem_id="delete", interactive=False)
            asked = [model, scale, container, codec, crf, picture]
            controls = [cancel, resume, remove]
            lists: dict[str, Any] = {
                "fn": self._jobs,
                "inputs": [owner, chosen, *listed],
                "outputs": [*listed, chosen, *controls],
            }
            page.load(self._owner, owner, owner).then(**lists)
            gr.on([dropped.change, named.submit], self._look, [dropped, named], [time, slider, said])
            gr.on([show.click, time.release], self._show, [dropped, named, time, *asked], [slider, said])
            begun = start.click(self._start, [owner, dropped, named, *asked], [said, chosen])
            begun.then(**lists)
            chosen.change(self._possible, [owner, chosen], controls, show_progress="hidden")
            for button, what in zip(controls, _CONTROLS, strict=True):
                done = button.click(self._control(what), [owner, chosen], said)
                done.then(**lists)
            timer = gr.Timer(1.0)
            timer.tick(**lists, show_progress="hidden")
        page.queue(default_concurrency_limit=4, max_size=64)
        return page

    def _owner(self, owner: str) -> str:
        """Return the name of this browser, by which it finds its jobs again; a new one where it has none."""
        return owner or secrets.token_hex(16)

    def _file(self, dropped: str | None, named: str | None) -> Path:
        """Return the path of the file that is meant.

        Raises:
            gr.Error: none is.
            InputError: it lies where files may not be taken from.
        """
        if dropped:
            return check_source(dropped, (self._uploads,))
        if not named:
            raise gr.Error("Drop an image or a video first.", print_exception=False)
        return check_source(named, self._options.sources)

    def _look(self, dropped: str | None, named: str | None) -> tuple[Any, Any, str]:
        """Say what a new file is, and set the slider of times to the length of a video."""
        if not dropped and not named:
            return gr.update(visible=False), _NOTHING_YET, ""
        try:
            seen = work.look(self._file(dropped, named), self._options)
        except SrfastError as error:
            return gr.update(visible=False, value=0), _NOTHING_YET, _refused(error, dropped)
        size = f"{seen.width}x{seen.height} pixels"
        if seen.kind == "image":
            return gr.update(visible=False, value=0), _NOTHING_YET, f"An image of {size}."
        times = gr.update(visible=seen.seconds > 0, maximum=max(0.04, round(seen.seconds, 2)), value=0)
        return times, _NOTHING_YET, f"A video of {size}, {seen.seconds:.2f} s."

    def _show(self, dropped: str | None, named: str | None, time: float, *asked: Any) -> tuple[Any, str]:
        """Upscale the middle of one frame, and show it beside its bicubic interpolation."""
        try:
            path = self._file(dropped, named)
            kind = work.look(path, self._options).kind
            request = self._request(kind, *asked)
            shown = self._service.with_images(
                lambda engines: work.before_and_after(path, kind, time, request, self._options, engines)
            ).result()
        except SrfastError as error:
            return _NOTHING_YET, _refused(error, dropped)
        return _split(*shown), f"{shown[0].shape[1]}x{shown[0].shape[0]} pixels are shown, of the middle."

    def _start(self, owner: str, dropped: str | None, named: str | None, *asked: Any) -> tuple[str, Any]:
        """Queue a job and choose it for the buttons below."""
        place = None
        try:
            path = self._file(dropped, named)
            kind = work.look(path, self._options).kind
            request = self._request(kind, *asked)
            self._service.with_images(
                lambda engines: work.check_job(path, kind, request, self._options, engines)
            ).result()
            place = self._service.jobs.reserve()
            if dropped:
                os.link(path, place / "input")
            job = Job(place.name, path.name, kind, request, source=None if dropped else str(path), owner=owner)
            job = self._service.jobs.submit(place, job)
        except (SrfastError, OSError) as error:
            if place is not None:
                shutil.rmtree(place, ignore_errors=True)
            return _refused(error, dropped), gr.update()
        return f"{escape(job.name)} was added to the jobs below.", gr.update(choices=self._choices(owner), value=job.id)

    def _request(self, kind: str, *asked: Any) -> Request:
        """Return what the page's fields ask for.

        Raises:
            InputError: the service does not offer it.
        """
        model, scale, container, codec, crf, picture = asked
        if kind == "image":
            request = Request(str(model), _SCALES.get(scale), suffix=str(picture))
            request.check(self._options, IMAGES)
            return request
        chosen = None if codec == _USUAL else str(codec)
        request = Request(str(model), _SCALES.get(scale), chosen, float(crf) or None, str(container))
        request.check(self._options, CONTAINERS)
        return request

    def _control(self, what: str) -> Any:
        """Return the function of a button, ``JobStore``'s of that name, for jobs of the browser that presses it alone."""

        def control(owner: str, job_id: str | None) -> str:
            try:
                job = self._service.jobs.get(str(job_id))
                if job.owner != owner:
                    raise InputError("there is no such job")
                getattr(self._service.jobs, what)(job.id)
            except SrfastError as error:
                return _refused(error, None)
            return ""

        control.__name__ = what
        return control

    def _choices(self, owner: str) -> list[tuple[str, str]]:
        """Return name and number of every job of a browser, the newest first."""
        jobs = self._service.jobs.all(owner) if owner else []
        return [(f"{number}. {job.name}", job.id) for number, job in enumerate(jobs, 1)][::-1]

    def _jobs(self, owner: str, chosen: str | None, *shown: str | None) -> tuple[Any, ...]:
        """Return the lists of this browser's jobs, and which of them the buttons are for.

        What is shown already is left alone: to be drawn again would take the focus from its links, and close a list that is
        being chosen from.
        """
        jobs = list(enumerate(self._service.jobs.all(owner) if owner else [], 1))[::-1]
        active = [(number, job) for number, job in jobs if job.state not in ENDED]
        texts = [
            _list("Jobs at hand", active, jobs),
            _list("Jobs that have ended", [j for j in jobs if j not in active]),
        ]
        if not jobs:
            texts[0] = _NO_JOBS
        choices = self._choices(owner)
        known = [value for _, value in choices]
        value = chosen if chosen in known else (known[0] if known else None)
        same = value == chosen and (shown[0] or "").partition(">")[0] == texts[0].partition(">")[0]
        lists = [gr.skip() if text == old else text for text, old in zip(texts, shown, strict=True)]
        choice = gr.skip() if same else gr.update(choices=choices, value=value)
        return *lists, choice, *self._possible(owner, value)

    def _possible(self, owner: str, chosen: str | None) -> list[Any]:
        """Say which of the buttons can be pressed for a job."""
        job = next((job for job in self._service.jobs.all(owner) if job.id == chosen), None) if owner else None
        possible = job.possible if job else ()
        return [gr.update(interactive=what in possible) for what in _CONTROLS]


def _refused(error: Exception, dropped: str | None) -> str:
    """Return an error's text for the page, in which a file that was dropped has its own name."""
    words = str(error.strerror if isinstance(error, OSError) else error)
    if dropped:
        words = words.replace(str(Path(dropped).resolve()), Path(dropped).name).replace(dropped, Path(dropped).name)
    return f"**Not done:** {escape(words)}"


def _split(before: Array, after: Array) -> str:
    """Return HTML of two pictures of one size, RGB [H, W, 3] of uint8, over each other, with a divider."""
    height, width = before.shape[:2]
    size = f"aspect-ratio: {width} / {height}; width: min(100%, {_TALLEST * width / height:.2f}rem)"
    pictures = "".join(
        f'<img class="{kind}" alt="{alt}" src="{address(image, 95)}">'
        for kind, alt, image in (
            ("after", "after: enlarged by srfast", after),
            ("before", "before: bicubic interpolation", before),
        )
    )
    return (
        f'<figure style="--at: 50%; {size}">{pictures}<input type="range" min="0" max="100" value="50" '
        'aria-label="Divider: before (bicubic) to its left, after (srfast) to its right">'
        '<figcaption aria-hidden="true"><span>before: bicubic</span><span>after: srfast</span></figcaption></figure>'
    )


def _list(name: str, jobs: list[tuple[int, Job]], all_jobs: Iterable[tuple[int, Job]] = ()) -> str:
    """Return HTML of jobs as a list, whose first tag tells which others there are."""
    of = " ".join(job.id for _, job in all_jobs)
    return f'<ul aria-label="{name}" data-of="{of}">{"".join(_row(number, job) for number, job in jobs)}</ul>'


def _row(number: int, job: Job) -> str:
    """Return HTML of a job as an item of the list."""
    words = {
        "queued": "waiting",
        "running": "running",
        "done": "done",
        "failed": f"failed: {escape(job.error)}",
        "cancelled": "cancelled",
    }[job.state]
    name = escape(job.name)
    bar = ""
    if job.state not in ENDED or job.state == "cancelled":
        value = f' value="{job.done}" max="{job.total}"' if job.total else ' value="0" max="1"'
        bar = f'<progress aria-label="Progress of {name}"{value}></progress>'
        words += f", {job.done} of {job.total} frames" if job.total else ""
    if job.state == "running" and job.fps:
        words += f", {job.fps:.1f} frames/s"
        words += f", {_clock(job.eta_seconds)} left" if job.eta_seconds is not None else ""
    if job.state == "done":
        words += f', <a href="/videos/{job.id}/result" download>download {escape(job.result_name)}</a>'
        words += f" ({escape(job.notes)})" if job.notes else ""
    return (
        f'<li data-state="{job.state}"><span class="name">{number}. {name}</span> '
        f"({escape(job.request.model)}): {words}{bar}</li>"
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
