"""What is said of a result in whole sentences, alike in all its objects."""

from freezeframe.pacs.reading.findings import ImageReading
from freezeframe.pacs.results.context import Context
from freezeframe.pacs.results.words import say


def conclusion(context: Context) -> str:
    """Say the outcome of a study."""
    reading, language = context.reading, context.language
    if reading.outcome == "refused":
        return say(language, "study_refused")
    target = reading.model.positive_class
    if target is None:
        return say(language, "study_decided", decision=reading.images[0].decision)
    return say(language, f"study_{reading.outcome}", positive=target)


def image_warnings(context: Context, image: ImageReading) -> list[str]:
    """Say why an image may be one that the model was not made for."""
    return [warning.sentence(context.language) for warning in image.warnings]


def comments(context: Context, shown: int) -> list[str]:
    """Say all that a report says in sentences: that nobody verified it, the outcome, what warns, what is left out.

    Parameters
    ----------
    context : Context
        Of the result.
    shown : int
        How many of the images have a place of their own in the report.
    """
    reading, language = context.reading, context.language
    said = [say(language, "not_verified") + ".", conclusion(context)]
    for number, image in enumerate(reading.images, 1):
        place = say(language, "image_of", number=number, count=len(reading.images))
        said += [f"{place}: {sentence}" for sentence in image_warnings(context, image)]
    said += [say(language, "unreadable", uid=uid, reason=reason) for uid, reason in reading.unreadable]
    if len(reading.images) > shown:
        said.append(say(language, "more_images", count=len(reading.images) - shown))
    return said
