"""Plant duplicates of known kinds across the splits of a small copy of a real data set."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from freezeframe.seeds import generator

KINDS = ("file", "pixels", "jpeg", "resized", "flip-horizontal", "flip-vertical", "rotate-90", "cropped")
TURNS = {
    "flip-horizontal": Image.Transpose.FLIP_LEFT_RIGHT,
    "flip-vertical": Image.Transpose.FLIP_TOP_BOTTOM,
    "rotate-90": Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Planted:
    original: str
    copy: str
    kind: str


def plant(source: Path, target: Path, images: int, each: int, seed: int = 0) -> list[Planted]:
    """Copy `images` of a folder to target/train/<class> and plant `each` duplicates a kind in target/test/<class>.

    Class folders are the names of the images' folders. Each original is used for one duplicate.
    """
    random = generator(seed, "planting", source.name)
    paths = sorted(path for path in source.rglob("*") if path.suffix in (".jpg", ".jpeg"))
    chosen = [paths[index] for index in random.permutation(len(paths))[:images]]
    names = {
        path: f"train/{path.parent.name}/{number:05d}{path.suffix}" for number, path in enumerate(chosen)
    }
    for path, name in names.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / name)
    planted = []
    for number, path in enumerate(chosen[: each * len(KINDS)]):
        kind = KINDS[number % len(KINDS)]
        stem = f"test/{path.parent.name}/{number:05d}"
        (target / stem).parent.mkdir(parents=True, exist_ok=True)
        planted.append(Planted(names[path], _copy(path, target, stem, kind, random), kind))
    return planted


def _copy(path: Path, target: Path, stem: str, kind: str, random: np.random.Generator) -> str:
    if kind == "file":
        shutil.copyfile(path, target / f"{stem}{path.suffix}")
        return f"{stem}{path.suffix}"
    image = Image.open(path)
    if kind == "pixels":
        image.save(target / f"{stem}.png")
        return f"{stem}.png"
    if kind == "resized":
        factor = 2 ** random.uniform(-1, 1)
        image = image.resize(
            (round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC
        )
    elif kind == "cropped":
        left, top, right, bottom = random.uniform(0.01, 0.06, 4)
        box = (left * image.width, top * image.height, (1 - right) * image.width, (1 - bottom) * image.height)
        image = image.crop(tuple(round(edge) for edge in box))
    elif kind in TURNS:
        image = image.transpose(TURNS[kind])
    image.save(target / f"{stem}.jpg", quality=int(random.integers(60, 91)))
    return f"{stem}.jpg"
