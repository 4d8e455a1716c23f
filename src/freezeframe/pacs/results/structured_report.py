"""The structured report: a Comprehensive 3D SR of template 1500 (PS3.16), with a region for each image."""

from collections.abc import Sequence

import numpy as np
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    ContainerContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    ImageRegion,
    LanguageOfContentItemAndDescendants,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from freezeframe.pacs import uids
from freezeframe.pacs.reading.findings import ImageReading
from freezeframe.pacs.results import concepts
from freezeframe.pacs.results.context import MANUFACTURER, Context
from freezeframe.pacs.results.sentences import comments
from freezeframe.pacs.results.source import KNOWN_CLASS, SourceImage, refer

_Group = PlanarROIMeasurementsAndQualitativeEvaluations | MeasurementsAndQualitativeEvaluations
MOST_IMAGES = 8
"""Groups of a report; the rest of a study's images is counted in a comment."""


class _Report(Comprehensive3DSR):
    """The report without highdicom's taking over of the source's patient and study: `_identify` does that."""

    def copy_patient_and_study_information(self, dataset: Dataset) -> None:
        """Do nothing: highdicom knows the attributes of public SOP classes only, and takes over what is not valid."""


def structured_report(context: Context) -> bytes:
    """Make the report of a result.

    Each image has a group of its own (TID 1410): the finding that was looked for, whether it is present, its
    probability and what that comes from, and a region. The region is the heat map's main region where the finding is
    present and there is one, otherwise the outline of the whole image; the report says which, in code. A study of
    which no image could be read has groups that say so.

    Parameters
    ----------
    context : Context
        With at least one source.

    Returns
    -------
    bytes
        A DICOM file: Comprehensive 3D SR (PS3.3, section A.35.13), complete, preliminary and not verified.
    """
    images = context.reading.images[:MOST_IMAGES]
    language = context.language
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=_observer(context)),
        procedure_reported=concepts.PROCEDURE,
        imaging_measurements=_groups(context, images),
        title=codes.cid7021.ImagingMeasurementReport,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(
            concepts.LANGUAGES[language]
        ),
    )
    report[0].ContentSequence.append(_evaluations(comments(context, len(images))))
    data = _Report(
        evidence=[source.reference for source in context.sources],
        content=report[0],
        is_complete=True,
        is_final=False,
        coding_schemes=[
            CodingSchemeIdentificationItem(
                concepts.PRIVATE_SCHEME, name="freezeframe", responsible_organization="freezeframe"
            )
        ],
        **context.constructor_arguments("sr", 1),
    )
    data.update(context.identity)
    return context.finish(data)


def _observer(context: Context) -> ObserverContext:
    model = context.reading.model
    return ObserverContext(
        codes.DCM.Device,
        DeviceObserverIdentifyingAttributes(
            uid=uids.derived(context.configuration.uid_root, "device", model.sha256),
            name=context.configuration.ae_title,
            manufacturer_name=MANUFACTURER,
            model_name=model.name,
            serial_number=model.sha256,
        ),
    )


def _groups(context: Context, images: Sequence[ImageReading]) -> list[_Group]:
    groups: list[_Group] = []
    for number, image in enumerate(images, 1):
        source = context.source(image.sop_instance_uid)
        if source is not None:
            groups.append(_read_group(context, image, source, number))
    if groups:
        return groups
    sources = context.sources[:MOST_IMAGES]
    with_size = [source for source in sources if source.size is not None]
    # Never both templates in one report: a common validator finds errors then. Without a size there is no region.
    return [_refused_group(context, source, number) for number, source in enumerate(with_size or sources, 1)]


def _read_group(
    context: Context, image: ImageReading, source: SourceImage, number: int
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    model, language = context.reading.model, context.language
    target = context.target(image)
    is_region = image.region is not None and image.positive
    present = image.decision == target
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(context, f"{target} {number}", number),
        referenced_region=_region(source, image.region.points, image.frame)
        if image.region is not None and is_region
        else _region(source, outline(image.rows, image.columns), image.frame),
        finding_type=concepts.of_class(model, target),
        algorithm_id=_algorithm(context),
        measurements=_measurements(context, image, target),
        qualitative_evaluations=[
            QualitativeEvaluation(concepts.PRESENCE, concepts.PRESENT if present else concepts.ABSENT),
            QualitativeEvaluation(
                concepts.private("decision", language), concepts.of_class(model, image.decision)
            ),
            QualitativeEvaluation(
                concepts.private("region_meaning", language),
                concepts.private("heat_region" if is_region else "whole_image", language),
            ),
        ],
    )


