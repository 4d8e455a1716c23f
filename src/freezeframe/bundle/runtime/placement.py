"""Where the prepared frame lies in the original image."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from freezeframe.imaging.preprocess import Preprocessing
from freezeframe.imaging.steps import REGISTRY


class Placement(NamedTuple):
    """Where the prepared frame lies in the decoded image, in its pixels; it may reach beyond the image's edges.

    A place (row, column) of a prepared image of some height and width, counted from its upper left corner, shows the
    place ``(top + row / height * (bottom - top), left + column / width * (right - left))`` of the decoded image.
    """

    top: float
    left: float
    bottom: float
    right: float


def placement(preprocessing: Preprocessing, height: int, width: int) -> Placement | None:
    """Say where the prepared frame lies in an image of a height and width, in pixels.

    Steps that change grey values move nothing; resizing pads, crops the middle out or stretches. None where a step
    crops to something that it finds in the image (the lungs, a lesion).

    Examples
    --------
    >>> preprocessing = Preprocessing.from_steps(None, (224, 224), (0.5,) * 3, (0.5,) * 3)
    >>> placement(preprocessing, 400, 600)
    Placement(top=-100.0, left=0.0, bottom=500.0, right=600.0)
    """
    frame = Placement(0.0, 0.0, float(height), float(width))
    rows, columns = height, width
    for step in preprocessing.steps:
        if REGISTRY[step.name].crops:
            return None
        if step.name != "resize":
            continue
        target_rows, target_columns = step.parameters["size"]
        mode = step.parameters["mode"]
        seen_rows, seen_columns = float(rows), float(columns)
        if mode != "stretch":
            scales = (target_rows / rows, target_columns / columns)
            scale = min(scales) if mode == "pad" else max(scales)
            seen_rows, seen_columns = target_rows / scale, target_columns / scale
        frame = _within(frame, (rows, columns), (seen_rows, seen_columns))
        rows, columns = target_rows, target_columns
    return frame


def _within(frame: Placement, size: tuple[int, int], seen: tuple[float, float]) -> Placement:
    """Widen or narrow a frame of a size to what is seen, about its middle."""
    tall, wide = frame.bottom - frame.top, frame.right - frame.left
    more_rows = (seen[0] - size[0]) / 2 * tall / size[0]
    more_columns = (seen[1] - size[1]) / 2 * wide / size[1]
    return Placement(
        frame.top - more_rows, frame.left - more_columns, frame.bottom + more_rows, frame.right + more_columns
    )


def moved(picture: np.ndarray, here: Placement, there: Placement, size: tuple[int, int]) -> np.ndarray:
    """Show a picture of one frame in another frame, bilinearly; 0 where the first frame does not reach.

    Parameters
    ----------
    picture : ndarray of float32 (H, W)
        Fills `here`.
    here, there : Placement
        In the same image.
    size : (int, int)
        Height and width of the result, which fills `there`.

    Returns
    -------
    ndarray of float32 (height, width)
    """
    rows, columns = picture.shape
    across, down = (here.right - here.left) / columns, (here.bottom - here.top) / rows
    # Pillow asks which place of the source each place of the result shows, both counted from upper left corners.
    inverse = (
        (there.right - there.left) / size[1] / across,
        0.0,
        (there.left - here.left) / across,
        0.0,
        (there.bottom - there.top) / size[0] / down,
        (there.top - here.top) / down,
    )
    image = Image.fromarray(np.ascontiguousarray(picture, np.float32))
    return np.asarray(
        image.transform((size[1], size[0]), Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR)
    )
