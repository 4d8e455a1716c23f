"""Which distance tells images that a network was not trained for: AUROC, and what is flagged at a 1 % threshold.

    python benchmarks/screening.py ../shared/data [--train 1000] [--backbone efficientnet-lite0]

A network with ImageNet weights gives the features (no training). In distribution: held-out patients of
kermany/compact_224. Out: skin, leaves, blood smears, DICOM images of other kinds, and the held-out radiographs
inverted, turned by 90 degrees, or cropped to a part. Neither in nor out: the held-out radiographs saved again as JPEG
of quality 40, or with other contrast, and chest radiographs of adults. The threshold of each distance flags 1 % of 200
validation images. Each cell: AUROC against the held-out patients, and the share that is flagged.
"""

import argparse
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from freezeframe.backbones import zoo
from freezeframe.bundle.graphs import graph_of
from freezeframe.bundle.reference import COMPONENTS, FLAGGED, fit_reference
from freezeframe.bundle.runtime.contents import FEATURES
from freezeframe.bundle.runtime.pixel_facts import measure
from freezeframe.bundle.runtime.screening import Reference, from_pixels, unit
from freezeframe.bundle.runtime.sessions import open_session
from freezeframe.imaging.decode import decode
from freezeframe.imaging.image import DecodedImage, UnreadableImage
from freezeframe.imaging.preprocess import Preprocessing
from freezeframe.seeds import generator

VALIDATION, TEST = 200, 300
NEIGHBOURS = 10
CROP = 0.35
"""Side of a heavy crop, as a share of the image's."""
Score = Callable[[np.ndarray], np.ndarray]


def images(data: Path, train: int) -> Iterator[tuple[str, list[np.ndarray]]]:
    table = pd.read_csv(data / "kermany" / "manifest.csv")
    folder = data / "kermany"
    there = np.array([(folder / name).is_file() for name in table["file"]])
    table = table[there & (table["split"] == "train").to_numpy()]
    patients = generator(0, "patients").permutation(table["patient_loose"].unique())
    ordered = table.set_index("patient_loose").loc[patients]["file"]
    groups = ordered.index.to_numpy()
    start, parts = 0, {}
    for name, count in (("train", train), ("validation", VALIDATION), ("held-out patients", TEST)):
        stop = min(start + count, len(ordered))
        while stop < len(ordered) and groups[stop] == groups[stop - 1]:
            stop += 1
        parts[name] = [decode(folder / path).pixels for path in ordered.iloc[start:stop]]
        yield name, parts[name]
        start = stop
    for name, pattern in (
        ("skin", "skin/train/*/*"), ("leaves", "beans/train/*/*"), ("blood smears", "bccd/JPEGImages/*.jpg")
    ):  # fmt: skip
        yield name, [decode(path).pixels for path in _some(sorted(data.glob(pattern)))]
    kinds = pd.read_csv(data / "dicom" / "index.csv").set_index("file")
    others = [name for name in kinds.index if not name.startswith("chest_cr/")]
    yield "DICOM of other kinds", list(_readable(data / "dicom", others))
    yield "inverted", [np.iinfo(part.dtype).max - part for part in parts["held-out patients"]]
    yield "turned by 90 degrees", [np.rot90(part).copy() for part in parts["held-out patients"]]
    yield "heavy crops", [_crop(part, place) for place, part in enumerate(parts["held-out patients"])]
    yield "saved again, JPEG 40", [_saved_again(part) for part in parts["held-out patients"]]
    yield (
        "gamma 1.3",
        [np.rint(255 * (part / 255) ** 1.3).astype(np.uint8) for part in parts["held-out patients"]],
    )
    yield (
        "adults' chests",
        list(_readable(data / "dicom", [n for n in kinds.index if n.startswith("chest_cr/")])),
    )


def _some(paths: list[Path]) -> list[Path]:
    return [paths[place] for place in generator(0, "some").permutation(len(paths))[:TEST]]


def _readable(folder: Path, names: list[str]) -> Iterator[np.ndarray]:
    for name in names:
        try:
            pixels = decode(folder / name).pixels
        except UnreadableImage:
            continue
        if min(pixels.shape[:2]) >= 32:
            yield pixels


def _saved_again(pixels: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=40)
    return np.asarray(Image.open(buffer))


def _crop(pixels: np.ndarray, place: int) -> np.ndarray:
    height, width = (round(CROP * side) for side in pixels.shape[:2])
    random = generator(0, "crop", place)
    top = int(random.integers(0, pixels.shape[0] - height))
    left = int(random.integers(0, pixels.shape[1] - width))
    return pixels[top : top + height, left : left + width]