def _refused_group(context: Context, source: SourceImage, number: int) -> _Group:
    language = context.language
    refused = concepts.private("refused", language)
    tracking = _tracking(context, f"{refused.meaning} {number}", number)
    outcome = QualitativeEvaluation(concepts.private("outcome", language), refused)
    if source.size is None:
        return MeasurementsAndQualitativeEvaluations(
            tracking_identifier=tracking,
            algorithm_id=_algorithm(context),
            qualitative_evaluations=[outcome],
            source_images=[
                SourceImageForMeasurementGroup(source.reference.SOPClassUID, source.sop_instance_uid)
            ],
        )
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=tracking,
        referenced_region=_region(source, outline(*source.size), 0),
        algorithm_id=_algorithm(context),
        qualitative_evaluations=[
            outcome,
            QualitativeEvaluation(
                concepts.private("region_meaning", language), concepts.private("whole_image", language)
            ),
        ],
    )


def outline(rows: int, columns: int) -> tuple[tuple[float, float], ...]:
    """Return the closed outline of a whole image as (column, row), as `Region` has them."""
    right, bottom = float(columns), float(rows)
    return ((0.0, 0.0), (right, 0.0), (right, bottom), (0.0, bottom), (0.0, 0.0))


def _region(source: SourceImage, points: Sequence[tuple[float, float]], frame: int) -> ImageRegion:
    frames = [frame + 1] if source.frames > 1 else None
    image = SourceImageForRegion(KNOWN_CLASS, source.sop_instance_uid, frames)
    region = ImageRegion("POLYLINE", np.array(points, dtype=np.float64), image)
    refer(region, source)
    return region


def _tracking(context: Context, identifier: str, number: int) -> TrackingIdentifier:
    return TrackingIdentifier(uid=context.uid("tracking", number), identifier=identifier)


def _algorithm(context: Context) -> AlgorithmIdentification:
    """Say what answered (TID 4019)."""
    model = context.reading.model
    parameters = [f"bundle SHA-256: {model.sha256}", f"members: {model.members}"]
    if model.operating_point is not None:
        parameters.append(f"operating point: {model.operating_point}")
        parameters.append(f"threshold of {model.positive_class}: {model.threshold}")
    return AlgorithmIdentification(
        name=model.name, version=model.software, parameters=parameters, manufacturer=MANUFACTURER
    )


def _measurements(context: Context, image: ImageReading, target: str) -> list[Measurement]:
    """List the numbers: the finding's probability first, which viewers show beside the region."""
    model, language = context.reading.model, context.language
    made = [_percentage(concepts.CERTAINTY, image.probabilities[target])]
    if model.threshold is not None:
        made.append(_percentage(concepts.THRESHOLD, model.threshold))
    made += [
        _percentage(concepts.class_probability(label, language), value)
        for label, value in image.probabilities.items()
    ]
    if target in image.calibrated:
        made.append(_percentage(concepts.private("calibrated", language), image.calibrated[target]))
    if image.spread is not None:
        made.append(_percentage(concepts.private("spread", language), image.spread))
    made += [
        _percentage(
            concepts.private("by_member", language),
            probabilities[target],
            AlgorithmIdentification(name=f"{model.name}: {name}", version=model.software),
        )
        for name, probabilities in image.members.items()
    ]
    return made


def _percentage(
    name: concepts.CodedConcept, share: float, by: AlgorithmIdentification | None = None
) -> Measurement:
    return Measurement(name, round(100 * share, 4), concepts.PERCENT, algorithm_id=by)


def _evaluations(sentences: Sequence[str]) -> ContainerContentItem:
    """Make the container of the sentences (TID 1500, rows 12 to 14), which highdicom has no argument for."""
    container = ContainerContentItem(concepts.QUALITATIVE_EVALUATIONS, relationship_type="CONTAINS")
    container.ContentSequence = ContentSequence(
        [TextContentItem(concepts.COMMENT, sentence, relationship_type="CONTAINS") for sentence in sentences]
    )
    return container
