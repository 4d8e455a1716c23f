"""What this node says that it takes: SOP classes of images, transfer syntaxes that `imaging` decodes, its own name."""

from functools import cache

from pydicom import uid
from pynetdicom.presentation import PresentationContext, build_context

from freezeframe import __version__
from freezeframe.pacs import uids

IMPLEMENTATION_CLASS_UID = uids.derived("2.25", "freezeframe", "implementation class")
IMPLEMENTATION_VERSION_NAME = f"FREEZEFRAME_{'_'.join(__version__.split('.')[:2])}"
"""At most 16 characters (PS3.7, section D.3.3.2.3)."""

IMAGE_CLASSES = (
    uid.ComputedRadiographyImageStorage,
    uid.DigitalXRayImageStorageForPresentation,
    uid.DigitalXRayImageStorageForProcessing,
    uid.DigitalMammographyXRayImageStorageForPresentation,
    uid.DigitalMammographyXRayImageStorageForProcessing,
    uid.BreastTomosynthesisImageStorage,
    uid.DigitalIntraOralXRayImageStorageForPresentation,
    uid.DigitalIntraOralXRayImageStorageForProcessing,
    uid.XRayAngiographicImageStorage,
    uid.XRayRadiofluoroscopicImageStorage,
    uid.EnhancedXAImageStorage,
    uid.EnhancedXRFImageStorage,
    uid.CTImageStorage,
    uid.EnhancedCTImageStorage,
    uid.LegacyConvertedEnhancedCTImageStorage,
    uid.MRImageStorage,
    uid.EnhancedMRImageStorage,
    uid.EnhancedMRColorImageStorage,
    uid.LegacyConvertedEnhancedMRImageStorage,
    uid.UltrasoundImageStorage,
    uid.UltrasoundMultiFrameImageStorage,
    uid.NuclearMedicineImageStorage,
    uid.PositronEmissionTomographyImageStorage,
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameSingleBitSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
    uid.VLEndoscopicImageStorage,
    uid.VLMicroscopicImageStorage,
    uid.VLPhotographicImageStorage,
    uid.OphthalmicPhotography8BitImageStorage,
    uid.OphthalmicPhotography16BitImageStorage,
    uid.OphthalmicTomographyImageStorage,
    uid.DermoscopicPhotographyImageStorage,
)
"""Those that `freezeframe.imaging` can read: images of pixels. Reports, presentation states and plans are none."""

TRANSFER_SYNTAXES = (
    # A sender that offers several in one presentation context gets the first of these: uncompressed, then lossless.
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.JPEGLSLossless,
    uid.JPEG2000Lossless,
    uid.JPEGLosslessSV1,
    uid.JPEGLossless,
    uid.RLELossless,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.DeflatedExplicitVRLittleEndian,
    uid.JPEGLSNearLossless,
    uid.JPEG2000,
    uid.HTJ2K,
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
)
VERIFICATION = "1.2.840.10008.1.1"
STORAGE_COMMITMENT = "1.2.840.10008.1.20.1"
_UNCOMPRESSED = (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian)


@cache
def contexts(may: tuple[str, ...], commitment: bool) -> list[PresentationContext]:
    """Return the presentation contexts that are accepted of a peer; made once, and not to be changed.

    Parameters
    ----------
    may : tuple of str
        'echo' and 'store', as in the configuration.
    commitment : bool
        Whether it may say that it keeps what this node sent it. The peer is the provider of that service although it
        calls, so it selects roles (PS3.4, section J.3.3; PS3.7, section D.3.3.4).
    """
    accepted = []
    if "echo" in may:
        accepted.append(build_context(VERIFICATION, list(_UNCOMPRESSED)))
    if "store" in may:
        accepted += [build_context(entry, list(TRANSFER_SYNTAXES)) for entry in IMAGE_CLASSES]
    if commitment:
        context = build_context(STORAGE_COMMITMENT, list(_UNCOMPRESSED))
        context.scu_role = context.scp_role = True  # also of those that report without selecting a role
        accepted.append(context)
    return accepted
