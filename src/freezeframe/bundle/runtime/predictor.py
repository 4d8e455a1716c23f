"""A bundle at work: from prepared images to probabilities, decisions, uncertainty, warnings and heat maps."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from freezeframe.bundle.runtime.contents import FEATURES, LOGITS, MAP, Member
from freezeframe.bundle.runtime.folder import Bundle
from freezeframe.bundle.runtime.header_checks import from_header
from freezeframe.bundle.runtime.heat import Heat, heat_maps
from freezeframe.bundle.runtime.placement import moved, placement
from freezeframe.bundle.runtime.preparing import Prepared, distinct
from freezeframe.bundle.runtime.screening import Reference, from_pixels
from freezeframe.bundle.runtime.sentences import InputWarning
from freezeframe.bundle.runtime.sessions import Engine, Session, open_session
from freezeframe.ensemble.rules import combine
from freezeframe.errors import UserError, did_you_mean
from freezeframe.evaluation.calibration import apply_temperature
from freezeframe.evaluation.operating_points import OperatingPoint, decide
from freezeframe.imaging.preprocess import Preprocessing


@dataclass(frozen=True, eq=False)
class Answers:
    """What a bundle of M members says of N images and C classes.

    Attributes
    ----------
    logits : ndarray of float32 (M, N, C)
        Of each member.
    probabilities : ndarray of float64 (N, C)
        Combined by the bundle's rule; decisions are made on these.
    calibrated : ndarray of float64 (N, C)
        After the bundle's temperature; the same where it has none.
    decisions : ndarray of int64 (N,)
        Index of the class that the operating point decides on; the most probable one where there is none.
    spread : ndarray of float64 (N,)
        Standard deviation over the members of their probability of the positive class, or of the class decided on
        where there is no operating point; NaN where there is one member.
    warnings : tuple of tuple of InputWarning
        Why each image may be one that the model was not made for; empty for most.
    distances : ndarray of float64 (M, N)
        Of each image's features to the training images', 1 being the distance that flags 1 % of validation images;
        NaN where a member has no reference.
    maps : tuple of ndarray
        Feature maps (N, K, h, w) float32 of the members that have heat maps, where they were asked for.
    """

    logits: np.ndarray
    probabilities: np.ndarray
    calibrated: np.ndarray
    decisions: np.ndarray
    spread: np.ndarray
    warnings: tuple[tuple[InputWarning, ...], ...]
    distances: np.ndarray
    maps: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True, eq=False)
class _Ready:
    """A member whose graph is loaded, and which of the prepared images it takes."""

    member: Member
    preprocessing: Preprocessing
    place: int
    session: Session
    reference: Reference | None

    def inputs(self, prepared: Sequence[Prepared]) -> np.ndarray:
        """Return the normalised images (N, 3, H, W) float32."""
        frame = (self.preprocessing.height, self.preprocessing.width)
        result = np.empty((len(prepared), 3, *frame), np.float32)
        for row, one in enumerate(prepared):  # each in its own depth and channels
            result[row] = self.preprocessing.normalise(one.images[self.place][None])[0]
        return result


class Predictor:
    """Answers for prepared images; an image's answer does not depend on the images beside it.

    Parameters
    ----------
    bundle : Bundle
        From `open_bundle`.
    engine : str
        ``"onnxruntime"`` or ``"openvino"``.
    threads : int, optional
        All cores that this process may use where left out.
    operating_point : str, optional
        Name of one of the bundle's; the first where left out.

    Raises
    ------
    UserError
        If the bundle has no such operating point, or the engine is not installed.

    Attributes
    ----------
    preprocessings : tuple of Preprocessing
        What `prepare` has to be given: the distinct ones, the first member's first.
    operating_point : OperatingPoint or None
        What decides.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine = "onnxruntime",
        threads: int | None = None,
        operating_point: str | None = None,
    ) -> None:
        self.bundle = bundle
        self.operating_point = _point(bundle, operating_point)
        members = bundle.contents.members
        own = [member.prepared_by() for member in members]
        self.preprocessings = distinct(own)
        keys = [entry.key() for entry in self.preprocessings]
        self._members = [
            _Ready(
                member,
                preprocessing,
                keys.index(preprocessing.key()),
                open_session(bundle.read(member.graph), engine, threads),
                Reference.load(bundle.read(member.reference)) if member.reference else None,
            )
            for member, preprocessing in zip(members, own, strict=True)
        ]
        self._heats = [
            (entry, Heat(bundle.read(name), name.endswith(".onnx"), engine, threads))
            for entry in self._members
            if (name := entry.member.heat) and MAP in entry.session.outputs
        ]

    @property
    def has_heat_maps(self) -> bool:
        """Whether any member can show where it looked."""
        return bool(self._heats)

    def answer(self, prepared: Sequence[Prepared], maps: bool = False) -> Answers:
        """Answer for N images.

        Parameters
        ----------
        prepared : sequence of Prepared
            By `prepare` with `preprocessings`. All are in memory at once, so give some hundreds at a time.
        maps : bool
            Whether the feature maps are wanted as well, for `heat_maps`: the networks then compute once, not twice.
        """
        contents = self.bundle.contents
        logits = np.empty((len(self._members), len(prepared), len(contents.classes)), np.float32)
        distances = np.full(logits.shape[:2], np.nan)
        kept: list[np.ndarray] = []
        with_heat = [entry for entry, _ in self._heats] if maps else []
        for row, entry in enumerate(self._members):
            wanted = (LOGITS,) if entry.reference is None else (LOGITS, FEATURES)
            wanted += (MAP,) if entry in with_heat else ()
            found = entry.session.run(entry.inputs(prepared), wanted)
            kept += [found[MAP]] if entry in with_heat else []
            logits[row] = found[LOGITS]
            if entry.reference is not None:
                distances[row] = [entry.reference.distance(features) for features in found[FEATURES]]
        # One by one: sums over many images are rounded otherwise than those of few.
        weights = np.array([member.weight for member in contents.members])
        combined = [combine(logits[:, [image]], contents.rule, weights)[0] for image in range(len(prepared))]
        probabilities = np.array(combined).reshape(logits.shape[1:])
        decisions = decide(probabilities, contents.labels, self.operating_point)
        calibrated = probabilities
        if contents.temperature is not None:
            calibrated = apply_temperature(probabilities, contents.temperature)
        return Answers(
            logits,
            probabilities,
            calibrated,
            decisions,
            self._spread(logits, decisions),
            tuple(self._warnings(one, distances[:, image]) for image, one in enumerate(prepared)),
            distances,
            tuple(kept),
        )

    def _spread(self, logits: np.ndarray, decisions: np.ndarray) -> np.ndarray:
        if len(logits) < 2:
            return np.full(len(decisions), np.nan)
        point, labels = self.operating_point, self.bundle.contents.labels
        classes = decisions if point is None else np.full(len(decisions), labels.index(point.positive_class))
        own = softmax(logits.astype(np.float64), axis=2)[:, np.arange(len(classes)), classes]
        return own.std(axis=0)

    def _warnings(self, prepared: Prepared, distances: np.ndarray) -> tuple[InputWarning, ...]:
        reference = self._members[0].reference
        found = from_header(prepared.attributes, self.bundle.contents.intended)
        found += from_pixels(prepared.pixels, None if reference is None else reference.look)
        known = distances[np.isfinite(distances)]
        if len(known) and np.mean(known > 1) >= 0.5:
            found.append(InputWarning("unlike"))
        return tuple(found + [InputWarning(note) for note in prepared.notes])

    def heat_maps(
        self,
        prepared: Sequence[Prepared],
        classes: Sequence[int] | np.ndarray,
        maps: Sequence[np.ndarray] = (),
    ) -> np.ndarray:
        """Show where the members that can tell saw evidence for a class.

        Parameters
        ----------
        prepared : sequence of Prepared
            N images.
        classes : sequence of int (N,)
            For each image the class whose evidence is shown, such as its decision.
        maps : sequence of ndarray
            `Answers.maps` of the same images; computed where left out.

        Returns
        -------
        ndarray of float32 (N, H, W)
            In [0, 1]: the mean of the members' maps, each divided by its own maximum. In the frame of
            ``prepared[i].images[0]``, that of the first member; `placement` says where that lies in the original
            image. Members that see another part of the image are moved into that frame, and counted as 0 where they
            see nothing; where a member's frame is not known, because a step crops to what it finds, its map is
            stretched to it.

        Raises
        ------
        UserError
            If no member has a feature map.
        """
        if not self._heats:
            raise UserError(
                f"The bundle {self.bundle.contents.name} has no heat maps: its networks end without a feature map.",
                "a member with a convolutional network.",
            )
        classes = np.asarray(classes, np.int64)
        first = self.preprocessings[0]
        total = np.zeros((len(prepared), first.height, first.width), np.float32)
        for place, (entry, heat) in enumerate(self._heats):
            own_maps = maps[place] if maps else entry.session.run(entry.inputs(prepared), (MAP,))[MAP]
            own = (entry.preprocessing.height, entry.preprocessing.width)
            pictures = heat_maps(own_maps, heat.weights(own_maps, classes), own)
            for image, picture in enumerate(pictures):
                total[image] += _in_frame(picture, entry.preprocessing, first, prepared[image].size)
        return total / len(self._heats)


def _in_frame(
    picture: np.ndarray, own: Preprocessing, wanted: Preprocessing, size: tuple[int, int]
) -> np.ndarray:
    if own.key() == wanted.key():
        return picture
    here, there = placement(own, *size), placement(wanted, *size)
    if here is None or there is None:
        here = there = placement(wanted.model_copy(update={"steps": ()}), *size)
        assert here is not None
        assert there is not None
    return moved(picture, here, there, (wanted.height, wanted.width))


def _point(bundle: Bundle, name: str | None) -> OperatingPoint | None:
    points = {point.name: point for point in bundle.contents.operating_points}
    if name is None:
        return next((point.threshold() for point in points.values()), None)
    if name not in points:
        known = (
            did_you_mean(name, points) if points else "leave it out: the most probable class is decided on."
        )
        raise UserError(f"The bundle has no operating point '{name}';", action=known)
    return points[name].threshold()
