"""freezeframe: fine-tune pretrained image models on few images, and state honestly what was gained.

The verbs of the command line are functions here: `inspect`, `train`, `ensemble`, `evaluate`, `report`. They are
imported when they are first used, so that ``import freezeframe`` is quick and needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from freezeframe.verbs.estimator import FreezeframeClassifier
    from freezeframe.recipe import Recipe
    from freezeframe.verbs.ensemble import ensemble
    from freezeframe.verbs.evaluate import evaluate
    from freezeframe.verbs.inspect import inspect
    from freezeframe.verbs.report import report
    from freezeframe.verbs.train import train

__version__ = "0.1.0"
__all__ = ["FreezeframeClassifier", "Recipe", "ensemble", "evaluate", "inspect", "report", "train"]

_HOMES = {
    "FreezeframeClassifier": "freezeframe.verbs.estimator",
    "Recipe": "freezeframe.recipe",
    **{verb: f"freezeframe.verbs.{verb}" for verb in ("ensemble", "evaluate", "inspect", "report", "train")},
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'freezeframe' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
