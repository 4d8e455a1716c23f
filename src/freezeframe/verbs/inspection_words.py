"""What an inspection says, in English and Spanish."""

from collections.abc import Mapping
from typing import Any

from freezeframe.report import language

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "title": "Inspection of {root}",
        "facts": "{images} images, {classes} classes, {patients}.",
        "with_patients": "{count} patients",
        "no_patients": "no patients known",
        "no_warnings": "Nothing suspicious was found.",
        "serious": "serious",
        "caution": "caution",
        "note": "note",
        "patients_overlap": "Patients in more than one split: {count} ({names}).",
        "duplicates_splits": "Pairs of duplicates in different splits: {count} ({exact} exact), such as {example}.",
        "duplicates_patients": "Pairs of duplicates of different patients: {count} ({exact} exact), such as {example}.",
        "duplicates_labels": "Pairs of duplicates with different labels: {count} ({exact} exact), such as {example}.",
        "duplicates_inside": "Pairs of duplicates that are not in different splits: {count} ({near} near ones); "
        "keep each group in one split.",
        "shortcut": "{feature} alone tells {label}: AUC {auc} ({low} to {high}), {direction}.",
        "shortcuts_more": "More features that tell a class that well: {count}; see the table of shortcuts.",
        "site_confounded": "The site tells the class: Cramer's V {association} over {sites} sites.",
        "unreadable": "Images that can't be read and would be left out: {count}, such as {example}",
        "one_class": "There is one class only, '{label}'.",
        "imbalanced": "'{large}' has {ratio} times as many images as '{small}'.",
        "split_missing": "There is no {split} split; training would make one from patients of the training split.",
        "split_small": "The {split} split has {count} images of '{label}': too few to decide anything by.",
        "patients_unknown": "No patients are known, so that one patient's images may be in several splits.",
        "colour_mixed": "{colour} images are colour and {grey} are grey.",
        "train": "train",
        "validation": "validation",
        "test": "test",
        "warnings": "Warnings",
        "counts": "Images and patients",
        "split": "split",
        "class": "class",
        "images": "images",
        "patients": "patients",
        "site": "site",
        "sites": "Sites",
        "files": "Files",
        "size": "size",
        "mode": "mode, bits",
        "more": "{count} more",
        "shortcuts": "Shortcuts: how well one feature alone tells the class",
        "shortcuts_help": "AUC 0.5 tells nothing, 1 everything. A network can learn these instead of the disease.",
        "feature": "feature",
        "direction": "the class has",
        "interval": "95 % interval",
        "higher": "higher values",
        "lower": "lower values",
        "duplicates": "Duplicates",
        "duplicates_count": "{pairs} pairs in {groups} groups; all are in duplicates.csv, the first {shown} are shown.",
        "kind": "kind",
        "pairs": "pairs",
        "across_splits": "across splits",
        "across_patients": "across patients",
        "conflicting_labels": "labels differ",
        "unreadable_title": "Unreadable images",
        "reason": "reason",
        "notes": "Notes",
        "saved": "Saved: {folder}",
        "similarity": "similarity",
        "none": "none",
        "file": "same file",
        "pixels": "same pixels",
        "re-encoded": "saved again",
        "resized": "resized",
        "cropped": "cropped or shifted",
        "flip-horizontal": "flipped left-right",
        "flip-vertical": "flipped top-bottom",
        "rotate-180": "turned by 180 degrees",
        "rotate-90": "turned by 90 degrees",
        "transpose": "mirrored at a diagonal",
        "view": "another view of the same",
        "file_bytes": "file size",
        "bytes_per_pixel": "bytes per pixel",
        "width": "width",
        "height": "height",
        "aspect_ratio": "aspect ratio",
        "brightness": "mean brightness",
        "contrast": "standard deviation",
        "border_brightness": "border brightness",
        "sharpness": "sharpness",
        "colourfulness": "colourfulness",
    },
    "es": {
        "title": "Inspección de {root}",
        "facts": "{images} imágenes, {classes} clases, {patients}.",
        "with_patients": "{count} pacientes",
        "no_patients": "pacientes desconocidos",
        "no_warnings": "No se encontró nada sospechoso.",
        "serious": "grave",
        "caution": "cuidado",
        "note": "nota",
        "patients_overlap": "Pacientes en más de una partición: {count} ({names}).",
        "duplicates_splits": "Pares de duplicados en particiones distintas: {count} ({exact} exactos), "
        "por ejemplo {example}.",
        "duplicates_patients": "Pares de duplicados de pacientes distintos: {count} ({exact} exactos), "
        "por ejemplo {example}.",
        "duplicates_labels": "Pares de duplicados con etiquetas distintas: {count} ({exact} exactos), "
        "por ejemplo {example}.",
        "duplicates_inside": "Pares de duplicados que no están en particiones distintas: {count} ({near} aproximados); "
        "mantenga cada grupo en una sola partición.",
        "shortcut": "{feature} basta para reconocer {label}: AUC {auc} ({low} a {high}), {direction}.",
        "shortcuts_more": "Más características que reconocen una clase así de bien: {count}; véase la tabla de atajos.",
        "site_confounded": "El centro delata la clase: V de Cramér {association} en {sites} centros.",
        "unreadable": "Imágenes que no se pueden leer y se omitirían: {count}, por ejemplo {example}",
        "one_class": "Hay una sola clase, «{label}».",
        "imbalanced": "«{large}» tiene {ratio} veces más imágenes que «{small}».",
        "split_missing": "No hay partición de {split}; al entrenar se haría con pacientes de la de entrenamiento.",
        "split_small": "La partición de {split} tiene {count} imágenes de «{label}»: muy pocas para decidir nada.",
        "patients_unknown": "No se conocen los pacientes: las imágenes de uno pueden estar en varias particiones.",
        "colour_mixed": "{colour} imágenes son en color y {grey} en gris.",
        "train": "entrenamiento",
        "validation": "validación",
        "test": "prueba",
        "warnings": "Avisos",
        "counts": "Imágenes y pacientes",
        "split": "partición",
        "class": "clase",
        "images": "imágenes",
        "patients": "pacientes",
        "site": "centro",
        "sites": "Centros",
        "files": "Archivos",
        "size": "tamaño",
        "mode": "modo, bits",
        "more": "{count} más",
        "shortcuts": "Atajos: cuánto delata la clase una sola característica",
        "shortcuts_help": "Un AUC de 0,5 no dice nada; 1 lo dice todo. Una red puede aprender esto en lugar de la "
        "enfermedad.",
        "feature": "característica",
        "direction": "la clase tiene",
        "interval": "intervalo del 95 %",
        "higher": "valores más altos",
        "lower": "valores más bajos",
        "duplicates": "Duplicados",
        "duplicates_count": "{pairs} pares en {groups} grupos; todos están en duplicates.csv, se muestran los primeros "
        "{shown}.",
        "kind": "tipo",
        "pairs": "pares",
        "across_splits": "entre particiones",
        "across_patients": "entre pacientes",
        "conflicting_labels": "etiquetas distintas",
        "unreadable_title": "Imágenes ilegibles",
        "reason": "motivo",
        "notes": "Notas",
        "saved": "Guardado: {folder}",
        "similarity": "similitud",
        "none": "ninguna",
        "file": "mismo archivo",
        "pixels": "mismos píxeles",
        "re-encoded": "guardada de nuevo",
        "resized": "otro tamaño",
        "cropped": "recortada o desplazada",
        "flip-horizontal": "reflejada en horizontal",
        "flip-vertical": "reflejada en vertical",
        "rotate-180": "girada 180 grados",
        "rotate-90": "girada 90 grados",
        "transpose": "reflejada en diagonal",
        "view": "otra vista de lo mismo",
        "file_bytes": "tamaño del archivo",
        "bytes_per_pixel": "bytes por píxel",
        "width": "anchura",
        "height": "altura",
        "aspect_ratio": "relación de aspecto",
        "brightness": "brillo medio",
        "contrast": "desviación típica",
        "border_brightness": "brillo del borde",
        "sharpness": "nitidez",
        "colourfulness": "colorido",
    },
}


