"""The recipe: all of one training, as a typed YAML file.

This one definition is the source of the file format, of ``--set field=value`` and of the documented table of fields.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from freezeframe import files
from freezeframe.errors import UserError, did_you_mean

SCHEMA_VERSION = 1

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
PositiveInteger = Annotated[int, Field(ge=1)]
HomePath = Annotated[Path, AfterValidator(Path.expanduser)]
NotNegative = Annotated[float, Field(ge=0)]


class Section(BaseModel):
    """Part of a recipe; refuses fields that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSource(Section):
    """Where the images and their labels, patients and splits come from.

    A plain path in the recipe is short for ``{path: ...}``.
    """

    path: Path = Field(
        description="folder of images, or a table (CSV or Parquet) with a column of image paths"
    )
    table: Path | None = Field(
        default=None, description="table of labels for a folder of images or DICOM files"
    )
    image_column: str | None = Field(
        default=None, description="column with image paths; found by name where left out"
    )
    label_column: str | None = Field(
        default=None, description="column with labels; found by name where left out"
    )
    patient_column: str | None = Field(
        default=None, description="column with patient ids; found by name where left out"
    )
    site_column: str | None = Field(default=None, description="column with the hospital or device")
    split_column: str | None = Field(
        default=None, description="column with train, validation or test; 'none' ignores given splits"
    )
    join_on: Literal["SOPInstanceUID", "StudyInstanceUID", "AccessionNumber", "PatientID"] | None = Field(
        default=None,
        description="DICOM attribute that joins the table to the files; found by column name where left out",
    )
    patient_pattern: str | None = Field(
        default=None,
        description="regular expression on the image's path whose first group is the patient; 'kermany' for the "
        "built-in one, 'none' for no patients; found by itself where left out",
    )
    label_pattern: str | None = Field(
        default=None,
        description="regular expression on the image's path whose first group is the label, instead of the folder's "
        "name or a table's column: '(NORMAL|bacteria|virus)'",
    )
    synthetic: tuple[Path, ...] = Field(
        default=(),
        description="class folders of synthetic images, which are added to the training images only and are marked",
    )
    classes: tuple[str, ...] | None = Field(
        default=None, description="order of the classes; alphabetical where left out"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str | Path) else value


class Split(Section):
    """How a data set without (usable) splits is divided: by patient, stratified by class, seeded."""

    validation: Fraction = Field(default=0.15, description="share of the patients")
    test: Fraction = Field(default=0.15, description="share of the patients")
    minimum_images: Annotated[int, Field(ge=1)] = Field(
        default=10,
        description="a given split with fewer images of any class than this is too small and is made anew",
    )
    seed: int | None = Field(default=None, description="seed of the division; the recipe's where left out")
    folds: Annotated[int, Field(ge=2)] | None = Field(
        default=None,
        description="cross-validation: all patients are dealt to so many folds, one of which is the test split; "
        "given splits and `test` are not used",
    )
    fold: Annotated[int, Field(ge=0)] = Field(default=0, description="which fold is the test split, from 0")
    train_share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="share of the training patients that is used; the rest is left out"
    )
    draw: Annotated[int, Field(ge=0)] = Field(
        default=0, description="which draw of that share; in one draw a smaller share is part of a larger one"
    )

    @model_validator(mode="after")
    def _leave_some_for_training(self) -> "Split":
        if self.folds is None and self.validation + self.test >= 1:
            raise ValueError("validation and test together leave no patients for training")
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} is not one of {self.folds} folds, which are counted from 0")
        if self.folds is not None and self.validation >= 1:
            raise ValueError("validation leaves no patients for training")
        return self


class Transfer(Section):
    """How much of the pretrained weights is taken."""

    first: PositiveInteger = Field(description="number of weighted layers from the input on")


class Adapters(Section):
    """Low-rank adapters (LoRA): unfrozen layers keep their weights and learn a correction of low rank to them."""

    rank: PositiveInteger = Field(
        default=8, description="rank of each layer's correction: the higher, the more can be learnt"
    )
    alpha: Positive = Field(
        default=16.0, description="the correction is multiplied by alpha / rank; may stay as the rank changes"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="dropout before each layer's adapter"
    )