def features(pictures: list[np.ndarray], session: Any, preprocessing: Preprocessing) -> np.ndarray:
    found = []
    for start in range(0, len(pictures), 16):
        batch = [
            preprocessing.normalise(preprocessing.prepare(DecodedImage(pixels))[None])[0]
            for pixels in pictures[start : start + 16]
        ]
        found.append(session.run(np.stack(batch), (FEATURES,))[FEATURES])
    return np.concatenate(found)


def candidates(train: np.ndarray, validation: np.ndarray) -> dict[str, Score]:
    centre, scale = train.mean(axis=0), train.std(axis=0)
    scale = np.where(scale > 1e-3 * scale.max(), scale, np.inf)

    def standard(rows: np.ndarray) -> np.ndarray:
        return (rows - centre) / scale

    whole = LedoitWolf().fit(standard(train))
    projection = PCA(min(COMPONENTS, len(train) // 4), random_state=0).fit(standard(train))
    inside = LedoitWolf().fit(projection.transform(standard(train)))
    reference = Reference.load(fit_reference(train, validation, np.zeros((len(train), 32, 32))) or b"")
    means = KMeans(min(32, len(train) // 4), n_init=3, random_state=0).fit(unit(train))

    def outside(rows: np.ndarray) -> np.ndarray:
        rows = standard(rows)
        return np.linalg.norm(rows - projection.inverse_transform(projection.transform(rows)), axis=1)

    def neighbours(kept: np.ndarray) -> Score:
        finder = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(unit(kept))
        return lambda rows: finder.kneighbors(unit(rows))[0][:, -1]

    return {
        "Mahalanobis, standardised features": lambda rows: whole.mahalanobis(standard(rows)),
        "Mahalanobis after PCA": lambda rows: inside.mahalanobis(projection.transform(standard(rows))),
        "residual outside the PCA, standardised": outside,
        f"{NEIGHBOURS} nearest neighbours, unit length": neighbours(train),
        f"{NEIGHBOURS} nearest of 200, unit length": neighbours(train[:200]),
        "nearest of 32 means, unit length": lambda rows: means.transform(unit(rows)).min(axis=1),
        "**residual outside the PCA, unit length**": lambda rows: np.array(
            [reference.distance(row) for row in rows]
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--backbone", default="efficientnet-lite0")
    arguments = parser.parse_args()
    network = zoo.build(arguments.backbone, 2)
    backbone = network.backbone
    preprocessing = Preprocessing.from_steps(None, backbone.input_size, backbone.mean, backbone.std)
    session = open_session(graph_of(network.module, network.head, backbone.input_size).model)
    sets, facts, thumbnails = {}, {}, np.zeros(0)
    for name, pictures in images(arguments.data, arguments.train):
        facts[name] = [measure(pixels, preprocessing.prepare(DecodedImage(pixels))) for pixels in pictures]
        if name == "train":
            thumbnails = np.stack([fact.thumbnail for fact in facts.pop(name)])
        sets[name] = features(pictures, session, preprocessing)
        print(f"{name}: {len(pictures)} images", file=sys.stderr, flush=True)
    print_distances(sets)
    content = fit_reference(sets["train"], sets["validation"], thumbnails)
    look = Reference.load(content or b"").look
    print(f"\n| flagged as | {' | '.join(facts)} |\n{(1 + len(facts)) * '| --- '}|")
    for key in ("border", "contrast", "inverted"):
        cells = [
            f"{np.mean([key in (warning.key for warning in from_pixels(fact, look)) for fact in found]):.0%}"
            for found in facts.values()
        ]
        print(f"| {key} | {' | '.join(cells)} |")
    print(f"\nbytes of the reference: {len(content or b''):,}; look that 99 % reach: {look and look.least}")


def print_distances(kinds: dict[str, np.ndarray]) -> None:
    sets = dict(kinds)
    validation = sets.pop("validation")
    scores = candidates(sets.pop("train"), validation)
    print(f"| distance | {' | '.join(sets)} |\n{(1 + len(sets)) * '| --- '}|")
    for name, score in scores.items():
        threshold = np.quantile(score(validation), 1 - FLAGGED)
        inside = score(sets["held-out patients"])
        cells = []
        for place, rows in enumerate(sets.values()):
            found = score(rows)
            flagged = f"{np.mean(found > threshold):.0%}"
            labels = np.repeat([0, 1], [len(inside), len(found)])
            area = f"{roc_auc_score(labels, np.concatenate([inside, found])):.3f}, "
            cells.append(flagged if place == 0 else area + flagged)
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