def words(lang: str) -> Mapping[str, str]:
    """Return the words of a language.

    Raises
    ------
    UserError
        If there is none of that name.
    """
    language.check(lang)
    return WORDS[lang]


def sentence(key: str, values: Mapping[str, Any], lang: str) -> str:
    """Write a finding as a sentence, its numbers as the language does.

    Examples
    --------
    >>> sentence("imbalanced", {"large": "a", "small": "b", "ratio": 3.5}, "es")
    '«a» tiene 3,5 veces más imágenes que «b».'
    """
    known = words(lang)
    shown = {name: number(value, lang) for name, value in values.items()}
    for name in ("feature", "direction", "split"):
        if name in values:
            shown[name] = known.get(values[name], "")
    text = known[key].format(**shown)
    return text[:1].upper() + text[1:]


def number(value: Any, lang: str) -> str:
    """Write a number with the language's marks; text stays as it is.

    Examples
    --------
    >>> number(0.9051, "en"), number(0.9051, "es"), number(5206, "en"), number(3.5, "es")
    ('0.905', '0,905', '5,206', '3,5')
    """
    if isinstance(value, float):
        text = f"{value:.3f}" if abs(value) <= 1 else f"{value:g}"
        return text.replace(".", ",") if lang == "es" else text
    if isinstance(value, int):
        return language.load(lang).integer(value)
    return str(value)
