"""freezeframe: fine-tune pretrained image models on few images, and state honestly what was gained.

The verbs of the command line are functions here: `inspect`, `preview`, `train`, `ensemble`, `evaluate`, `report`. They
are imported when they are first used, so that ``import freezeframe`` is quick and needs no torch.
"""

import os
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from freezeframe.recipe import Recipe
    from freezeframe.verbs.ensemble import ensemble
    from freezeframe.verbs.estimator import FreezeframeClassifier
    from freezeframe.verbs.evaluate import evaluate
    from freezeframe.verbs.export import export
    from freezeframe.verbs.inspect import inspect
    from freezeframe.verbs.optimise import optimise
    from freezeframe.verbs.predict import predict
    from freezeframe.verbs.preview import preview
    from freezeframe.verbs.prune import prune
    from freezeframe.verbs.report import report
    from freezeframe.verbs.study_best import study_best, study_ensemble
    from freezeframe.verbs.study_learning_curve import study_learning_curve
    from freezeframe.verbs.study_plan import study_plan
    from freezeframe.verbs.study_report import study_report
    from freezeframe.verbs.study_run import study_run
    from freezeframe.verbs.train import train

# Threads of torch's OpenMP wait for each other by spinning, which slows training down as soon as the machine has
# anything else to do (docs/benchmarks.md). Read when torch is loaded; whoever has set it has the last word.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
_VERBS = (
    "ensemble", "evaluate", "export", "inspect", "optimise", "predict", "preview", "prune", "report", "study_best",
    "study_learning_curve", "study_plan", "study_report", "study_run", "train",
)  # fmt: skip
_HOMES = {
    "FreezeframeClassifier": "freezeframe.verbs.estimator",
    "Recipe": "freezeframe.recipe",
    "study_ensemble": "freezeframe.verbs.study_best",
    **{verb: f"freezeframe.verbs.{verb}" for verb in _VERBS},
}
__all__ = [
    "FreezeframeClassifier",
    "Recipe",
    "ensemble",
    "evaluate",
    "export",
    "inspect",
    "optimise",
    "predict",
    "preview",
    "prune",
    "report",
    "study_best",
    "study_ensemble",
    "study_learning_curve",
    "study_plan",
    "study_report",
    "study_run",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'freezeframe' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


class _Package(ModuleType):
    """Keeps the verbs that are called like a room, `ensemble` and `report`, when the room is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        # What importing a room does to the package; the room is found in `sys.modules` all the same.
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
