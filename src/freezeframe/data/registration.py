"""Lay one thumbnail over another: which affine map makes two pictures agree, and how well they then agree.

Everything works on batches of pairs. Coordinates go from -1 to 1 over a picture's width (x) and height (y), whatever
its size.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

# A pair is compared where both pictures have pixels; with less in common nothing is said.
LEAST_OVERLAP = 0.6


def shrink(pictures: np.ndarray, side: int) -> np.ndarray:
    """Resize square pictures (N, H, H) to (N, side, side) float32, smoothed first where they get smaller."""
    size = pictures.shape[1]
    values = pictures.astype(np.float32)
    if side == size:
        return values
    if size % side == 0:
        step = size // side
        return values.reshape(len(values), side, step, side, step).mean((2, 4))
    if size > side:
        blur = 0.45 * (size / side - 1)
        values = gaussian_filter(values, (0, blur, blur), mode="nearest")
    position = np.clip((np.arange(side) + 0.5) * size / side - 0.5, 0, size - 1)
    left = np.minimum(position.astype(np.int64), size - 2)
    share = (position - left).astype(np.float32)
    values = values[:, left] * (1 - share)[:, None] + values[:, left + 1] * share[:, None]
    return values[:, :, left] * (1 - share) + values[:, :, left + 1] * share


def high_pass(pictures: np.ndarray, sigma: float) -> np.ndarray:
    """Take away what is smoother than `sigma` pixels: illumination, and what all radiographs share."""
    return pictures - gaussian_filter(pictures, (0, sigma, sigma), mode="nearest")


def normalise_contrast(pictures: np.ndarray, sigma: float) -> np.ndarray:
    """Bring the fine detail of every region to one strength, so that a black border does not outvote the rest."""
    detail = high_pass(pictures, sigma)
    energy = gaussian_filter(detail * detail, (0, 2 * sigma, 2 * sigma), mode="nearest")
    # 1.5 grey levels: weaker detail is noise of the compression.
    return detail / np.sqrt(energy + 1.5**2)


def sample(
    pictures: np.ndarray, index: np.ndarray, maps: np.ndarray, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Read pictures through affine maps.

    Parameters
    ----------
    pictures : ndarray
        (N, H, H) float32.
    index : ndarray
        (B,) which picture.
    maps : ndarray
        (B, 2, 3) float32, from the grid's coordinates to the picture's.
    side : int
        The grid has side x side points.

    Returns
    -------
    values, inside : ndarray
        (B, side * side) float32, bilinear, and 1 where the point lies in the picture, else 0.
    """
    size = pictures.shape[1]
    x, y = _grid(side)
    columns = (maps[:, 0, :1] * x + maps[:, 0, 1:2] * y + maps[:, 0, 2:] + 1) * (size / 2) - 0.5
    rows = (maps[:, 1, :1] * x + maps[:, 1, 1:2] * y + maps[:, 1, 2:] + 1) * (size / 2) - 0.5
    inside = (columns > -1) & (columns < size) & (rows > -1) & (rows < size)
    np.clip(columns, 0, size - 1.001, out=columns)
    np.clip(rows, 0, size - 1.001, out=rows)
    left, top = columns.astype(np.int64), rows.astype(np.int64)
    columns -= left
    rows -= top
    corner = (index * size * size)[:, None] + top * size + left
    flat = pictures.reshape(-1)
    upper, lower = flat[corner], flat[corner + size]
    upper += (flat[corner + 1] - upper) * columns
    lower += (flat[corner + size + 1] - lower) * columns
    return (upper + (lower - upper) * rows).astype(np.float32), inside.astype(np.float32)


def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    centres = ((np.arange(side) + 0.5) / side * 2 - 1).astype(np.float32)
    y, x = np.meshgrid(centres, centres, indexing="ij")
    return x.ravel(), y.ravel()


def agreement(one: np.ndarray, other: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Correlate two batches (B, P) where both have pixels; -1 where they overlap by less than `LEAST_OVERLAP`."""
    count = inside.sum(1, keepdims=True) + 1e-6
    one = (one - (one * inside).sum(1, keepdims=True) / count) * inside
    other = (other - (other * inside).sum(1, keepdims=True) / count) * inside
    norms = np.sqrt((one * one).sum(1) * (other * other).sum(1))
    correlation = (one * other).sum(1) / np.maximum(norms, 1e-6)
    return np.where(inside.mean(1) >= LEAST_OVERLAP, correlation, -1).astype(np.float32)


def register(
    templates: np.ndarray, pictures: np.ndarray, index: np.ndarray, maps: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Refine affine maps from templates to pictures by Gauss-Newton, whatever their brightness and contrast.

    The inverse compositional algorithm of Baker and Matthews, International Journal of Computer Vision 56 (2004).

    Parameters
    ----------
    templates : ndarray
        (B, n, n) float32, one a pair.
    pictures : ndarray
        (N, H, H) float32.
    index : ndarray
        (B,) which picture goes with each template.
    maps : ndarray
        (B, 2, 3) float32, first guesses.
    steps : int
        How many steps.

    Returns
    -------
    agreement, maps : ndarray
        (B,) the best correlation met, -1 for too little overlap, and the maps (B, 2, 3) that gave it.
    """
    side = templates.shape[1]
    x, y = _grid(side)
    down, across = np.gradient(templates, 2 / side, axis=(1, 2))
    template = templates.reshape(len(templates), -1)
    template = template - template.mean(1, keepdims=True)
    strength = template.std(1, keepdims=True) + 1e-3
    template = template / strength
    across = across.reshape(template.shape) / strength
    down = down.reshape(template.shape) / strength
    steepest = np.stack([across * x, across * y, across, down * x, down * y, down], 1)
    curvature = steepest @ steepest.transpose(0, 2, 1)
    damping = np.trace(curvature, axis1=1, axis2=2) * (1e-3 / 6) + 1e-6
    inverse = np.linalg.inv(curvature + damping[:, None, None] * np.eye(6, dtype=np.float32))

    best, best_maps = np.full(len(template), -2, np.float32), maps.copy()
    for step in range(steps + 1):
        values, inside = sample(pictures, index, maps, side)
        count = inside.sum(1, keepdims=True) + 1e-6
        values = (values - (values * inside).sum(1, keepdims=True) / count) * inside
        values /= np.sqrt((values * values).sum(1, keepdims=True) / count) + 1e-3
        now = agreement(template, values, inside)
        better = now > best
        best[better], best_maps[better] = now[better], maps[better]
        if step < steps:
            error = (values - template) * inside
            change = inverse @ (steepest @ error[:, :, None])
            maps = _compose(maps, change[:, :, 0])
    return best, best_maps


def _compose(maps: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Follow the inverse of a small change by the maps; a change that folds the picture is left out."""
    square = np.tile(np.eye(3, dtype=np.float32), (len(maps), 1, 1))
    square[:, :2] += change.reshape(-1, 2, 3)
    folded = ~(np.abs(np.linalg.det(square)) > 0.3)
    square[folded] = np.eye(3, dtype=np.float32)
    return (maps @ np.linalg.inv(square)).astype(np.float32)
