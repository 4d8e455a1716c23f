"""Whether a DICOM file has all its pixel data: one that is still being copied has a header like any other."""

import mmap
from pathlib import Path

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from freezeframe.pacs.intake.elements import UNDEFINED_LENGTH, BrokenDataSetError, Encoding, walk
from freezeframe.pacs.intake.header import Header

_PIXEL_DATA = (0x7FE00008, 0x7FE00009, 0x7FE00010)


def is_whole(path: Path, header: Header) -> bool:
    """Return whether the pixel data ends within the file; what comes after it does not matter.

    Parameters
    ----------
    path : Path
        A file that nobody writes to.
    header : Header
        Of that file. Deflated data sets are taken as whole: their own end mark tells it to whoever decodes them.
    """
    syntax = header.transfer_syntax_uid
    if syntax == DeflatedExplicitVRLittleEndian:
        return True
    encoding = Encoding(syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian)
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = False
        try:
            for element in walk(content, header.start, encoding):
                if found:
                    return True
                if element.tag in _PIXEL_DATA:
                    if element.length != UNDEFINED_LENGTH:
                        return element.start + element.length <= len(content)
                    found = True  # its fragments are walked before the next element comes
        except BrokenDataSetError:
            return False
        return found
