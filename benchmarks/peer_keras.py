"""Keras on the images that `frozen_training.py` gives: seconds an epoch.

    python benchmarks/peer_keras.py images.json mobilenet-v3 head

Keras has networks of its own: MobileNetV3Large, DenseNet121 and, nearest to Lite0, EfficientNetB0; no ResNet18.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np
from PIL import Image

EPOCHS, BATCH = 2, 16
NETWORKS = {
    "mobilenet-v3": keras.applications.MobileNetV3Large,
    "densenet121": keras.applications.DenseNet121,
    "efficientnet-lite0": keras.applications.EfficientNetB0,
}


class Clock(keras.callbacks.Callback):
    """Time the epochs."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.seconds.append(time.perf_counter() - self.started)


class Images(keras.utils.PyDataset):
    """Decode the images anew for every epoch, in two workers."""

    def __init__(self, files: list[str], labels: list[int]) -> None:
        super().__init__(workers=2, use_multiprocessing=False)
        self.files, self.labels = files, labels

    def __len__(self) -> int:
        return -(-len(self.files) // BATCH)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        part = slice(index * BATCH, (index + 1) * BATCH)
        images = [np.asarray(Image.open(path).convert("RGB").resize((224, 224))) for path in self.files[part]]
        return np.stack(images).astype(np.float32), np.array(self.labels[part])


def main() -> None:
    given = json.loads(Path(sys.argv[1]).read_text())
    base = NETWORKS[sys.argv[2]](include_top=False, weights=None, pooling="avg", input_shape=(224, 224, 3))
    base.trainable = False
    model = keras.Sequential([base, keras.layers.Dense(2)])
    model.compile(keras.optimizers.AdamW(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    clock = Clock()
    model.fit(Images(given["files"], given["labels"]), epochs=EPOCHS, verbose=0, callbacks=[clock])
    print(json.dumps({"seconds": min(clock.seconds)}))


if __name__ == "__main__":
    main()
