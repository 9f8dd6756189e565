"""Numbered images as the output, and how far they are this run's."""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from srfast._files import flush
from srfast.errors import OutputError
from srfast.images import DEEP, NO_ALPHA, check_image_output, write_image
from srfast.video.journal import Commit, journal_path, open_journal
from srfast.video.reader import RgbFrame
from srfast.video.segments import SEGMENT
from srfast.video.source import numbered, numbered_name

if TYPE_CHECKING:
    import av

_log = logging.getLogger("srfast")
_SECONDS = 10.0  # between two counts


class ImageSink:
    """Writes numbered images; each appears under its name when it is whole.

    A journal counts those that are this run's and safely on the disk: a name alone may be that of an older image.

    Args:
        pattern: such as ``out/%05d.png``, numbered from 1.
        run: what identifies the run.
        segment: images between two counts at most; they are also counted every few seconds.
        overwrite: replace images that exist, and start over where a journal is.
        resume: continue from a journal.

    Raises:
        OutputError: images or an unfinished run are in the way.
    """

    patience: float | None = None

    def __init__(
        self, pattern: str, run: dict[str, Any], *, segment: int | None, overwrite: bool, resume: bool
    ) -> None:
        self._pattern, self._segment, self._counted = pattern, segment or SEGMENT, time.monotonic()
        check_image_output(self._image(1), overwrite=True)
        name = Path(pattern).with_name(Path(pattern).name.replace("%", ""))
        if not overwrite and not journal_path(name).exists():
            _refuse_existing(pattern)
        self._journal = open_journal(name, run, overwrite=overwrite, resume=resume)
        done = self._journal.commit.frames
        # Somebody may have removed pictures since; the run goes on before the first that is gone.
        done = next((n - 1 for n in range(1, done + 1) if not self._image(n).exists()), done)
        self.start, self.encoded, self._safe = Commit(done), done, done
        # Beyond the count lie only images that the unfinished run wrote, or might have replaced.
        self._overwrite = overwrite or self._journal.continued

    def frame(self, frame: RgbFrame) -> None:
        codes = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
        image = np.asarray(cv2.cvtColor(frame.image, codes[frame.image.shape[2]]))
        if image.shape[2] == 4 and self._image(1).suffix.lower() in NO_ALPHA:
            image = image[:, :, :3]
            if self.encoded == self.start.frames:
                _log.warning("%s images have no alpha, so the input's is left out", self._image(1).suffix)
        if image.dtype == np.uint16 and self._image(1).suffix.lower() not in DEEP and self.encoded == self.start.frames:
            _log.warning("%s images keep 8 of the input's bits", self._image(1).suffix)
        write_image(self._image(self.encoded + 1), image, self._overwrite)
        self.encoded += 1
        if self.encoded % self._segment == 0 or time.monotonic() - self._counted > _SECONDS:
            self._commit()

    def packet(self, packet: av.Packet[Any]) -> None:
        """Images hold no other streams."""

    def finish(self) -> None:
        self._commit()
        self._journal.close(keep=False)
        own = {self._image(number) for number in range(1, self.encoded + 1)}
        older = [image for image in numbered(self._pattern) if image not in own]
        if older:
            _log.warning("%d images, such as %s, are older: this run made %d", len(older), older[0], self.encoded)

    def abandon(self, *, keep: bool) -> str:
        if keep:
            with contextlib.suppress(OSError):  # a full disk; what was counted before is on it
                self._commit()
        else:
            for number in range(1, self.encoded + 1):
                self._image(number).unlink(missing_ok=True)
        return self._journal.abandon(keep=keep)

    def _image(self, number: int) -> Path:
        return numbered_name(self._pattern, number)

    def _commit(self) -> None:
        """Counts the images so far, when they are on the disk with their names."""
        if self.encoded == self._journal.commit.frames:
            return
        images = [self._image(number) for number in range(self._safe + 1, self.encoded + 1)]
        # The folders too: a name is on the disk only when its folder is.
        for path in [*images, *{image.parent for image in images}]:
            flush(path)
        self._journal.commit_segment(Commit(self.encoded))
        self._safe, self._counted = self.encoded, time.monotonic()


def _refuse_existing(pattern: str) -> None:
    existing = numbered(pattern)
    if existing:
        raise OutputError(f"{existing[0]} exists; give -y to overwrite it, or another name")
