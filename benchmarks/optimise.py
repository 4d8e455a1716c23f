"""The optimise table on chest radiographs: float32, int8, pruned, distilled and distilled in int8.

    python benchmarks/optimise.py ../shared/data/kermany/compact_224
    python benchmarks/optimise.py ../shared/data/kermany/compact_224 --images 400 --size 96 --epochs 2 --variants int8

An ensemble of EfficientNet-Lite0, 1 and 2 with ImageNet weights whose last block is trained; the student is a Lite0.
The runs are kept in --work, so that the same line again goes on where it stopped.
"""

import argparse
import time
from pathlib import Path

from freezeframe.verbs.ensemble import ensemble
from freezeframe.verbs.optimise import VARIANTS, optimise
from freezeframe.verbs.train import train
from search_kermany import few

MEMBERS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")


def main() -> None:
    """Train, combine, make the variants, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder with train/NORMAL, train/PNEUMONIA, ...")
    parser.add_argument(
        "--work", type=Path, default=Path("optimise-kermany"), help="folder of runs and variants"
    )
    parser.add_argument(
        "--images", type=int, help="so many of the training folder; all images where left out"
    )
    parser.add_argument("--size", type=int, default=224, help="of the images, in pixels")
    parser.add_argument("--epochs", type=int, default=10, help="of each training")
    parser.add_argument("--members", default=",".join(MEMBERS))
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--keep", type=float, default=0.5, help="share of the computation that pruning keeps")
    parser.add_argument("--limit", type=float, default=0.01, help="AUC that a variant may lose")
    chosen = parser.parse_args()
    data = chosen.data.absolute()
    if chosen.images:
        kept = chosen.work.absolute() / "data"
        data = kept if kept.exists() else few(data, kept, chosen.images)
    recipe = {
        "data": str(data),
        "unfreeze": {"blocks": 1},
        "epochs": chosen.epochs,
        "preprocess": [{"resize": {"size": chosen.size}}],
        "store": str(chosen.work.absolute() / "store"),
        "device": "cpu",
    }
    runs = [
        train({**recipe, "backbone": name}, chosen.work / "runs" / name) for name in chosen.members.split(",")
    ]
    made = ensemble(runs, chosen.work / "ensemble", positive="PNEUMONIA")
    start = time.monotonic()
    table = optimise(
        made,
        chosen.work / "variants",
        chosen.variants.split(","),
        chosen.keep,
        epochs=chosen.epochs,
        limit=chosen.limit,
    )
    print(table.with_suffix(".md").read_text(encoding="utf-8"))
    print(f"Made and measured in {time.monotonic() - start:.0f} s.")


if __name__ == "__main__":
    main()
