"""The X-ray shadow of an invented chest, drawn from formulas: nothing in it comes from a patient or another image.

All coordinates are *chest units*: u to the image's right (the patient's left), v downwards, the thorax about 1.5
wide and centred on (0, 0). Attenuation is additive along the ray, as in the real thing (Beer-Lambert), with about
1.0 for the soft tissue of an average chest; only contrasts matter, for the detector's own curve follows.
"""

import math
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

RIB_SPACING = 0.118
VERTEBRA_HEIGHT = 0.118

Array = np.ndarray


@dataclass(frozen=True)
class Chest:
    """One invented person's anatomy; every image of the person shows it again.

    Lengths are in chest units; `habitus` is the thickness of the soft tissue relative to an average person.
    """

    lung_width: float
    apex: float
    right_dome: float
    left_dome: float
    heart_width: float
    heart_tilt: float
    aortic_knob: float
    rib_spacing: float
    rib_slope: float
    rib_calcium: float
    habitus: float
    breasts: float
    nipples: float
    vessels: float
    tree_seed: int


@dataclass(frozen=True)
class Opacity:
    """One soft, irregular shadow in a lung.

    `contrast` is its peak attenuation; `side` -1 is the patient's right lung, +1 the left; `height` goes from 0 (apex)
    to 1 (diaphragm), `depth` from 0 (hilum) to 1 (chest wall).
    """

    side: int
    height: float
    depth: float
    radius: float
    elongation: float
    angle: float
    contrast: float
    texture_seed: int


def draw_chest(random: np.random.Generator) -> Chest:
    """Invent a person."""
    female = random.random() < 0.5
    return Chest(
        lung_width=float(random.normal(0.74, 0.025)),
        apex=float(random.normal(-0.74, 0.03)),
        right_dome=float(random.normal(0.40, 0.045)),
        left_dome=float(random.normal(0.45, 0.045)),
        heart_width=float(np.clip(random.normal(0.36, 0.035), 0.28, 0.47)),
        heart_tilt=float(random.normal(0.5, 0.08)),
        aortic_knob=float(random.uniform(0.06, 0.11)),
        rib_spacing=float(random.normal(RIB_SPACING, 0.005)),
        rib_slope=float(random.normal(0.27, 0.04)),
        rib_calcium=float(random.uniform(0.10, 0.16)),
        habitus=float(np.clip(random.normal(1.0, 0.14), 0.75, 1.4)),
        breasts=float(random.uniform(0.05, 0.16)) if female else 0.0,
        nipples=float(random.uniform(0.03, 0.08)) if random.random() < 0.25 else 0.0,
        vessels=float(random.uniform(0.75, 1.25)),
        tree_seed=int(random.integers(2**31)),
    )


def draw_opacities(random: np.random.Generator, subtlety: float) -> tuple[Opacity, ...]:
    """Invent the shadows of one abnormal image.

    Parameters
    ----------
    random : numpy.random.Generator
        Source of randomness.
    subtlety : float
        0 (obvious) to 1 (barely visible).

    Returns
    -------
    tuple of Opacity
        One to three.
    """
    count = int(random.choice([1, 2, 3], p=[0.6, 0.28, 0.12]))
    strength = 0.65 - 0.37 * subtlety
    return tuple(
        Opacity(
            side=int(random.choice([-1, 1])),
            height=float(random.beta(2.6, 1.6)),
            depth=float(random.uniform(0.2, 0.8)),
            radius=float(random.uniform(0.15, 0.30)),
            elongation=float(random.uniform(0.75, 1.6)),
            angle=float(random.uniform(0, np.pi)),
            contrast=float(strength * random.uniform(0.8, 1.15)),
            texture_seed=int(random.integers(2**31)),
        )
        for _ in range(count)
    )


