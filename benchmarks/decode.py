"""Measure how many images a second are decoded and prepared, by kind of file and number of worker processes.

Run ``python benchmarks/decode.py ../shared/data/kermany``; the files are made from its real radiographs in a temporary
folder, and every case is measured in turn, several times over, so that a noisy machine is noisy for all of them.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from openjpeg.utils import encode_array
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)

from freezeframe.data.manifest import ImageReference
from freezeframe.imaging.preprocess import Preprocessing, prepare_image
from freezeframe.imaging.workers import UnreadableImage, map_images

PREPARE = partial(
    prepare_image, preprocessing=Preprocessing.from_steps(None, (224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kermany", type=Path, help="folder with compact_224 and compact_320_subset")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = list(make_cases(arguments.kermany, Path(folder)))
        rates: dict[tuple[str, int], list[float]] = {}
        for _ in range(arguments.repeats):
            for name, references in cases:
                for workers in (1, 2):
                    rates.setdefault((name, workers), []).append(measure(references, workers))
    print(f"{'files':<44} {'workers':>7} {'images/s':>9} {'least':>7} {'most':>7}")
    for (name, workers), values in rates.items():
        print(
            f"{name:<44} {workers:>7} {statistics.median(values):>9.1f} {min(values):>7.1f} {max(values):>7.1f}"
        )


def measure(references: list[ImageReference], workers: int) -> float:
    """Return images a second from the first result on, so without the start of the processes."""
    begun, count = 0.0, 0
    for _, outcome in map_images(PREPARE, references, workers=workers):
        if isinstance(outcome, UnreadableImage):
            raise outcome
        begun = begun or time.perf_counter()
        count += 1
    return (count - 1) / (time.perf_counter() - begun)


def make_cases(kermany: Path, folder: Path) -> Iterator[tuple[str, list[ImageReference]]]:
    small = sorted((kermany / "compact_224" / "train").rglob("*.jpeg"))
    small = small or sorted((kermany / "compact_224" / "train").rglob("*.jpg"))
    yield "grey JPEG 224 x 224", [ImageReference(path) for path in small[:: len(small) // 400][:400]]
    sources = sorted((kermany / "compact_320_subset").rglob("*.jp*g"))
    sources = sources[:: len(sources) // 40][:40]
    radiographs = [Image.open(path).convert("L") for path in sources]
    large = []
    for index, image in enumerate(radiographs):
        path = folder / f"{index}.jpg"
        image.resize((1300, 1000), Image.Resampling.LANCZOS).save(path, quality=90)
        large.append(ImageReference(path))
    yield "grey JPEG 1300 x 1000", large
    for syntax, name in (
        (ExplicitVRLittleEndian, "raw"),
        (RLELossless, "RLE"),
        (JPEG2000Lossless, "JPEG 2000"),
    ):
        references = []
        for index, image in enumerate(radiographs[:8]):
            path = folder / f"{index}-{name.replace(' ', '')}.dcm"
            write_dicom(path, image, syntax, np.random.default_rng(index))
            references.append(ImageReference(path))
        yield f"DICOM 2000 x 2000, 12 of 16 bits, {name}", references


def write_dicom(path: Path, image: Image.Image, syntax: str, random: np.random.Generator) -> None:
    """Write a radiograph as 12-bit DICOM with the noise of a detector, which decides how well it compresses."""
    enlarged = np.asarray(image.resize((2000, 2000), Image.Resampling.BICUBIC)).astype(np.float32) * 16
    pixels = np.clip(enlarged + random.normal(0, 8, enlarged.shape), 0, 4095).astype(np.uint16)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 2000, 2000, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.WindowCenter, dataset.WindowWidth = 2048, 4096
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OW"
    if syntax == RLELossless:
        dataset.compress(RLELossless, encoding_plugin="gdcm")
    elif syntax == JPEG2000Lossless:
        dataset.PixelData = encapsulate([encode_array(pixels, bits_stored=12)])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.save_as(path)


if __name__ == "__main__":
    main()
