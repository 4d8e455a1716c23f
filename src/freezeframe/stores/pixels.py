"""Prepared pixels: every image decoded and resized once, in its own depth and number of channels."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from freezeframe.data.manifest import ImageReference, Manifest
from freezeframe.errors import UserError
from freezeframe.imaging.image import UnreadableImage
from freezeframe.imaging.preprocess import Preprocessing, prepare_image_with_notes
from freezeframe.imaging.steps import NOTES
from freezeframe.imaging.workers import map_images
from freezeframe.progress import say
from freezeframe.stores.pack import Pack, Writer

CHANNELS = (1, 3)
DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16))


@dataclass(frozen=True)
class Unreadable:
    """An image that was left out, and why."""

    image: str
    reason: str


class Pixels:
    """Prepared images by content key.

    Parameters
    ----------
    store : Path
        The store's folder.
    preprocessing : Preprocessing
        What was done to them.
    """

    def __init__(self, store: Path, preprocessing: Preprocessing) -> None:
        self.preprocessing = preprocessing
        height, width = preprocessing.height, preprocessing.width
        description = {"preprocessing": preprocessing.key()}
        # An image's own depth and channels decide which of the four packs it is in.
        self._packs = {
            (channels, dtype): Pack(
                store, "pixels", description, (height, width) if channels == 1 else (height, width, 3), dtype
            )
            for channels in CHANNELS
            for dtype in DTYPES
        }
        self._lock_pack = self._packs[CHANNELS[0], DTYPES[0]]

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Return the keys that are in none of the packs."""
        for pack in self._packs.values():
            keys = pack.missing(keys)
        return list(keys)

    def read(self, key: str) -> np.ndarray:
        """Return one image, (H, W) or (H, W, 3), uint8 or uint16; KeyError if it is not here."""
        for pack in self._packs.values():
            if key in pack:
                return pack.read([key])[0]
        raise KeyError(key)

    def fill(
        self, manifest: Manifest, max_unreadable: float = 1.0, workers: int | None = None
    ) -> list[Unreadable]:
        """Decode what is missing, in parallel, once; memory stays flat however many images there are.

        Parameters
        ----------
        manifest : Manifest
            The images.
        max_unreadable : float
            Share of unreadable images that ends the job early.
        workers : int, optional
            Processes; the number of cores where left out.

        Returns
        -------
        list of Unreadable
            The images that are left out.

        Raises
        ------
        UserError
            If more than the share can't be read, the disk is full or the store can't be written.
        """
        references = dict(zip(manifest.keys(), manifest.references(), strict=True))
        names: dict[str, list[str]] = {}
        for key, image in zip(manifest.keys(), manifest.table["image"], strict=True):
            names.setdefault(key, []).append(image)  # empty files, for one, have equal content
        if not self.missing(list(references)):
            return []
        with self._lock_pack.filling(
            lambda: say("Another process is decoding these images; waiting for it.")
        ):
            for pack in self._packs.values():
                pack.sweep()
                pack.refresh()
            missing = self.missing(list(references))
            unreadable: list[Unreadable] = []
            notes: Counter[str] = Counter()
            writers = {place: Writer(pack) for place, pack in self._packs.items()}
            try:
                for key, result in self._decode(missing, references, workers):
                    if isinstance(result, UnreadableImage):
                        unreadable += [Unreadable(name, result.reason) for name in names[key]]
                        _refuse_many(unreadable, len(manifest), max_unreadable)
                    else:
                        pixels, found = result
                        notes.update(found)
                        writers[1 if pixels.ndim == 2 else 3, pixels.dtype].add(key, pixels)
            finally:
                for writer in writers.values():
                    writer.flush()
            for note, count in notes.items():
                say(f"{NOTES[note]} in {count:,} of {len(missing):,} images.")
        return unreadable

    def _decode(
        self, keys: list[str], references: dict[str, ImageReference], workers: int | None
    ) -> Iterator[tuple[str, tuple[np.ndarray, tuple[str, ...]] | UnreadableImage]]:
        function = partial(prepare_image_with_notes, preprocessing=self.preprocessing)
        for index, result in map_images(function, [references[key] for key in keys], workers=workers):
            yield keys[index], result


def _refuse_many(unreadable: list[Unreadable], count: int, share: float) -> None:
    # One bad image among few must not end a job, so at least three are needed.
    if len(unreadable) >= max(3, share * count + 1):
        examples = "; ".join(f"{entry.image}: {entry.reason}" for entry in unreadable[:3])
        raise UserError(
            f"{len(unreadable)} of {count} images can't be read so far ({examples}).",
            f"at most {share:.0%} (max_unreadable).",
            "Mend or remove them, or raise max_unreadable in the recipe.",
        )
