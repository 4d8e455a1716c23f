"""The main job from end to end on synthetic radiographs: nothing but packages is needed."""

import time
from pathlib import Path
from typing import Any, Literal

import yaml

from freezeframe import files
from freezeframe.errors import UserError
from freezeframe.progress import duration, say
from freezeframe.recipe import Recipe

MEMBERS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
# Small enough for four minutes on two slow cores, large enough to be worth looking at.
TRAINING: dict[str, Any] = {
    "unfreeze": {"blocks": 1},
    "augment": "radiograph",
    "views": 2,
    "epochs": 6,
    "batch_size": 16,
    "learning_rate": 2e-3,
    "seed": 0,
}
LICENCE = "CC0-1.0. The images are synthetic; the pretrained weights have licences of their own."


def demo(
    out: str | Path = "demo", patients: int = 400, language: Literal["en", "es"] = "en", seed: int = 0
) -> Path:
    """Make a synthetic hospital, train three members on it, ensemble, evaluate, report and export them.

    The exported bundle then answers for every film of the hospital, as it would beside a PACS: without torch.

    What a killed call has finished is kept, and the same call goes on from there. Recipes that are in ``recipes/``
    already are used as they stand, so that a newcomer can change one and run it again into a new folder.

    Parameters
    ----------
    out : str or Path
        Folder for all of it: ``hospital/``, ``recipes/``, ``runs/``, ``evaluation/``, ``report.html``, ``bundle/``,
        ``answers.csv``.
    patients : int
        How many people to invent; at least 40, so that each split holds some of each class.
    language : str
        Of the report: 'en' or 'es'.
    seed : int
        Another seed invents other people.

    Returns
    -------
    Path
        The report.

    Raises
    ------
    UserError
        If there are too few patients, or the folder holds something else or can't be written.
    """
    from freezeframe.verbs.ensemble import ensemble
    from freezeframe.verbs.evaluate import evaluate
    from freezeframe.verbs.export import export
    from freezeframe.verbs.phantom import phantom
    from freezeframe.verbs.predict import predict
    from freezeframe.verbs.report import report
    from freezeframe.verbs.train import train

    if patients < 40:
        raise UserError(
            f"--patients is {patients}.", "at least 40.", "With fewer, a split may hold one class only."
        )
    out = Path(out).expanduser()
    stages = _Stages(total=len(MEMBERS) + 6)
    stages.begin(f"A hospital of {patients} synthetic patients")
    table = phantom(out / "hospital", patients, seed)
    recipes = [_write_recipe(out, table, backbone) for backbone in MEMBERS]
    runs = []
    for path in recipes:
        stages.begin(f"Training {path.stem}, as {path} says")
        runs.append(train(Recipe.read(path), out / "runs" / path.stem))
    stages.begin("Combining the members")
    combined = ensemble(runs, out / "runs" / "ensemble", rule="mean")
    stages.begin("Evaluating on the patients that were held out")
    evaluation = evaluate(combined, out / "evaluation")
    stages.begin("Writing the report")
    page = report(evaluation, out / "report.html", language)
    stages.begin("Exporting a bundle, and holding its answers against those of torch")
    bundle = export(combined, out / "bundle", name="demo", evaluation=evaluation, licence=LICENCE)
    stages.begin("Having the bundle answer for every film")
    predict(bundle, [out / "hospital" / "dicom"], out / "answers.csv", lang=language)
    stages.end()
    return page


def _write_recipe(out: Path, table: Path, backbone: str) -> Path:
    path = out / "recipes" / f"{backbone.removeprefix('efficientnet-')}.yaml"
    if path.exists():
        return path
    recipe = {
        "data": {"path": str(table.parent / "dicom"), "table": str(table), "join_on": "SOPInstanceUID"},
        "backbone": backbone,
        **TRAINING,
    }
    comment = (
        "# A member of the demo, on SYNTHETIC radiographs. Change it and train again:\n"
        f"#     freezeframe train {path} --out runs/mine\n"
    )
    files.write_text(path, comment + yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))
    return path


class _Stages:
    """Says which stage begins, and how long each took."""

    def __init__(self, total: int) -> None:
        self.total, self.number = total, 0
        self.start = self.last = time.monotonic()

    def begin(self, what: str) -> None:
        self._close()
        self.number += 1
        say(f"[{self.number}/{self.total}] {what}")

    def end(self) -> None:
        self._close()
        say(f"All done in {duration(time.monotonic() - self.start)}.")

    def _close(self) -> None:
        now = time.monotonic()
        if self.number:
            say(f"      {duration(now - self.last)}")
        self.last = now
