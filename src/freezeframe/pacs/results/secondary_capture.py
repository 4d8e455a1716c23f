"""The secondary capture: for each image a picture that any viewer shows, with all that the model said burned in."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from highdicom.sc import SCImage
from PIL import Image

from freezeframe.imaging import decode
from freezeframe.imaging.image import UnreadableImage
from freezeframe.pacs.reading.findings import ImageReading
from freezeframe.pacs.results.context import Context
from freezeframe.pacs.results.drawing import Bar, Page, draw
from freezeframe.pacs.results.sentences import conclusion, image_warnings
from freezeframe.pacs.results.source import SourceImage
from freezeframe.pacs.results.words import number, percent, say

MOST_IMAGES = 4
"""Captures of a result, of the images with the largest probabilities."""
MOST_BARS = 7


def secondary_captures(context: Context, heat_maps: Mapping[str, Path]) -> list[bytes]:
    """Make the captures of a result; of a study that could not be read, one that says so.

    Parameters
    ----------
    context : Context
        With at least one source.
    heat_maps : mapping of str to Path
        8-bit grey PNG of each image that has one, by SOP instance UID; of an image with several frames, one's.

    Returns
    -------
    list of bytes
        DICOM files: Secondary Capture Image Storage (PS3.3, section A.8.1), RGB, 1024 x 1024, uncompressed.
    """
    if context.reading.outcome == "refused":
        return [_capture(context, context.sources[0], 1, draw(_refused_page(context)))]
    made = []
    for place, image in enumerate(context.reading.images[:MOST_IMAGES], 1):
        source = context.source(image.sop_instance_uid)
        if source is not None:
            made.append(
                _capture(context, source, place, draw(_page(context, image, source, place, heat_maps)))
            )
    return made


def _capture(context: Context, source: SourceImage, place: int, pixels: np.ndarray) -> bytes:
    arguments = context.constructor_arguments("sc", place)
    data = SCImage(
        pixel_array=pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=context.reading.study_uid,
        # Two images beside each other and text: the picture as a whole has no orientation in the patient.
        patient_orientation=("L", "F"),
        **arguments,
    )
    data.PatientOrientation = []
    data.update(context.identity)
    data.ConversionType = "WSD"
    context.describe_body_part(data, source)
    # The notice is, and the radiograph itself may bear a name: whoever removes identities has to look at it.
    data.BurnedInAnnotation = "YES"
    data.ImageComments = say(context.language, "not_verified")
    return context.finish(data)


def _page(
    context: Context, image: ImageReading, source: SourceImage, place: int, heat_maps: Mapping[str, Path]
) -> Page:
    language, model = context.language, context.reading.model
    target = context.target(image)
    heat = _heat(image, heat_maps)
    count = len(context.reading.images)
    shown = say(language, "image_of", number=place, count=count)
    warnings = image_warnings(context, image)
    lines = [(f"{say(language, 'operating_point')}: {_operating_point(context)}", False)]
    if image.spread is not None:
        lines.append((f"{say(language, 'spread')}: {percent(language, image.spread)}", False))
    lines += [(sentence, True) for sentence in warnings] or [(say(language, "no_warnings"), False)]
    if place == MOST_IMAGES and count > MOST_IMAGES:
        lines.append((say(language, "more_images", count=count - MOST_IMAGES), True))
    return Page(
        notice=say(language, "not_verified").upper(),
        title=context.description,
        outcome=_outcome(context, image, target),
        is_found=image.positive,
        captions=(
            f"{say(language, 'original')} · {shown}",
            say(language, "heat_map", positive=target) if heat is not None else say(language, "no_heat_map"),
        ),
        image=_pixels(source.path, image.frame),
        heat=heat,
        outline=image.region.points if image.region is not None and image.positive else (),
        tables=(
            (
                say(language, "probabilities"),
                [
                    Bar(
                        label,
                        value,
                        percent(language, value),
                        label == target and image.positive,
                        model.threshold if label == target else None,
                    )
                    for label, value in _largest(image.probabilities)
                ],
            ),
            (
                say(language, "members", positive=target),
                [
                    Bar(
                        name,
                        values[target],
                        percent(language, values[target]),
                        image.positive,
                        model.threshold,
                    )
                    for name, values in list(image.members.items())[:MOST_BARS]
                ],
            ),
        ),
        lines=lines,
    )


def _refused_page(context: Context) -> Page:
    language = context.language
    return Page(
        notice=say(language, "not_verified").upper(),
        title=context.description,
        outcome=say(language, "refused"),
        is_found=False,
        captions=None,
        image=None,
        heat=None,
        outline=(),
        tables=(),
        lines=[
            (conclusion(context), False),
            *(
                (say(language, "unreadable", uid=uid, reason=reason), True)
                for uid, reason in context.reading.unreadable
            ),
        ],
    )


def _outcome(context: Context, image: ImageReading, target: str) -> str:
    language = context.language
    written = percent(language, image.probabilities[target])
    if context.reading.model.positive_class is None:
        return f"{target}: {written}"
    return f"{say(language, 'positive' if image.positive else 'negative')} · {target}: {written}"


def _operating_point(context: Context) -> str:
    language, model = context.language, context.reading.model
    if model.operating_point is None:
        return say(language, "none")
    said = (
        f"{model.operating_point}, {say(language, 'threshold').lower()} {number(language, model.threshold)}"
    )
    if model.validation_sensitivity is None or model.validation_specificity is None:
        return said
    validated = say(
        language,
        "validated",
        sensitivity=percent(language, model.validation_sensitivity),
        specificity=percent(language, model.validation_specificity),
    )
    return f"{said} ({validated})"


def _largest(probabilities: Mapping[str, float]) -> list[tuple[str, float]]:
    if len(probabilities) <= MOST_BARS:
        return list(probabilities.items())
    return sorted(probabilities.items(), key=lambda entry: -entry[1])[:MOST_BARS]


def _heat(image: ImageReading, heat_maps: Mapping[str, Path]) -> np.ndarray | None:
    path = heat_maps.get(image.sop_instance_uid)
    if image.heat_map is None or path is None or not path.as_posix().endswith(image.heat_map):
        return None  # it has none, or it is another frame's
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"))


def _pixels(path: Path, frame: int) -> np.ndarray | None:
    try:
        return decode.decode(path, frame).pixels
    except UnreadableImage:  # it was read before, so this is rare; the numbers are shown all the same
        return None
