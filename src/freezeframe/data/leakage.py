"""Duplicates: the same file, the same pixels, or the same picture saved, cropped, turned or taken again.

Near duplicates are found in three steps. Every thumbnail is compared with every other at 16 x 16 pixels, turned,
mirrored and magnified, which is a matrix product; each picture's most alike partners are laid over it exactly; and
of those that fit, the fine detail is compared. Anatomy and layout, which all radiographs of one kind share, count
for nothing: the threshold rises above what the bulk of the compared pairs, distinct pictures, reaches in the data.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from freezeframe.data.registration import agreement, high_pass, normalise_contrast, register, sample, shrink

# The eight turns and reflections of a square, from the template's coordinates (x, y) to the picture's, and what a
# person calls them; a quarter turn is one kind in either direction.
TURNS = (
    ("same", ((1, 0), (0, 1))),
    ("flip-horizontal", ((-1, 0), (0, 1))),
    ("flip-vertical", ((1, 0), (0, -1))),
    ("rotate-180", ((-1, 0), (0, -1))),
    ("rotate-90", ((0, 1), (-1, 0))),
    ("rotate-90", ((0, -1), (1, 0))),
    ("transpose", ((0, 1), (1, 0))),
    ("transpose", ((0, -1), (-1, 0))),
)
KINDS = (
    "file",
    "pixels",
    "re-encoded",
    "resized",
    "cropped",
    "flip-horizontal",
    "flip-vertical",
    "rotate-180",
    "rotate-90",
    "transpose",
    "view",
)
MAGNIFICATIONS = (1.1, 1.25, 1.5, 1.8, 2.3)

# Chosen on the skin, kermany and beans images with planted copies; docs/data-inspect.md has the figures.
PAIRS_IN_ALL, PARTNERS, LEAST_ALIKE = 30_000, (5, 16), 0.45
SEARCH_SIDE, COARSE_SIDE, FINE_SIDE = 16, 24, 48
COARSE_THRESHOLD = 0.75
FINE_PAIRS_PER_IMAGE, LEAST_FINE_PAIRS = 0.5, 1000
LOWEST_THRESHOLD, HIGHEST_THRESHOLD, SPREADS = 0.55, 0.85, 4.5
FLAT = 2.0
ROWS, PAIRS = 512, 256


@dataclass(frozen=True)
class Duplicate:
    """Two images that show the same.

    Attributes
    ----------
    first, second : int
        Row numbers, the lower first.
    kind : str
        One of `KINDS`: the same bytes, the same pixels, saved again, at another size, mirrored or turned, cropped a
        little, or another view of the same thing (magnified, turned freely, or under other light).
    similarity : float
        Correlation of the fine detail after registration, at most 1.
    """

    first: int
    second: int
    kind: str
    similarity: float


def find_duplicates(
    keys: Sequence[str], pixel_hashes: Sequence[str], thumbnails: np.ndarray, sizes: np.ndarray
) -> list[Duplicate]:
    """Find all pairs of images that show the same.

    Parameters
    ----------
    keys : sequence of str
        (N,) identity of each file's bytes (and frame).
    pixel_hashes : sequence of str
        (N,) identity of the decoded pixels.
    thumbnails : ndarray
        (N, 96, 96) uint8.
    sizes : ndarray
        (N, 2) int, width and height.

    Returns
    -------
    list of Duplicate
        Exact ones first. Of several images with the same pixels, only the first is compared for near duplicates.
    """
    exact, first_of = _exact(keys, pixel_hashes)
    representatives = np.array(sorted(set(first_of)), dtype=np.int64)
    detailed = representatives[[thumbnails[row].std() >= FLAT for row in representatives]]
    near = _near(thumbnails[detailed], sizes[detailed]) if len(detailed) > 1 else []
    return exact + [
        Duplicate(int(detailed[pair.first]), int(detailed[pair.second]), pair.kind, pair.similarity)
        for pair in near
    ]


def group(count: int, duplicates: Sequence[Duplicate]) -> np.ndarray:
    """Join images that are linked by duplicates, directly or through others.

    Returns
    -------
    ndarray
        (count,) int, a group number from 0 for each image of a group, -1 for an image without duplicate.
    """
    rows = [pair.first for pair in duplicates]
    columns = [pair.second for pair in duplicates]
    links = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(count, count))
    _, component = connected_components(links, directed=False)
    numbers = np.full(count, -1, np.int64)
    linked = np.array(sorted({*rows, *columns}), dtype=np.int64)
    if len(linked):
        numbers[linked] = np.unique(component[linked], return_inverse=True)[1]
    return numbers


def _exact(keys: Sequence[str], pixel_hashes: Sequence[str]) -> tuple[list[Duplicate], list[int]]:
    first: dict[str, int] = {}
    first_of, pairs = [], []
    for row, (key, pixels) in enumerate(zip(keys, pixel_hashes, strict=True)):
        original = first.setdefault(pixels, row)
        first_of.append(original)
        if original != row:
            pairs.append(Duplicate(original, row, "file" if keys[original] == key else "pixels", 1.0))
    return pairs, first_of


def _near(thumbnails: np.ndarray, sizes: np.ndarray) -> list[Duplicate]:
    picture, template, maps = _candidates(thumbnails)
    if not len(picture):
        return []
    score, maps = _in_threads(thumbnails, picture, template, maps, _fit_coarsely)
    promising = np.argsort(-score)[: max(LEAST_FINE_PAIRS, int(FINE_PAIRS_PER_IMAGE * len(thumbnails)))]
    promising = promising[score[promising] >= COARSE_THRESHOLD]
    picture, template, maps = picture[promising], template[promising], maps[promising]
    if not len(picture):
        return []
    similarity, maps = _in_threads(thumbnails, picture, template, maps, _fit_finely)
    pairs = []
    for row in np.nonzero(similarity >= _threshold(similarity))[0]:
        one, other = int(picture[row]), int(template[row])
        kind = _kind(maps[row], thumbnails[one], thumbnails[other], bool((sizes[one] == sizes[other]).all()))
        pairs.append(Duplicate(min(one, other), max(one, other), kind, float(min(1.0, similarity[row]))))
    return sorted(pairs, key=lambda pair: -pair.similarity)


def _candidates(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find each image's most alike partners: rows of pictures and templates (B,), and first maps (B, 2, 3)."""
    count = len(thumbnails)
    plain = _unit(thumbnails)
    square = plain.reshape(count, SEARCH_SIDE, SEARCH_SIDE)
    variants = [_turn(square, matrix).reshape(count, -1) for _, matrix in TURNS]
    variants += [_unit(thumbnails, factor) for factor in MAGNIFICATIONS]
    matrices = [np.array(matrix, np.float32) for _, matrix in TURNS]
    matrices += [np.eye(2, dtype=np.float32) / factor for factor in MAGNIFICATIONS]
    each = min(count - 1, int(np.clip(PAIRS_IN_ALL / count, *PARTNERS)))
    pairs = set()
    for start in range(0, count, ROWS):
        rows = slice(start, min(start + ROWS, count))
        alike = np.full((rows.stop - start, count), -1, np.float32)
        for number, variant in enumerate(variants):
            np.maximum(alike, variant[rows] @ plain.T, out=alike)
            if number >= len(TURNS):  # for a turn the other direction is among the turns
                np.maximum(alike, plain[rows] @ variant.T, out=alike)
        own = np.arange(start, rows.stop)
        alike[own - start, own] = -2
        partners = np.argpartition(-alike, each - 1, axis=1)[:, :each]
        pairs |= {
            (min(one, other), max(one, other))
            for one, row in zip(own.tolist(), partners.tolist(), strict=True)
            for other in row
        }
    one, other = np.array(sorted(pairs)).T
    # Which variant it was is worked out again for the few that were chosen: cheaper than keeping it for all.
    score = np.stack(
        [np.einsum("bi,bi->b", v[a], plain[b]) for v in variants for a, b in ((one, other), (other, one))]
    )
    alike = score.max(0) >= LEAST_ALIKE
    one, other, best = one[alike], other[alike], score[:, alike].argmax(0)
    picture, template = np.where(best % 2, other, one), np.where(best % 2, one, other)
    maps = np.zeros((len(picture), 2, 3), np.float32)
    maps[:, :, :2] = np.stack(matrices)[best // 2]
    return picture, template, maps


def _unit(thumbnails: np.ndarray, factor: float = 1.0) -> np.ndarray:
    """Return the middle of each thumbnail, magnified, as a vector (N, 256) of mean 0 and length 1."""
    blocks = []
    for start in range(0, len(thumbnails), ROWS):  # in blocks, as floating point takes four times the memory
        block = shrink(_centre(thumbnails[start : start + ROWS], factor), SEARCH_SIDE)
        flat = high_pass(block, SEARCH_SIDE / 8).reshape(len(block), -1)
        flat = flat - flat.mean(1, keepdims=True)
        blocks.append(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-3))
    return np.concatenate(blocks)