def attenuation(chest: Chest, opacities: tuple[Opacity, ...], u: Array, v: Array) -> Array:
    """Compute the shadow that a person casts.

    Parameters
    ----------
    chest : Chest
        The person.
    opacities : tuple of Opacity
        What is abnormal; empty for a normal image.
    u, v : numpy.ndarray
        float32 (H, W), chest units of each pixel.

    Returns
    -------
    numpy.ndarray
        float32 (H, W), at least 0 (air), about 0.4 in a lung and up to 2 over the spine.
    """
    side = np.where(u < 0, -1.0, 1.0).astype(np.float32)
    a = np.abs(u)
    body = _body(chest, a, v)
    lung, cage = _lungs(chest, u, a, v)
    shadow = chest.habitus * body * (0.92 + 0.10 * v) - 0.68 * lung
    shadow += _mediastinum(chest, u, a, v)
    shadow += (
        _spine(u, v)
        + _clavicles_and_shoulders(chest, a, v)
        + chest.rib_calcium * _ribs(chest, a, v, side, cage)
    )
    vessels, bronchi = _trees(chest, u, v)
    shadow += lung * (0.22 * chest.vessels * vessels + 0.03 * _cloud(chest.tree_seed, u.shape, 40))
    for opacity in opacities:
        shadow += _opacity(chest, opacity, u, v, lung, bronchi)
    shadow += _chest_wall(chest, a, v) - _gas(chest, u, v)
    return np.maximum(shadow * (body > 0.02), 0.0)


def edge(distance: Array, softness: float) -> Array:
    """Step smoothly from 0 (distance <= -softness) to 1 (distance >= softness)."""
    t = distance * np.float32(0.5 / softness) + np.float32(0.5)
    np.clip(t, 0.0, 1.0, out=t)
    return t * t * (np.float32(3.0) - np.float32(2.0) * t)


def _body(chest: Chest, a: Array, v: Array) -> Array:
    """Draw the soft tissue of trunk, neck and shoulders: thick in the middle, thin at the skin."""
    trunk_width = (0.86 + 0.10 * chest.habitus) * (1.0 + 0.05 * v)
    arm = 0.45 * edge(-0.12 - v, 0.28)
    trunk = np.sqrt(np.clip(1.0 - (a / (trunk_width + arm)) ** 2, 0.0, 1.0))
    # The trapezius runs from the neck to the shoulder in a hollow curve.
    shoulder_line = -0.72 - 0.09 / (a + 0.02)
    skin = edge(v - shoulder_line, 0.09)
    return trunk * skin * (0.72 + 0.28 * edge(v - shoulder_line - 0.2, 0.35))


def _lungs(chest: Chest, u: Array, a: Array, v: Array) -> tuple[Array, Array]:
    """Return the air (0 to 1, thickness along the ray) and the distance inside the rib cage (> 0 inside)."""
    middle = 0.33
    reach = np.where(a > middle, chest.lung_width - middle, 0.36).astype(np.float32)
    up = np.maximum(0.12 - v, 0.0) / (0.12 - chest.apex)
    inside = 1.0 - (np.abs(a - middle) / reach) ** 2.4 - up**2.6
    dome = chest.right_dome + (chest.left_dome - chest.right_dome) * edge(u, 0.10)
    lateral = np.maximum(a - 0.40, 0.0)
    medial = np.maximum(0.36 - a, 0.0)
    diaphragm = dome + 2.9 * lateral**2 + 0.9 * medial**2
    above = edge(diaphragm - v, 0.012)
    # The lung reaches down behind the dome: that part is seen faintly through the abdomen.
    recess = 0.10 * edge(dome + 0.24 - v, 0.12)
    air = np.sqrt(np.clip(inside * 1.15, 0.0, 1.0)) * np.maximum(above, recess)
    return air.astype(np.float32), inside


