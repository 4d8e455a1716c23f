"""What a decoder process does with one file of a study; imported there, so it imports no more than decoding needs."""

from dataclasses import dataclass
from typing import Any

# Imported here, not with the first file, so that a decoder that has started is warm.
import freezeframe.imaging.dicom  # noqa: F401
from freezeframe.bundle.runtime.frames import frames_of
from freezeframe.bundle.runtime.preparing import Prepared, prepare
from freezeframe.imaging.image import UnreadableImage
from freezeframe.imaging.preprocess import Preprocessing

MOST_FRAMES = 8
"""That are read of one file: radiographs have one, a biplane acquisition two. Later ones are not looked at."""


@dataclass(frozen=True, eq=False)
class PreparedFile:
    """The frames of one file, ready for a bundle.

    Attributes
    ----------
    frames : int
        That the file has.
    prepared : tuple of Prepared
        The first `MOST_FRAMES` of them.
    """

    frames: int
    prepared: tuple[Prepared, ...]


def prepare_file(reference: Any, preprocessings: tuple[Preprocessing, ...]) -> PreparedFile:
    """Decode a file and prepare its frames, as ``functools.partial(prepare_file, preprocessings=...)`` for a `Pool`.

    Parameters
    ----------
    reference : Reference
        Path of the file.
    preprocessings : tuple of Preprocessing
        Distinct ones: `Predictor.preprocessings`.

    Raises
    ------
    UnreadableImage
        With the reason.
    """
    frames = frames_of(reference)
    if frames == 0:
        raise UnreadableImage(reference.path, "it is a DICOM file without an image.")
    chosen = range(min(frames, MOST_FRAMES))
    return PreparedFile(
        frames, tuple(prepare(reference._replace(frame=frame), preprocessings) for frame in chosen)
    )