class Recipe(Section):
    """All of one training.

    Examples
    --------
    >>> recipe = Recipe.model_validate({"data": "images/", "backbone": "resnet18", "unfreeze": {"blocks": 1}})
    >>> recipe.epochs, recipe.patience, recipe.optimiser
    (30, 10, 'adamw')
    """

    data: DataSource = Field(description="the images: a folder, a table, or a mapping (see Data)")
    split: Split = Field(
        default=Split(), description="how the data set is divided where it is not (see Split)"
    )
    check_overlap: bool = Field(
        default=True, description="stop when patients or identical images are in two splits"
    )
    max_unreadable: Fraction = Field(
        default=0.05, description="share of unreadable images that ends the job early"
    )

    backbone: str = Field(description="network: a name of `freezeframe backbones`, or any timm name")
    weights: str = Field(default="pretrained", description="'pretrained', 'none', or a safetensors file")
    transfer: Transfer | None = Field(
        default=None,
        description="{first: n}: pretrained weights for the first n layers only; the rest starts anew",
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.0, description="dropout before the head")
    hidden: PositiveInteger | None = Field(
        default=None, description="neurons of a hidden layer in the head; one linear layer where left out"
    )

    preprocess: list[dict[str, Any] | str] | None = Field(
        default=None,
        description="named steps from decoded image to input; the backbone's own size, padded, where left out",
    )
    normalise: Literal["weights", "none"] = Field(
        default="weights",
        description="weights: by the mean and deviation that the pretrained weights were made with; none: values from "
        "0 to 1 as they are",
    )
    augment: str | dict[str, Any] = Field(
        default="none", description="augmentation policy by name, or {policy: name, ...}"
    )
    views: PositiveInteger | None = Field(
        default=None,
        description="versions of each image, view 0 is the image itself; 4 with augmentation where left out",
    )

    augment_seed: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="seed of the views; the recipe's where left out. Runs with equal ones share their views",
    )

    unfreeze: str | dict[str, Any] | list[dict[str, Any]] = Field(
        default="head",
        description="what trains: head, {blocks: n}, {layers: n}, {from: module}, {fraction: x}, all; or a schedule "
        "[{blocks: 1}, {epoch: 3, blocks: 2}]",
    )
    adapters: Adapters | None = Field(
        default=None,
        description="{rank: 8, alpha: 16, dropout: 0.0}: in what unfreeze names, convolutions and linear layers keep "
        "their weights and learn low-rank adapters instead, and norms stay frozen (see Adapters)",
    )

    epochs: PositiveInteger = Field(default=30, description="most passes over the training images")
    batch_size: PositiveInteger = Field(default=16, description="images a step")
    accumulate: PositiveInteger = Field(
        default=1, description="parts that a batch is computed in; the gradient is summed"
    )
    optimiser: Literal["adamw", "sgd"] = Field(default="adamw", description="optimiser")
    learning_rate: Positive = Field(default=1e-3, description="of the head")
    backbone_learning_rate: Positive | None = Field(
        default=None,
        description="of the unfrozen part of the backbone; where left out, a tenth of the head's, and the head's for "
        "adapters",
    )
    learning_rate_decay: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="factor on the learning rate from each block to the one before it"
    )
    weight_decay: NotNegative = Field(default=1e-2, description="weight decay (not for norms and biases)")
    momentum: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.9, description="momentum of sgd")
    schedule: Literal["cosine", "plateau", "constant"] = Field(
        default="cosine", description="learning rate over the epochs"
    )
    warmup_epochs: NotNegative = Field(default=0.0, description="epochs of linear warm-up")
    clip_gradient: Positive | None = Field(default=None, description="largest norm of the gradient")

    imbalance: Literal["none", "weights", "oversample", "mixup", "focal"] = Field(
        default="none",
        description="remedy for unequal classes; oversample: more views of the smaller ones; mixup: oversample, and "
        "mix each added image at the cut with another of its class",
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(default=0.0, description="label smoothing")
    focal_gamma: NotNegative = Field(default=2.0, description="exponent of the focal loss")

    teacher: HomePath | None = Field(
        default=None,
        description="folder of an ensemble or a run whose answers are learned besides the labels (distillation)",
    )
    # Hinton et al. 2015 (arXiv:1503.02531): the labels count considerably less than the teacher (section 2), and 2 was
    # the best of the temperatures 1, 2, 5 and 10 (section 4).
    teacher_weight: Fraction = Field(
        default=0.9, description="the teacher's share in the loss; the labels have the rest"
    )
    teacher_temperature: Positive = Field(
        default=2.0,
        description="softens the answers of teacher and student: the higher, the more the improbable classes count",
    )

    patience: PositiveInteger | None = Field(
        default=10,
        description="epochs without a better validation loss before training stops; null for never",
    )
    precision: Literal["auto", "32", "16-mixed", "bf16-mixed"] = Field(
        default="auto", description="auto: mixed on a GPU, 32 bits on a CPU"
    )
    deterministic: bool = Field(default=True, description="bit-identical results on one machine")
    threads: PositiveInteger | None = Field(
        default=None,
        description="processor threads of the training; all cores where left out. Another number rounds otherwise",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="where to train")

    devices: PositiveInteger = Field(
        default=1, description="GPUs (or CPU processes) a machine; the batch is divided among them"
    )
    num_nodes: PositiveInteger = Field(default=1, description="machines that train together")
    strategy: str = Field(
        default="auto",
        description="Lightning's strategy where there are several devices: ddp (auto is the same)",
    )

    activations: Literal["auto", "store", "live"] = Field(
        default="auto",
        description="frozen part computed once and stored, or anew for each batch; auto: the cheaper one",
    )
    activation_dtype: Literal["float32", "float16"] = Field(
        default="float32", description="float16 halves the disk, see docs"
    )
    executor: Literal["auto", "onnxruntime", "torch"] = Field(
        default="auto", description="what runs the frozen part"
    )
    store: HomePath | None = Field(
        default=None, description="folder of the store; ~/.cache/freezeframe/store where left out"
    )
    keep_weights: Literal["whole", "trained"] = Field(
        default="whole",
        description="whole: the whole network, and a checkpoint to go on from; trained: only what trained (small; "
        "needs the same pretrained weights to be used)",
    )
    mirror: HomePath | None = Field(
        default=None, description="second folder; the run's folder is copied into it as it grows"
    )
    checkpoint_seconds: Positive = Field(
        default=30.0, description="most seconds of training that a kill can cost"
    )

    seed: Annotated[int, Field(ge=0)] = Field(default=0, description="seed of everything")

    @model_validator(mode="after")
    def _adapt_pretrained_layers(self) -> "Recipe":
        if self.adapters is not None and self.unfreeze == "head":
            raise ValueError(
                "adapters go into the layers that unfreeze names, and unfreeze: head names none; set unfreeze: "
                "{blocks: 1}, or leave adapters out"
            )
        if self.adapters is not None and self.transfer is not None:
            raise ValueError(
                "adapters correct pretrained layers, and transfer starts some of them anew, which would never be "
                "trained; leave one of the two out"
            )
        return self

    @classmethod
    def read(cls, path: Path, changes: list[str] | tuple[str, ...] = ()) -> "Recipe":
        """Read a recipe from a YAML file.

        Parameters
        ----------
        path : Path
            The YAML file.
        changes : list of str
            ``field=value`` pairs, as given to ``--set``; a dot goes into a section (``split.test=0.2``).

        Raises
        ------
        UserError
            With the name of the field and, for a misspelt one, the right name.
        """
        content = files.read_yaml(Path(path))
        if not isinstance(content, dict):
            raise UserError(
                f"{path} holds no recipe.", "lines such as 'backbone: resnet18'.", "See `docs/recipe.md`."
            )
        return cls.parse({**content}, changes, origin=str(path))

    @classmethod
    def parse(
        cls, content: dict[str, Any], changes: list[str] | tuple[str, ...] = (), origin: str = "the recipe"
    ) -> "Recipe":
        """Make a recipe from plain data, with a message that names the field where it is wrong."""
        content = {name: value for name, value in content.items() if name != "schema_version"}
        for text in changes:
            change(content, text)
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise UserError(explain(error, origin), action="See `docs/recipe.md` for all fields.") from error

    def changed(self, **fields: Any) -> "Recipe":
        """Return a copy with other values, checked again."""
        return Recipe.parse({**self.to_dict(), **fields})

    def to_dict(self) -> dict[str, Any]:
        """Return plain data (strings, numbers, lists, mappings), with every field said."""
        return self.model_dump(mode="json")

    def write(self, path: Path) -> None:
        """Write the recipe, with every field said, as YAML."""
        files.write_yaml(path, {"schema_version": SCHEMA_VERSION, **self.to_dict()})


def field_table(section: type[BaseModel] = Recipe) -> str:
    """Return the fields of a recipe, or of a section of one, as a Markdown table.

    Examples
    --------
    >>> print(field_table(Split).splitlines()[2])
    | `validation` | 0.15 | share of the patients |
    """
    lines = ["| field | default | meaning |", "| --- | --- | --- |"]
    for name, field in section.model_fields.items():
        if field.is_required():
            shown = "required"
        elif isinstance(field.default, Section):
            shown = f"see {type(field.default).__name__}"
        else:
            shown = "" if field.default is None else json.dumps(field.default).strip('"')
        meaning = (field.description or "").replace("|", "\\|")
        lines.append(f"| `{name}` | {shown} | {meaning} |")
    return "\n".join(lines)


# The fields that are sections of their own.
SECTIONS: Mapping[str, type[Section]] = {"data": DataSource, "split": Split, "adapters": Adapters}
# A word that is short for a section: data for its path, augment for its policy.
SHORT = {"data": "path", "augment": "policy"}


def put(fields: dict[str, Any], name: str, value: Any) -> None:
    """Set a field in a recipe's plain data; a dot goes into a section.

    Examples
    --------
    >>> fields = {"data": "images/"}
    >>> put(fields, "data.label_column", "diagnosis")
    >>> fields
    {'data': {'path': 'images/', 'label_column': 'diagnosis'}}
    """
    *sections, last = name.split(".")
    target = fields
    for section in sections:
        inner = target.get(section)
        if isinstance(inner, str) and section in SHORT:
            inner = {SHORT[section]: inner}
        target[section] = dict(inner) if isinstance(inner, dict) else {}
        target = target[section]
    target[last] = value


def change(fields: dict[str, Any], text: str) -> None:
    """Set a field in a recipe's plain data as ``--set field=value`` says it, with the value as YAML."""
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise UserError(f"--set got {text!r}.", "field=value.", "For example --set epochs=5.")
    try:
        put(fields, name.strip(), yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise UserError(
            f"--set {text}: the value can't be read ({error}).", "YAML, such as 5 or {blocks: 1}."
        ) from error


def is_field(name: str) -> bool:
    """Tell whether a recipe has a field of this name, or a section with such a field.

    Examples
    --------
    >>> is_field("epochs"), is_field("split.validation"), is_field("split.valdation")
    (True, True, False)
    """
    first, dot, rest = name.partition(".")
    if first not in Recipe.model_fields:
        return False
    section = SECTIONS.get(first)
    return not dot or section is None or rest in section.model_fields


def explain(
    error: ValidationError,
    origin: str,
    whole: type[BaseModel] = Recipe,
    sections: Mapping[str, type[BaseModel]] = SECTIONS,
    kind: str = "recipe",
) -> str:
    """Say what is wrong with a recipe (or another typed file), with the right name of a misspelt field.

    Parameters
    ----------
    error : ValidationError
        What pydantic found.
    origin : str
        The file.
    whole : type
        What the file is to be.
    sections : mapping
        The sections in it, by name.
    kind : str
        What the file is called.
    """
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            section = whole if len(problem["loc"]) == 1 else sections.get(str(problem["loc"][0]), whole)
            lines.append(
                f"unknown field '{where}', {did_you_mean(str(problem['loc'][-1]), section.model_fields)}"
            )
        elif problem["type"] == "missing":
            lines.append(f"field '{where}' is missing.")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            found = f"field '{where}' is {problem['input']!r}: " if where else ""
            lines.append(f"{found}{message}.")
    return f"{origin} is not a valid {kind}: " + " ".join(lines)