def _turn(square: np.ndarray, matrix: tuple) -> np.ndarray:
    """Lay turned pictures on the template's grid."""
    (xx, xy), (yx, yy) = matrix
    if xy:  # x and y change places
        square, xx, yy = square.transpose(0, 2, 1), yx, xy
    return square[:, ::yy, ::xx]


def _centre(pictures: np.ndarray, factor: float) -> np.ndarray:
    size = pictures.shape[1]
    edge = round((size - size / factor) / 2)
    return pictures[:, edge : size - edge, edge : size - edge]


def _in_threads(
    thumbnails: np.ndarray, picture: np.ndarray, template: np.ndarray, maps: np.ndarray, fit: Callable
) -> tuple[np.ndarray, np.ndarray]:
    """Fit batches of pairs of like magnification, in two threads (more wait for Python's lock)."""
    magnification = np.sqrt(np.abs(np.linalg.det(maps[:, :, :2])))
    order = np.argsort(magnification)
    batches = np.split(order, range(PAIRS, len(order), PAIRS))
    score = np.empty(len(picture), np.float32)
    result = np.empty_like(maps)

    def work(batch: np.ndarray) -> None:
        size = float(1 / np.median(magnification[batch]))
        score[batch], result[batch] = fit(
            thumbnails[picture[batch]], thumbnails[template[batch]], maps[batch], size
        )

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, batches))
    return score, result