def _mediastinum(chest: Chest, u: Array, a: Array, v: Array) -> Array:
    """Draw heart, great vessels and hila, and the air of trachea and main bronchi."""
    cos, sin = np.cos(chest.heart_tilt), np.sin(chest.heart_tilt)
    du, dv = u - 0.10, v - 0.20
    along, across = cos * du + sin * dv, -sin * du + cos * dv
    heart = 1.0 - (along / chest.heart_width) ** 2 - (across / (0.76 * chest.heart_width)) ** 2
    atrium = 1.0 - ((u + 0.07) / 0.165) ** 2 - ((v - 0.20) / 0.24) ** 2
    knob = 1.0 - ((u - 0.115) / chest.aortic_knob) ** 2 - ((v + 0.27) / (1.1 * chest.aortic_knob)) ** 2
    trunk = 1.0 - ((u - 0.15) / 0.10) ** 2 - ((v + 0.10) / 0.13) ** 2
    band = edge(0.125 + 0.06 * np.maximum(v, 0) + 0.03 * np.sin(5 * v) - a, 0.035)
    heart_shadow = np.maximum(np.sqrt(np.clip(heart, 0, 1)), 0.8 * np.sqrt(np.clip(atrium, 0, 1)))
    arteries = np.maximum(np.sqrt(np.clip(knob, 0, 1)), 0.7 * np.sqrt(np.clip(trunk, 0, 1)))
    hila = np.exp(-(((a - 0.20) / 0.07) ** 2) - ((v + 0.03 - 0.03 * np.sign(u)) / 0.11) ** 2)
    trachea = edge(0.042 - np.abs(u + 0.008), 0.018) * edge(-0.17 - v, 0.05) * edge(v + 1.05, 0.05)
    carina = edge(0.026 - np.abs(v + 0.17 - 0.75 * a), 0.016) * edge(0.17 - a, 0.04) * edge(a + 0.02, 0.02)
    return (
        0.52 * heart_shadow
        + 0.30 * arteries
        + 0.40 * band * (0.55 + 0.45 * edge(v + 0.55, 0.3))
        + 0.17 * hila
        - 0.17 * trachea
        - 0.11 * carina
    )


def _spine(u: Array, v: Array) -> Array:
    """Draw vertebral bodies with disc spaces, pedicles and spinous processes, seen through the mediastinum."""
    phase = v / VERTEBRA_HEIGHT
    within = phase - np.round(phase)
    waist = 0.080 - 0.005 * np.cos(2 * np.pi * within)
    column = edge(waist - np.abs(u), 0.014)
    bone = 0.75 + 0.25 * edge(0.38 - np.abs(within), 0.08)
    pedicles = np.exp(-(((np.abs(u) - 0.052) / 0.014) ** 2) - ((within + 0.08) / 0.16) ** 2)
    process = np.exp(-((u / 0.013) ** 2) - ((within - 0.22) / 0.14) ** 2)
    return column * (0.19 * bone + 0.08 * pedicles + 0.07 * process) * (0.85 + 0.3 * edge(v, 1.0))


def _ribs(chest: Chest, a: Array, v: Array, side: Array, cage: Array) -> Array:
    """Draw posterior ribs (strong, nearly level) and anterior ribs (faint, steep), all at once by their phase.

    Each rib is a tube: its profile is the chord of a circle, with the cortex brighter at the edges.
    """
    spacing = chest.rib_spacing
    reach = a / chest.lung_width
    fan = 1.0 + 0.12 * np.clip(v, -0.8, 0.8)
    # Upper ribs bend more sharply than lower ones.
    bend = chest.rib_slope * (1.0 - 0.25 * v)
    posterior = v + 0.07 * np.sin(np.pi * np.clip(reach * 1.4, 0, 1)) - bend * reach**2.6 + 0.006 * side
    shadow = _tubes(posterior, spacing * fan, 0.028) * edge(a - 0.07, 0.02) * (1.0 - 0.25 * reach)
    anterior = v - 0.58 * (1.0 - reach) + 0.10 * (1.0 - reach) ** 2 - 0.03
    cartilage = edge(a - 0.36 - 0.12 * np.clip(v, -0.5, 0.5), 0.10)
    shadow += 0.38 * _tubes(anterior, spacing * fan * 1.12, 0.034) * cartilage
    # Where ribs turn at the side they are seen along their length: a bright rim.
    rim = np.exp(-(((cage + 0.02) / 0.07) ** 2)) * (a > 0.3)
    inside = edge(cage + 0.09, 0.06) * edge(v - chest.apex - 0.02, 0.05) * edge(0.95 - v, 0.15)
    return inside * (shadow + 0.7 * rim * edge(v + 0.6, 0.15))


