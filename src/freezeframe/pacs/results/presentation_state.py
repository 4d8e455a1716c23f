"""The greyscale softcopy presentation state: the region and the finding, drawn by the viewer over the original."""

import copy

import numpy as np
from highdicom import PresentationLUTTransformation
from highdicom.pr import (
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GrayscaleSoftcopyPresentationState,
    TextObject,
)
from pydicom.dataset import Dataset

from freezeframe.pacs.reading.findings import ImageReading
from freezeframe.pacs.results.context import Context
from freezeframe.pacs.results.source import KNOWN_CLASS, SourceImage, refer
from freezeframe.pacs.results.words import percent, say

MOST_IMAGES = 8
"""States of a result, of the images with the largest probabilities."""
_NEEDED = ("Rows", "Columns", "BitsStored", "PixelRepresentation")


class _State(GrayscaleSoftcopyPresentationState):
    """The state without highdicom's taking over of the source's patient and study, see `structured_report`."""

    def copy_patient_and_study_information(self, dataset: Dataset) -> None:
        """Do nothing."""

    def copy_specimen_information(self, dataset: Dataset) -> None:
        """Do nothing: radiographs are of no specimens."""


def presentation_states(context: Context) -> list[bytes]:
    """Make a state for each image that was read, is grey and has one frame.

    Returns
    -------
    list of bytes
        DICOM files: Grayscale Softcopy Presentation State Storage (PS3.3, section A.33.1). Empty for a study that
        could not be read.
    """
    made: list[bytes] = []
    for image in context.reading.images[:MOST_IMAGES]:
        source = context.source(image.sop_instance_uid)
        if source is not None and _can_have_one(source):
            made.append(_state(context, image, source, len(made) + 1))
    return made


def _can_have_one(source: SourceImage) -> bool:
    return source.is_grey and source.frames == 1 and all(key in source.reference for key in _NEEDED)


def _state(context: Context, image: ImageReading, source: SourceImage, number: int) -> bytes:
    language = context.language
    layer = GraphicLayer("AI", order=1, description=say(language, "not_verified"))
    target = context.target(image)
    lines = (
        say(language, "not_verified"),
        context.description,
        f"{target}: {percent(language, image.probabilities[target])}",
    )
    graphics = []
    if image.region is not None and image.positive:
        points = np.array(image.region.points, dtype=np.float64)
        graphics.append(GraphicObject("POLYLINE", points, "PIXEL"))
    reference = copy.deepcopy(source.reference)
    reference.SOPClassUID = KNOWN_CLASS
    data = _State(
        referenced_images=[reference],
        content_label="AI_RESULT",
        content_description=context.description,
        concept_name=None,
        graphic_layers=[layer],
        graphic_annotations=[
            GraphicAnnotation(
                referenced_images=[reference],
                graphic_layer=layer,
                graphic_objects=graphics or None,
                text_objects=[
                    TextObject(
                        "\r\n".join(lines),
                        "DISPLAY",
                        bounding_box=(0.02, 0.02, 0.6, 0.14),
                        text_justification="LEFT",
                    )
                ],
            )
        ],
        presentation_lut_transformation=PresentationLUTTransformation(
            presentation_lut_shape="INVERSE"
            if source.reference.PhotometricInterpretation == "MONOCHROME1"
            else "IDENTITY"
        ),
        **context.constructor_arguments("gsps", number),
    )
    refer(data, source)
    data.update(context.identity)
    context.describe_body_part(data, source)
    data.ContentCreatorName = "freezeframe"
    return context.finish(data)
