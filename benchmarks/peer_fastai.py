"""fastai on the images that `frozen_training.py` gives: seconds an epoch, BatchNorm frozen too (its default trains it).

python benchmarks/peer_fastai.py images.json resnet18 head
"""

import json
import sys
import time
from pathlib import Path

import timm
import torch
from fastai.callback.core import Callback
from fastai.losses import CrossEntropyLossFlat
from fastai.vision.all import CategoryBlock, DataBlock, ImageBlock, IndexSplitter, Learner, Resize

EPOCHS, BATCH = 2, 16
NAMES = {
    "efficientnet-lite0": "tf_efficientnet_lite0",
    "densenet121": "densenet121",
    "mobilenet-v3": "mobilenetv3_large_100",
    "resnet18": "resnet18",
}
LAST = {
    "efficientnet-lite0": ("blocks.6", "conv_head", "bn2"),
    "mobilenet-v3": ("blocks.6", "conv_head"),
    "densenet121": ("features.denseblock4", "features.norm5"),
    "resnet18": ("layer4",),
}
HEADS = ("fc", "classifier")


class FrozenNorms(Callback):
    """Keep what is frozen in inference mode."""

    def before_train(self) -> None:
        for module in self.model.modules():
            if not any(parameter.requires_grad for parameter in module.parameters()):
                module.eval()


class Clock(Callback):
    """Time the epochs."""

    def before_epoch(self) -> None:
        self.learn.epoch_started = time.perf_counter()

    def after_epoch(self) -> None:
        self.learn.epoch_seconds.append(time.perf_counter() - self.learn.epoch_started)


def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text())
    backbone, depth = sys.argv[2], sys.argv[3]
    model = timm.create_model(NAMES[backbone], num_classes=2)
    trained = HEADS + (LAST[backbone] if depth == "block" else ())
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(trained))
    label = dict(zip(given["files"], given["labels"], strict=True))
    block = DataBlock(
        blocks=(ImageBlock, CategoryBlock), get_items=lambda source: given["files"], get_y=label.get,
        splitter=IndexSplitter([0]), item_tfms=Resize(224),
    )  # fmt: skip
    loaders = block.dataloaders(".", bs=BATCH, num_workers=2, device=torch.device("cpu"))
    learner = Learner(loaders, model, loss_func=CrossEntropyLossFlat(), cbs=[FrozenNorms(), Clock()])
    learner.epoch_seconds = []
    with learner.no_bar(), learner.no_logging():
        learner.fit(EPOCHS, 1e-3)
    print(json.dumps({"seconds": min(learner.epoch_seconds)}))


if __name__ == "__main__":
    main()