def _tubes(position: Array, spacing: Array, radius: float) -> Array:
    phase = position / spacing
    offset = np.abs(phase - np.round(phase)) * spacing / radius
    chord = np.sqrt(np.clip(1.0 - offset * offset, 0.0, 1.0))
    cortex = np.exp(-(((offset - 0.86) / 0.14) ** 2))
    return 0.75 * chord + 0.38 * cortex


def _clavicles_and_shoulders(chest: Chest, a: Array, v: Array) -> Array:
    line = -0.60 - 0.13 * (a / 0.7) + 0.045 * np.sin(2 * np.pi * np.clip((a - 0.1) / 0.75, 0, 1))
    thickness = 0.034 + 0.010 * np.cos(5 * a)
    offset = np.abs(v - line) / thickness
    bone = 0.7 * np.sqrt(np.clip(1 - offset * offset, 0, 1)) + 0.4 * np.exp(-(((offset - 0.85) / 0.15) ** 2))
    clavicle = bone * edge(a - 0.10, 0.02) * edge(0.86 - a, 0.05)
    blade_border = np.abs(a - 0.70 - 0.22 * (v + 0.1) ** 2)
    blade = (
        edge(a - 0.70 - 0.22 * (v + 0.1) ** 2, 0.02)
        * edge(v + 0.62, 0.08)
        * edge(0.12 - v - 0.9 * (a - 0.7), 0.06)
    )
    border = np.exp(-((blade_border / 0.014) ** 2)) * edge(v + 0.55, 0.1) * edge(0.10 - v, 0.08)
    head = np.sqrt(np.clip(1 - ((a - 1.02) / 0.14) ** 2 - ((v + 0.62) / 0.15) ** 2, 0, 1))
    shaft = np.sqrt(np.clip(1 - ((a - 1.06 - 0.08 * (v + 0.6)) / 0.075) ** 2, 0, 1)) * edge(v + 0.56, 0.08)
    humerus = np.maximum(head, 0.8 * shaft)
    return 1.6 * chest.rib_calcium * clavicle + 0.10 * blade + 0.08 * border + 0.24 * humerus


def _chest_wall(chest: Chest, a: Array, v: Array) -> Array:
    """Draw breast and nipple shadows: what an untrained eye, or network, takes for a disease."""
    shadow = np.zeros_like(a)
    if chest.breasts:
        breast = 1.0 - ((a - 0.45) / 0.34) ** 2 - ((v - 0.20) / 0.33) ** 2
        shadow += chest.breasts * np.clip(breast, 0, 1) ** 0.6 * edge(v + 0.10, 0.35)
    if chest.nipples:
        distance = np.hypot(a - 0.46, v - 0.27)
        shadow += chest.nipples * edge(0.024 - distance, 0.008)
    return shadow


def _gas(chest: Chest, u: Array, v: Array) -> Array:
    """Draw the stomach's bubble, below the left dome."""
    bubble = 1.0 - ((u - 0.33) / 0.15) ** 2 - ((v - chest.left_dome - 0.12) / 0.075) ** 2
    return 0.28 * edge(bubble, 0.35)


