"""From the images of a job to what a bundle says of the study."""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.special import softmax

from freezeframe import __version__, files
from freezeframe.bundle.runtime.folder import Bundle, open_bundle
from freezeframe.bundle.runtime.placement import Placement, moved, placement
from freezeframe.bundle.runtime.predictor import Answers, Predictor
from freezeframe.bundle.runtime.preparing import Prepared
from freezeframe.evaluation.operating_points import OperatingPoint
from freezeframe.imaging.image import UnreadableImage
from freezeframe.imaging.worker_process import Reference
from freezeframe.imaging.workers import Pool
from freezeframe.pacs.configuration import Limits, NodeConfiguration, UsedBundle
from freezeframe.pacs.reading.decoding import MOST_FRAMES, PreparedFile, prepare_file
from freezeframe.pacs.reading.findings import ImageReading, Model, Outcome, StudyReading
from freezeframe.pacs.reading.queue import Claim, ClaimedImage
from freezeframe.pacs.reading.regions import main_region

FILES_AT_ONCE = 16
"""That are in memory together: a study of thousands of images takes no more than one of sixteen."""
LARGEST_HEAT_MAP = 512
SECONDS_A_FILE = 60.0
DELETED = "its file was deleted after the time that retention gives it."

# What a parser says may quote the file, and so the patient.
_QUOTING = re.compile(r"(?P<kept>damaged or not supported|it failed with \w+).*", re.DOTALL)


@dataclass(frozen=True, eq=False)
class _Frame:
    """One frame that was prepared, and whose it is."""

    image: ClaimedImage
    number: int
    prepared: Prepared


