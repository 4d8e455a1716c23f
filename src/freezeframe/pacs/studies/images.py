"""What of a study is an image to read, and what is a result of a node that came back."""

from pydicom.dataset import Dataset
from pydicom.uid import UID

from freezeframe.imaging.header import text

MANUFACTURER = "freezeframe"
"""(0008,0070) of every object that a node makes; of images it is the modality's."""


def is_image_class(sop_class_uid: str) -> bool:
    """Return whether objects of a SOP class are images: not reports, presentation states, segmentations, plans.

    Examples
    --------
    >>> is_image_class("1.2.840.10008.5.1.4.1.1.1.1")  # Digital X-Ray Image Storage - For Presentation
    True
    >>> is_image_class("1.2.840.10008.5.1.4.1.1.88.34")  # Comprehensive 3D SR Storage
    False
    """
    return "ImageStorage" in UID(sop_class_uid).keyword


def is_result(header: Dataset) -> bool:
    """Return whether an object was made by a node, this one or another.

    A PACS may send back what it was sent. Whoever reads such a picture makes a result of a result, for ever.
    """
    return text(header, "Manufacturer").casefold() == MANUFACTURER