def _trees(chest: Chest, u: Array, v: Array) -> tuple[Array, Array]:
    """Draw branching vessels, and the bronchi beside them, from each hilum outwards.

    Returns
    -------
    vessels, bronchi : numpy.ndarray
        float32 (H, W), 0 to 1.
    """
    random = np.random.Generator(np.random.Philox(chest.tree_seed))
    height, width = u.shape
    # The image is an affine picture of the chest: three corners give the way from chest units to pixels.
    origin = np.array([u[0, 0], v[0, 0]], dtype=np.float64)
    across = (np.array([u[0, -1], v[0, -1]]) - origin) / (width - 1)
    down = (np.array([u[-1, 0], v[-1, 0]]) - origin) / (height - 1)
    to_pixels = np.linalg.inv(np.stack([across, down], axis=1))
    pixels_per_unit = 1.0 / float(np.hypot(*across))
    layers = [Image.new("L", (width, height)) for _ in range(3)]
    pens = [ImageDraw.Draw(layer) for layer in layers]

    # Plain floats from one block of draws: this loop runs some thousand times an image.
    normal = cycle(random.standard_normal(4096).tolist())
    uniform = cycle(random.random(4096).tolist())
    (m00, m01), (m10, m11) = to_pixels.tolist()
    for side in (-1, 1):
        branches = [
            (
                side * 0.19 + 0.03 * next(normal),
                -0.02 + 0.03 * next(normal),
                angle,
                0.016 + 0.008 * next(uniform),
            )
            for angle in np.linspace(-1.35, 1.35, 7).tolist()
        ]
        while branches:
            x, y, angle, radius = branches.pop()
            while radius > 0.0034:
                length = 0.03 + 0.02 * next(uniform)
                angle += 0.16 * next(normal) + math.copysign(0.03, angle)
                ahead_x, ahead_y = x + length * side * math.cos(angle), y + length * math.sin(angle)
                line = [
                    m00 * (x - origin[0]) + m01 * (y - origin[1]),
                    m10 * (x - origin[0]) + m11 * (y - origin[1]),
                    m00 * (ahead_x - origin[0]) + m01 * (ahead_y - origin[1]),
                    m10 * (ahead_x - origin[0]) + m11 * (ahead_y - origin[1]),
                ]
                line_width = max(1, round(1.6 * radius * pixels_per_unit))
                brightness = min(255, max(60, int(255 * radius / 0.016)))
                pens[int(radius < 0.007)].line(line, fill=brightness, width=line_width)
                if radius > 0.006:
                    pens[2].line([place + 1 + line_width for place in line], fill=255, width=line_width)
                x, y = ahead_x, ahead_y
                radius *= 0.86 + 0.09 * next(uniform)
                if next(uniform) < 0.36:
                    turn = math.copysign(0.35 + 0.45 * next(uniform), next(normal))
                    branches.append((x, y, angle + turn, radius * (0.6 + 0.25 * next(uniform))))
    thick, thin, airways = (np.asarray(layer, dtype=np.float32) / 255 for layer in layers)
    soft = 0.0042 * pixels_per_unit
    vessels = np.maximum(gaussian_filter(thick, soft), 0.8 * gaussian_filter(thin, 0.6 * soft))
    return vessels, gaussian_filter(airways, soft)


def _opacity(chest: Chest, opacity: Opacity, u: Array, v: Array, lung: Array, bronchi: Array) -> Array:
    """Draw fluid in the air spaces: an irregular blob within the lung, in which the air-filled bronchi stay dark."""
    dome = chest.right_dome if opacity.side < 0 else chest.left_dome
    top = chest.apex + 0.22
    row = top + opacity.height * (dome - 0.06 - top)
    inner = 0.24
    outer = chest.lung_width - 0.12 - 0.25 * max(-row, 0.0)
    column = opacity.side * (inner + opacity.depth * (outer - inner))
    cos, sin = np.cos(opacity.angle), np.sin(opacity.angle)
    along = (cos * (u - column) + sin * (v - row)) / (opacity.radius * opacity.elongation)
    across = (-sin * (u - column) + cos * (v - row)) / opacity.radius
    envelope = np.exp(-0.9 * (along * along + across * across))
    ragged = envelope + 0.16 * _cloud(opacity.texture_seed, u.shape, 12) * np.sqrt(envelope)
    body = edge(ragged - 0.42, 0.40)
    patchy = 1.0 + 0.12 * _cloud(opacity.texture_seed + 1, u.shape, 36)
    same_side = edge(opacity.side * u, 0.03)
    return (
        opacity.contrast * body * patchy * (1.0 - 0.35 * bronchi) * same_side * np.clip(1.6 * lung, 0.0, 1.0)
    )


def _cloud(seed: int, shape: tuple[int, ...], cells: int) -> Array:
    """Make smooth noise with zero mean and unit deviation, with about `cells` bumps across the image."""
    coarse = np.random.Generator(np.random.Philox(seed)).standard_normal((cells, cells), dtype=np.float32)
    smooth = Image.fromarray(coarse).resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(smooth) * np.float32(1.5)