class BundleReader:
    """One bundle, loaded, with a decoder that stays warm between studies.

    Parameters
    ----------
    bundle : Bundle
        That was opened and checked.
    predictor : Predictor
        Of the bundle.
    used : UsedBundle
        The bundle's entry in the configuration.
    limits : Limits
        Memory and time of the decoder: a file that takes more costs that file.
    """

    def __init__(self, bundle: Bundle, predictor: Predictor, used: UsedBundle, limits: Limits) -> None:
        self.predictor = predictor
        self.model = _model(bundle, predictor.operating_point, used)
        self._labels = bundle.contents.labels
        self._members = tuple(member.name for member in bundle.contents.members)
        self._limits = limits
        self._pool = self._start_pool()

    def _start_pool(self) -> Pool:
        # The libraries and tables of a decoder take half a gigabyte of address space before the first image.
        memory = int(max(self._limits.memory_gigabytes, 1) * 1024**3)
        seconds = min(SECONDS_A_FILE, self._limits.seconds / 2)
        function = partial(prepare_file, preprocessings=self.predictor.preprocessings)
        return Pool(function, 1, seconds, memory)

    def warm_up(self) -> None:
        """Start the decoder before the first study comes."""
        for _ in self._pool.map([Reference(Path("/nonexistent"), 0)]):  # type: ignore[list-item]
            pass

    def restart(self) -> None:
        """Replace the decoder, after a reading that ended in the middle."""
        self._pool.close()
        self._pool = self._start_pool()

    def close(self) -> None:
        """End the decoder."""
        self._pool.close()

    def read(self, claim: Claim, folder: Path) -> StudyReading:
        """Read a study; heat maps are written into the study's folder of results.

        Parameters
        ----------
        claim : Claim
            Which images.
        folder : Path
            Of the node.

        Returns
        -------
        StudyReading
            Refused where no image could be read.
        """
        here = [image for image in claim.images if image.path is not None]
        unreadable = [(image.sop_instance_uid, DELETED) for image in claim.images if image.path is None]
        readings: list[ImageReading] = []
        for group in self._groups(here, folder, unreadable):
            readings += self._read_group(group, claim, folder)
        readings.sort(key=self._score, reverse=True)  # stable: ties stay in the order of the study
        outcome: Outcome = "refused" if not readings else "negative"
        if any(reading.positive for reading in readings):
            outcome = "positive"
        point = self.predictor.operating_point
        probability = None
        if point is not None and readings:
            probability = readings[0].probabilities[point.positive_class]
        return StudyReading(
            claim.study_uid,
            claim.version,
            self.model,
            tuple(readings),
            tuple(unreadable),
            outcome,
            probability,
        )

    def _groups(
        self, images: list[ClaimedImage], folder: Path, unreadable: list[tuple[str, str]]
    ) -> Iterator[list[_Frame]]:
        references = [Reference(folder / str(image.path), 0) for image in images]
        group: list[_Frame] = []
        for index, outcome in self._pool.map(references):  # type: ignore[arg-type]
            image = images[index]
            if isinstance(outcome, UnreadableImage):
                unreadable.append((image.sop_instance_uid, without_quotes(outcome.reason)))
                continue
            assert isinstance(outcome, PreparedFile)
            if outcome.frames > MOST_FRAMES:
                reason = f"only the first {MOST_FRAMES} of its {outcome.frames} frames were read."
                unreadable.append((image.sop_instance_uid, reason))
            group += [_Frame(image, number, one) for number, one in enumerate(outcome.prepared)]
            if len(group) >= FILES_AT_ONCE:
                yield group
                group = []
        if group:
            yield group

    def _read_group(self, group: list[_Frame], claim: Claim, folder: Path) -> list[ImageReading]:
        prepared = [frame.prepared for frame in group]
        answers = self.predictor.answer(prepared, maps=True)
        shown = [self._shown_class(answers, place) for place in range(len(group))]
        maps = None
        if self.predictor.has_heat_maps:
            maps = self.predictor.heat_maps(prepared, shown, answers.maps)
        readings = []
        for place, frame in enumerate(group):
            heat = None if maps is None else self._in_original(maps[place], frame.prepared.size)
            path = None
            if heat is not None:
                name = f"heat-{frame.image.sop_instance_uid}-{frame.number}.png"
                path = results_folder(claim) / name
                files.write_bytes(folder / path, _png(heat))
            readings.append(self._reading(frame, answers, place, heat, path))
        return readings

    def _reading(
        self, frame: _Frame, answers: Answers, place: int, heat: np.ndarray | None, path: Path | None
    ) -> ImageReading:
        rows, columns = frame.prepared.size
        decision = self._labels[int(answers.decisions[place])]
        point = self.predictor.operating_point
        members = softmax(answers.logits[:, place].astype(np.float64), axis=1)
        distances = answers.distances[:, place]
        known = distances[np.isfinite(distances)]
        spread = float(answers.spread[place])
        facts = frame.prepared.pixels
        return ImageReading(
            sop_instance_uid=frame.image.sop_instance_uid,
            sop_class_uid=frame.image.sop_class_uid,
            series_uid=frame.image.series_uid,
            frame=frame.number,
            rows=rows,
            columns=columns,
            probabilities=self._by_label(answers.probabilities[place]),
            calibrated=self._by_label(answers.calibrated[place]),
            members={name: self._by_label(own) for name, own in zip(self._members, members, strict=True)},
            decision=decision,
            positive=decision == point.positive_class if point else decision != self._labels[0],
            spread=spread if np.isfinite(spread) else None,
            warnings=answers.warnings[place],
            distance=float(known.mean()) if len(known) else None,
            heat_map=None if path is None else path.as_posix(),
            region=None if heat is None else main_region(heat, rows, columns),
            inputs={
                "mean": float(facts.thumbnail.mean()),
                "standard deviation": float(facts.thumbnail.std()),
                "border": float(facts.border),
            },
        )

    def _by_label(self, values: np.ndarray) -> dict[str, float]:
        return {label: float(value) for label, value in zip(self._labels, values, strict=True)}

    def _shown_class(self, answers: Answers, place: int) -> int:
        """Return the class whose evidence is shown: the positive one, without it the likeliest but the first."""
        point = self.predictor.operating_point
        if point is not None:
            return self._labels.index(point.positive_class)
        return 1 + int(answers.probabilities[place, 1:].argmax())

    def _score(self, reading: ImageReading) -> float:
        point = self.predictor.operating_point
        if point is not None:
            return reading.probabilities[point.positive_class]
        return 1 - reading.probabilities[self._labels[0]]

    def _in_original(self, heat: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
        """Move a heat map into the original image; None where a step crops to what it finds, so nobody knows where."""
        rows, columns = size
        here = placement(self.predictor.preprocessings[0], rows, columns)
        if here is None:
            return None
        scale = min(1.0, LARGEST_HEAT_MAP / max(size))
        shape = (max(1, round(rows * scale)), max(1, round(columns * scale)))
        whole = Placement(0.0, 0.0, float(rows), float(columns))
        return np.clip(moved(heat, here, whole, shape), 0, 1)


def open_readers(configuration: NodeConfiguration, threads: int | None = None) -> dict[str, BundleReader]:
    """Open and load every bundle of a node.

    Parameters
    ----------
    configuration : NodeConfiguration
        Of the node.
    threads : int, optional
        Of each network; all cores where left out.

    Returns
    -------
    dict of str to BundleReader
        By the names of the configuration.

    Raises
    ------
    UserError
        If a bundle is refused.
    """
    readers: dict[str, BundleReader] = {}
    for used in configuration.bundles:
        bundle = open_bundle(used.path, used.public_key)
        predictor = Predictor(bundle, used.engine, threads, used.operating_point)
        readers[used.name] = BundleReader(bundle, predictor, used, configuration.limits)
    return readers


def results_folder(claim: Claim) -> Path:
    """Return where a job's files go, below the node's folder; UIDs and names of bundles were checked before."""
    return Path("results") / claim.study_uid / f"{claim.version}-{claim.bundle}"


def without_quotes(reason: str) -> str:
    """Return why an image can't be read without what a parser quotes from it.

    Examples
    --------
    >>> without_quotes("it failed with ValueError: 'PHANTOM^0001' is no number")
    'it failed with ValueError.'
    >>> without_quotes("it is truncated.")
    'it is truncated.'
    """
    return _QUOTING.sub(r"\g<kept>.", reason)


def _png(heat: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.rint(heat * 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _model(bundle: Bundle, point: OperatingPoint | None, used: UsedBundle) -> Model:
    contents = bundle.contents
    names = [
        used.operating_point,
        *(entry.name for entry in contents.operating_points),
    ]  # as `Predictor` chooses
    name = next((name for name in names if name is not None), None)
    return Model(
        name=contents.name,
        sha256=bundle.sha256,
        software=__version__,
        members=len(contents.members),
        classes=tuple(
            {"label": entry.label, "code": None if entry.code is None else entry.code.model_dump()}
            for entry in contents.classes
        ),
        positive_class=None if point is None else point.positive_class,
        operating_point=name,
        threshold=None if point is None else point.threshold,
        validation_sensitivity=None if point is None else point.sensitivity,
        validation_specificity=None if point is None else point.specificity,
        configured_as=used.name,
    )
