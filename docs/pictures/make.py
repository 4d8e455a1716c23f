"""Draw the pictures of docs/preprocessing.md.

    python docs/pictures/make.py

Radiographs come from the synthetic hospital, dermoscopic images from `draw_lesion` below: no picture shows a patient.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from freezeframe.data.phantom import plan
from freezeframe.data.phantom_machine import render
from freezeframe.imaging.augment import Policy, apply, draw
from freezeframe.imaging.image import DecodedImage
from freezeframe.imaging.preprocess import Preprocessing
from freezeframe.seeds import generator

FOLDER = Path(__file__).parent
SIDE, GAP = 224, 6
DETAIL = (slice(150, 262), slice(60, 172))


def draw_lesion(seed: int = 0, side: int = 448) -> np.ndarray:
    """Draw skin with an uneven pigmented lesion and hairs, seen through a round window; (side, side, 3) uint8."""
    random = generator(seed, "docs-lesion")
    rows, columns = np.mgrid[:side, :side] / side - 0.5

    def cloud(scale: float) -> np.ndarray:
        noise = gaussian_filter(random.standard_normal((side, side)), scale * side, mode="wrap")
        return noise / noise.std()

    skin = np.array([0.86, 0.66, 0.58]) + 0.02 * cloud(0.03)[..., None] + 0.012 * cloud(0.004)[..., None]
    distance = np.hypot(rows - 0.03, 1.3 * columns + 0.04) + 0.03 * cloud(0.05)
    inside = 1 / (1 + np.exp((distance - 0.2) / 0.012))
    pigment = np.array([0.42, 0.24, 0.16]) * (
        1 + 0.15 * cloud(0.02)[..., None] + 0.1 * cloud(0.006)[..., None]
    )
    image = skin * (1 - inside[..., None]) + pigment * inside[..., None]
    image *= 1 - 0.25 * np.hypot(rows, columns)[..., None] ** 2
    image[np.hypot(rows, columns) > 0.64] = 0.02
    large = Image.fromarray(np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)).resize((2 * side, 2 * side))
    pen = ImageDraw.Draw(large)
    for _ in range(9):
        start, bend, end = 2 * side * random.random((3, 2))
        steps = np.linspace(0, 1, 60)[:, None]
        curve = (1 - steps) ** 2 * start + 2 * steps * (1 - steps) * bend + steps**2 * end
        pen.line([tuple(point) for point in curve], fill=(45, 28, 22), width=int(random.integers(6, 10)))
    return np.asarray(large.resize((side, side), Image.Resampling.LANCZOS))


def draw_radiograph(number: int, side: int = 400) -> np.ndarray:
    """Take an image of the synthetic hospital, windowed as its file says; the short side is `side`, uint8."""
    shot = next(shot for shot in plan(60, 0) if shot.number == number)
    picture, (low, high) = render(shot)
    shown = np.rint(255 * np.clip((picture - low) / (high - low), 0, 1)).astype(np.uint8)
    image = Image.fromarray(shown)
    scale = side / min(image.size)
    return np.asarray(
        image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    )


def after(step: str | dict, pixels: np.ndarray) -> np.ndarray:
    """Return the image after one step; stops where the step fell back, for then the picture would show nothing."""
    stage = list(
        Preprocessing.from_steps([step], (SIDE, SIDE), (0.5,) * 3, (0.5,) * 3).stages(DecodedImage(pixels))
    )[1]
    if stage.note:
        raise SystemExit(f"{step}: {stage.note}")
    return stage.pixels


def tile(pixels: np.ndarray) -> Image.Image:
    """Scale into a white square, aspect kept."""
    image = Image.fromarray(pixels).convert("RGB")
    scale = SIDE / max(image.size)
    small = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    square = Image.new("RGB", (SIDE, SIDE), "white")
    square.paste(small, ((SIDE - small.width) // 2, (SIDE - small.height) // 2))
    return square


def save(name: str, pictures: list[np.ndarray]) -> None:
    """Write pictures side by side as WebP."""
    sheet = Image.new("RGB", (len(pictures) * (SIDE + GAP) - GAP, SIDE), "white")
    for place, picture in enumerate(pictures):
        sheet.paste(tile(picture), (place * (SIDE + GAP), 0))
    path = FOLDER / f"{name}.webp"
    sheet.save(path, "WEBP", quality=72, method=6)
    print(f"{path.name}: {path.stat().st_size / 1000:.1f} kB")


def main() -> None:
    """Draw all of them."""
    chest, marked, lesion = draw_radiograph(3), draw_radiograph(4), draw_lesion()
    save("equalise", [chest, after("equalise", chest)])
    detail = {
        "sharpen": "sharpen",
        "smooth-gaussian": "smooth",
        "smooth-median": {"smooth": {"mode": "median", "radius": 2}},
        "smooth-bilateral": {"smooth": {"mode": "bilateral", "radius": 2}},
        "denoise": "denoise",
    }
    for name, step in detail.items():
        save(name, [picture[DETAIL] for picture in (chest, after(step, chest))])
    save("crop-lungs", [chest, after("crop-lungs", chest)])
    save("mask-border", [marked, after("mask-border", marked)])
    save("remove-hair", [lesion, after("remove-hair", lesion)])
    shaved = after("remove-hair", lesion)
    save("crop-lesion", [shaved, after("crop-lesion", shaved)])
    for policy, image in (("randaugment-grey", chest), ("elastic", chest), ("colour-constancy", lesion)):
        prepared = after("resize", image)
        views = [apply(prepared, draw(Policy.named(policy), 0, "docs", view)) for view in range(4)]
        shown = [np.rint(255 * view.transpose(1, 2, 0)).astype(np.uint8) for view in views]
        save(policy, [view[..., 0] if view.shape[2] == 1 else view for view in shown])


if __name__ == "__main__":
    main()
