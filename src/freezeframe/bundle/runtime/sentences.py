"""What is said about an image that a model was not made for, in English and Spanish."""

from typing import NamedTuple

from freezeframe.imaging.steps import NOTES

SENTENCES: dict[str, dict[str, str]] = {
    "en": {
        "modality": "The DICOM header says modality {found}, which the model was not made for.",
        "body-part": "The DICOM header says body part {found}, which the model was not made for.",
        "view": "The DICOM header says view {found}, which the model was not made for.",
        "age": "The patient's age of {found} years is outside the range that the model was made for.",
        "for-processing": "The image holds a detector's raw values (FOR PROCESSING), which are not meant to be seen.",
        "secondary": "The image was made from others after the examination (a capture or a processed copy).",
        "border": "The image is mostly a border of one value ({found} of its area).",
        "contrast": "The image has almost no contrast ({found} of the range from black to white).",
        "inverted": "The image seems to be inverted, black for white.",
        "unlike": "The image is unlike the images that the model was trained on.",
        **{key: f"The step {sentence}." for key, sentence in NOTES.items()},
    },
    "es": {
        "modality": "La cabecera DICOM indica la modalidad {found}, para la que no se hizo el modelo.",
        "body-part": "La cabecera DICOM indica la parte del cuerpo {found}, para la que no se hizo el modelo.",
        "view": "La cabecera DICOM indica la proyección {found}, para la que no se hizo el modelo.",
        "age": "La edad del paciente, {found} años, está fuera del intervalo para el que se hizo el modelo.",
        "for-processing": "La imagen contiene valores crudos del detector (FOR PROCESSING), que no son para verse.",
        "secondary": "La imagen se hizo a partir de otras tras la exploración (una captura o una copia procesada).",
        "border": "La imagen es en su mayor parte un borde de un solo valor ({found} de su superficie).",
        "contrast": "La imagen casi no tiene contraste ({found} del intervalo de negro a blanco).",
        "inverted": "La imagen parece invertida, negro por blanco.",
        "unlike": "La imagen no se parece a las imágenes con las que se entrenó el modelo.",
        "lungs-not-found": "El paso crop-lungs no encontró campos pulmonares verosímiles y conservó la imagen entera.",
        "lesion-not-found": "El paso crop-lesion no encontró una lesión verosímil y conservó la imagen entera.",
        "border-not-plausible": "El paso mask-border habría tapado casi toda la imagen y no tapó nada.",
        "hair-not-plausible": "El paso remove-hair habría rellenado casi toda la imagen y no rellenó nada.",
    },
}


class InputWarning(NamedTuple):
    """Why an image may be one that the model was not made for.

    Attributes
    ----------
    key : str
        Of `SENTENCES`.
    found : str
        What was found, as a program reads it; '' where the key says it all.
    """

    key: str
    found: str = ""

    def sentence(self, lang: str = "en") -> str:
        """Say it in a language, ``"en"`` or ``"es"``.

        Examples
        --------
        >>> InputWarning("modality", "CT").sentence("es")
        'La cabecera DICOM indica la modalidad CT, para la que no se hizo el modelo.'
        """
        found = self.found
        if self.key in ("border", "contrast"):
            found = f"{float(found):.0%}" if lang == "en" else f"{100 * float(found):.0f}\u00a0%"
        return SENTENCES[lang][self.key].format(found=found)