def _fit_coarsely(pictures: np.ndarray, templates: np.ndarray, maps: np.ndarray, size: float) -> tuple:
    side = _side(pictures, COARSE_SIDE, size)
    # The same detail in both: what is 1.4 pixels wide in the template is `size` times smaller in the whole picture.
    fine = high_pass(shrink(pictures, side), 0.06 * side / size)
    plain = high_pass(shrink(templates, COARSE_SIDE), 0.06 * COARSE_SIDE)
    return register(plain, fine, np.arange(len(maps)), maps, steps=6)


def _fit_finely(pictures: np.ndarray, templates: np.ndarray, maps: np.ndarray, size: float) -> tuple:
    side = _side(pictures, FINE_SIDE, size)
    ratio = side / size / FINE_SIDE
    large, small = shrink(pictures, side), shrink(templates, FINE_SIDE)
    own = np.arange(len(maps))
    _, maps = register(
        high_pass(small, 0.03 * FINE_SIDE), high_pass(large, 0.03 * FINE_SIDE * ratio), own, maps, steps=6
    )
    values, inside = sample(normalise_contrast(large, 1.5 * ratio), own, maps, FINE_SIDE)
    detail = normalise_contrast(small, 1.5).reshape(len(maps), -1)
    return agreement(detail, values, inside), maps


def _side(pictures: np.ndarray, template_side: int, size: float) -> int:
    return min(pictures.shape[1], round(template_side * max(1.0, size)))


def _threshold(similarity: np.ndarray) -> float:
    """Set the least similarity of a duplicate from the bulk of the pairs, which are distinct pictures."""
    compared = similarity[similarity > -1]
    if not len(compared):
        return HIGHEST_THRESHOLD
    middle = float(np.median(compared))
    # The lower half tells the spread of distinct pairs: duplicates widen the upper half only.
    spread = 1.4826 * float(np.median(middle - compared[compared <= middle]))
    return float(np.clip(middle + SPREADS * spread, LOWEST_THRESHOLD, HIGHEST_THRESHOLD))


def _kind(transformation: np.ndarray, picture: np.ndarray, template: np.ndarray, same_size: bool) -> str:
    linear, shift = transformation[:, :2], transformation[:, 2]
    distances = [float(np.abs(linear - np.array(matrix)).max()) for _, matrix in TURNS]
    nearest = int(np.argmin(distances))
    turn = TURNS[nearest][0]
    moved = max(distances[nearest], float(np.abs(shift).max()))
    if moved > 0.25:
        return "view"
    values, inside = sample(
        picture[None].astype(np.float32), np.zeros(1, np.int64), transformation[None], len(template)
    )
    plain = template.reshape(1, -1).astype(np.float32)
    if agreement(plain, values, inside)[0] < 0.97:
        return "view"
    if moved > 0.03:
        return "cropped" if turn == "same" else turn
    if turn != "same":
        return turn
    return "re-encoded" if same_size else "resized"
