"""How many images a file holds; imported by worker processes, so it imports next to nothing."""

from pathlib import Path
from typing import TYPE_CHECKING

from freezeframe.imaging.decode import count_frames, is_dicom

if TYPE_CHECKING:
    from freezeframe.data.manifest import ImageReference


def frames_of(reference: "ImageReference") -> int:
    """Count the frames of a DICOM or TIFF file; 0 for a DICOM file that holds no image, such as a report.

    Raises
    ------
    UnreadableImage
        If the file is damaged or no image.
    """
    path = Path(reference.path)
    if is_dicom(path):
        # Imported here because pydicom takes half a second, which TIFF files do not have to pay.
        from freezeframe.imaging.header import integer, opened

        with opened(path) as file:
            # Objects without an image have no Rows (PS3.3, section C.7.6.3).
            if not file.keyword and integer(file.header, "Rows") is None:
                return 0
    return count_frames(path)
