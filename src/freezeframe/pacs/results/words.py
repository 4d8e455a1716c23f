"""What result objects say, in English and Spanish."""

MISSING = "–"
NO_BREAK_SPACE = "\u00a0"

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "not_verified": "AI result, not verified",
        "positive": "Positive",
        "negative": "Negative",
        "refused": "Could not be read",
        "study_positive": "Positive for {positive} at the operating point.",
        "study_negative": "Negative for {positive} at the operating point.",
        "study_decided": "Decided on: {decision}.",
        "study_refused": "The model could not read this study. This says nothing about the patient.",
        "unreadable": "Image {uid} could not be read: {reason}",
        "more_images": "{count} more images were read and are not shown here.",
        "image_of": "Image {number} of {count}",
        "original": "Original",
        "heat_map": "Heat map: what spoke for {positive}",
        "no_heat_map": "No heat map",
        "probabilities": "Probabilities",
        "members": "Members: {positive}",
        "spread": "Spread over the members",
        "operating_point": "Operating point",
        "threshold": "Threshold",
        "none": "none",
        "validated": "in validation: sensitivity {sensitivity}, specificity {specificity}",
        "warnings": "Warnings",
        "no_warnings": "No warnings",
        "model": "Model",
        "decision": "Decision",
        "by_member": "Probability given by one member",
        "class_probability": "Probability of {label}",
        "calibrated": "Calibrated probability of finding",
        "region_meaning": "Meaning of the region",
        "heat_region": "Main region of the heat map",
        "whole_image": "Whole image",
        "outcome": "Outcome of the reading",
        "scheme": "Codes of freezeframe",
    },
    "es": {
        "not_verified": "Resultado de IA, no verificado",
        "positive": "Positivo",
        "negative": "Negativo",
        "refused": "No se pudo leer",
        "study_positive": "Positivo para {positive} en el punto de operación.",
        "study_negative": "Negativo para {positive} en el punto de operación.",
        "study_decided": "Se decidió: {decision}.",
        "study_refused": "El modelo no pudo leer este estudio. Esto no dice nada sobre el paciente.",
        "unreadable": "La imagen {uid} no se pudo leer: {reason}",
        "more_images": "Se leyeron {count} imágenes más, que no se muestran aquí.",
        "image_of": "Imagen {number} de {count}",
        "original": "Original",
        "heat_map": "Mapa de calor: lo que apunta a {positive}",
        "no_heat_map": "Sin mapa de calor",
        "probabilities": "Probabilidades",
        "members": "Miembros: {positive}",
        "spread": "Dispersión entre los miembros",
        "operating_point": "Punto de operación",
        "threshold": "Umbral",
        "none": "ninguno",
        "validated": "en validación: sensibilidad {sensitivity}, especificidad {specificity}",
        "warnings": "Advertencias",
        "no_warnings": "Sin advertencias",
        "model": "Modelo",
        "decision": "Decisión",
        "by_member": "Probabilidad dada por un miembro",
        "class_probability": "Probabilidad de {label}",
        "calibrated": "Probabilidad calibrada del hallazgo",
        "region_meaning": "Significado de la región",
        "heat_region": "Región principal del mapa de calor",
        "whole_image": "Imagen entera",
        "outcome": "Resultado de la lectura",
        "scheme": "Códigos de freezeframe",
    },
}


def say(language: str, key: str, **values: object) -> str:
    """Return a sentence or a word of a language, ``"en"`` or ``"es"``.

    Examples
    --------
    >>> say("es", "image_of", number=1, count=2)
    'Imagen 1 de 2'
    """
    return WORDS[language][key].format(**values)


def percent(language: str, share: float | None, digits: int = 1) -> str:
    """Write a share in [0, 1] as a percentage.

    Examples
    --------
    >>> percent("en", 0.873), percent("es", None)
    ('87.3%', '–')
    """
    if share is None:
        return MISSING
    return f"{number(language, 100 * share, digits)}{'%' if language == 'en' else NO_BREAK_SPACE + '%'}"


def number(language: str, value: float | None, digits: int = 3) -> str:
    """Write a number with the language's decimal mark; a dash where there is none.

    Examples
    --------
    >>> number("es", 0.4512)
    '0,451'
    """
    if value is None or value != value:
        return MISSING
    written = f"{value:.{digits}f}"
    return written if language == "en" else written.replace(".", ",")
