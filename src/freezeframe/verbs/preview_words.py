"""What a preview says, in English and Spanish."""

from collections.abc import Mapping
from typing import Any

from freezeframe.report import language

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "title": "What the network sees: {backbone}, {height} x {width}",
        "original": "as decoded",
        "view": "view {number}",
        "itself": "the image itself",
        "input": "Normalised by mean {mean} and standard deviation {std}, shown back from black to white.",
        "policy": "Augmentation {policy}, views of each image: {views}.",
        "views_shown": "The first {shown} are shown.",
        "mixed": "mixed with another image of '{label}', {share}",
        "unreadable": "Images that can't be read were passed over: {count}, such as {example}",
        "noted": "In {count} of the {images} images shown: {note}.",
        "saved": "Saved: {path}",
        "lungs-not-found": "no plausible lung fields, whole image kept",
        "lesion-not-found": "no plausible lesion, whole image kept",
        "border-not-plausible": "no plausible frame, nothing masked",
        "hair-not-plausible": "too much to be hair, nothing filled",
        "flip_horizontal": "left and right exchanged",
        "flip_vertical": "top and bottom exchanged",
        "rotate": "turned {0}°",
        "shift": "shifted {0}, {1}",
        "scale": "scale {0}",
        "brightness": "brightness x {0}",
        "contrast": "contrast x {0}",
        "noise": "noise {0}",
        "erase": "box erased",
        "elastic": "deformed, up to {0}",
        "light": "light taken away {0}; R, G, B x {1}, {2}, {3}",
        "gamma": "gamma {0}",
        "sharpness": "sharpness {0}",
        "equalise": "equalised {0}",
        "shear-x": "sheared across {0}",
        "shear-y": "sheared down {0}",
        "shift-x": "shifted across {0}",
        "shift-y": "shifted down {0}",
    },
    "es": {
        "title": "Lo que ve la red: {backbone}, {height} x {width}",
        "original": "tal como se lee",
        "view": "vista {number}",
        "itself": "la propia imagen",
        "input": "Normalizado con media {mean} y desviación típica {std}; se muestra devuelto de negro a blanco.",
        "policy": "Aumento {policy}, vistas de cada imagen: {views}.",
        "views_shown": "Se muestran las {shown} primeras.",
        "mixed": "mezclada con otra imagen de «{label}», {share}",
        "unreadable": "Imágenes que no se pueden leer y se pasaron por alto: {count}, por ejemplo {example}",
        "noted": "En {count} de las {images} imágenes mostradas: {note}.",
        "saved": "Guardado: {path}",
        "lungs-not-found": "sin campos pulmonares verosímiles, imagen entera",
        "lesion-not-found": "sin lesión verosímil, imagen entera",
        "border-not-plausible": "sin marco verosímil, nada tapado",
        "hair-not-plausible": "demasiado para ser pelo, nada rellenado",
        "flip_horizontal": "izquierda y derecha cambiadas",
        "flip_vertical": "arriba y abajo cambiados",
        "rotate": "girada {0}°",
        "shift": "desplazada {0}, {1}",
        "scale": "escala {0}",
        "brightness": "brillo x {0}",
        "contrast": "contraste x {0}",
        "noise": "ruido {0}",
        "erase": "recuadro borrado",
        "elastic": "deformada, hasta {0}",
        "light": "luz neutralizada {0}; R, G, B x {1}, {2}, {3}",
        "gamma": "gamma {0}",
        "sharpness": "nitidez {0}",
        "equalise": "ecualizada {0}",
        "shear-x": "inclinada a lo ancho {0}",
        "shear-y": "inclinada a lo alto {0}",
        "shift-x": "desplazada a lo ancho {0}",
        "shift-y": "desplazada a lo alto {0}",
    },
}


def words(lang: str) -> Mapping[str, str]:
    """Return the words of a language, or refuse one that is not spoken here."""
    language.check(lang)
    return WORDS[lang]


def caption(parameters: Mapping[str, Any], lang: str, partner_label: str = "") -> list[str]:
    """Say what was drawn for a view.

    Parameters
    ----------
    parameters : dict
        From `augment.draw`.
    lang : {"en", "es"}
        The language.
    partner_label : str
        Class of the image that is mixed in, where one is.

    Returns
    -------
    list of str
        One short line for each thing that was done, in the order in which it was done.

    Examples
    --------
    >>> caption({"flip_horizontal": True, "brightness": 1.1}, "en")
    ['left and right exchanged', 'brightness x 1.10']
    """
    known, spoken = words(lang), language.load(lang)
    lines = []
    mixed = parameters.get("mixup") or parameters.get("cutmix")
    if mixed:
        lines.append(known["mixed"].format(label=partner_label, share=spoken.percent(mixed["share"], 0)))
    lines += [known[name] for name in ("flip_horizontal", "flip_vertical") if parameters.get(name)]
    if "affine" in parameters:
        angle, across, down, scale = parameters["affine"]
        if angle:
            lines.append(known["rotate"].format(spoken.signed(angle, 1)))
        if across or down:
            lines.append(known["shift"].format(spoken.percent(across, 0), spoken.percent(down, 0)))
        if scale != 1:
            lines.append(known["scale"].format(spoken.number(scale, 2)))
    if "elastic" in parameters:
        lines.append(known["elastic"].format(spoken.percent(parameters["elastic"][0])))
    for name, value, *_ in parameters.get("operations", ()):
        lines.append(known[name].format(_value(spoken, name, value)))
    if "illuminant" in parameters:
        share, *gains = parameters["illuminant"]
        lines.append(
            known["light"].format(spoken.percent(share, 0), *(spoken.number(gain, 2) for gain in gains))
        )
    lines += [
        known[name].format(spoken.number(parameters[name], 2))
        for name in ("contrast", "brightness")
        if name in parameters
    ]
    if "noise" in parameters:
        lines.append(known["noise"].format(spoken.number(parameters["noise"][0], 3)))
    if "erase" in parameters:
        lines.append(known["erase"])
    return lines


def _value(spoken: language.Language, name: str, value: float) -> str:
    if name == "rotate":
        return spoken.signed(value, 1)
    if name.startswith(("shear", "shift", "equalise")):
        return spoken.percent(value, 0)
    return spoken.number(value, 3 if name == "noise" else 2)
