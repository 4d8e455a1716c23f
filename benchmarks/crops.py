"""How often crop-lungs and crop-lesion find nothing and keep the whole image, by class, and the seconds of each step.

    python benchmarks/crops.py ../shared/data/kermany/compact_224/train --step crop-lungs --images 200
    python benchmarks/crops.py ../shared/data/skin/train --step crop-lesion
    python benchmarks/crops.py --seconds

The folder has one folder a class; so many images of each class are drawn at random, seeded.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from PIL import Image

from freezeframe.evaluation.intervals import wilson
from freezeframe.imaging.decode import decode
from freezeframe.imaging.preprocess import Preprocessing
from freezeframe.seeds import generator

REPEATS = 3


def fallbacks(folder: Path, step: str, images: int | None) -> None:
    preprocessing = Preprocessing.from_steps([step], (224, 224), (0.5,) * 3, (0.5,) * 3)
    print(
        "| class | images | kept whole | share (95 %) | kept of the area, where cropped |\n"
        + 5 * "| --- "
        + "|"
    )
    for group in sorted(path for path in folder.iterdir() if path.is_dir()):
        paths = sorted(path for path in group.iterdir() if path.is_file())
        order = generator(0, "crops", group.name).permutation(len(paths))[:images]
        found = []
        for place in order:
            whole, cropped = list(preprocessing.stages(decode(paths[place])))[:2]
            if not cropped.note:
                found.append(np.prod(cropped.pixels.shape[:2]) / np.prod(whole.pixels.shape[:2]))
        missed = len(order) - len(found)
        low, high = wilson(missed, len(order))
        print(
            f"| {group.name} | {len(order)} | {missed} | {missed / len(order):.1%} ({low:.1%} to {high:.1%}) "
            f"| median {np.median(found):.0%} |",
            flush=True,
        )


def seconds() -> None:
    """Time each step on a synthetic radiograph and, for colour steps, on smooth noise in colour."""
    from freezeframe.data.phantom import plan
    from freezeframe.data.phantom_machine import render

    picture, _ = render(next(plan(2, 0)))
    radiograph = Image.fromarray(np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8))
    steps = [
        "equalise", "sharpen", "smooth", {"smooth": {"mode": "median"}}, {"smooth": {"mode": "bilateral"}}, "denoise",
        "mask-border", "remove-hair", "crop-lungs", "crop-lesion",
    ]  # fmt: skip
    print("| step | 224 x 224 grey | 1500 x 1500 grey | 224 x 224 colour |\n| --- | --- | --- | --- |")
    for step in steps:
        cells = []
        for side, colour in ((224, False), (1500, False), (224, True)):
            grey = np.asarray(radiograph.resize((side, side), Image.Resampling.BILINEAR))
            pixels = np.stack([grey, grey // 2, grey // 3], 2) if colour else grey
            cells.append(f"{_time(step, pixels):.2f} s")
        print(f"| {step} | {' | '.join(cells)} |")


def _time(step: str | dict, pixels: np.ndarray) -> float:
    from freezeframe.imaging.image import DecodedImage

    preprocessing = Preprocessing.from_steps([step], (224, 224), (0.5,) * 3, (0.5,) * 3)
    taken = []
    for _ in range(REPEATS):
        stages = preprocessing.stages(DecodedImage(pixels))
        next(stages)
        start = time.process_time()
        next(stages)
        taken.append(time.process_time() - start)
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--step", default="crop-lungs")
    parser.add_argument("--images", type=int, help="of each class; all where left out")
    parser.add_argument("--seconds", action="store_true")
    arguments = parser.parse_args()
    if arguments.seconds:
        seconds()
    else:
        fallbacks(arguments.folder, arguments.step, arguments.images)


if __name__ == "__main__":
    main()
