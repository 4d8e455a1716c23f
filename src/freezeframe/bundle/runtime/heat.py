"""Where a member looked: class activation from the outputs of its graph, without gradients and without torch.

Grad-CAM (Selvaraju et al., ICCV 2017) weighs the last feature map A by the mean gradient of the class's logit. Behind
a pooled linear head that is the head's own weight (CAM, Zhou et al., CVPR 2016), which the export writes down once;
behind others it depends on the image and is computed by a graph of its own.
"""

import numpy as np
from PIL import Image
from safetensors.numpy import load

from freezeframe.bundle.runtime.contents import HEAT
from freezeframe.bundle.runtime.sessions import Engine, open_session


class Heat:
    """What weighs the channels of a member's map.

    Parameters
    ----------
    content : bytes
        A safetensors file with ``weights`` (C, K), or an ONNX graph from maps (N, K, h, w) to ``weights`` (N, C, K).
    is_graph : bool
        Which of the two.
    engine, threads
        Of the graph: see `open_session`.
    """

    def __init__(
        self, content: bytes, is_graph: bool, engine: Engine = "onnxruntime", threads: int | None = None
    ) -> None:
        self._graph = open_session(content, engine, threads) if is_graph else None
        self._weights = None if is_graph else load(content)[HEAT]

    def weights(self, maps: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return the weights (N, K) of each image's class, from its map (N, K, h, w)."""
        if self._weights is not None:
            return self._weights[classes]
        assert self._graph is not None
        return self._graph.run(maps, (HEAT,))[HEAT][np.arange(len(maps)), classes]


def heat_maps(maps: np.ndarray, weights: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Compute ``relu(sum_k w_k A_k)``, resized bilinearly and divided by its own maximum.

    Parameters
    ----------
    maps : ndarray of float32 (N, K, h, w)
        The last feature map of each image.
    weights : ndarray of float32 (N, K)
        Of the class that is explained.
    size : (int, int)
        Height and width of the result, not smaller than the map's.

    Returns
    -------
    ndarray of float32 (N, height, width)
        In [0, 1]; 0 where nothing speaks for the class.

    Examples
    --------
    >>> heat_maps(np.ones((1, 2, 1, 1), np.float32), np.array([[1, 2]], np.float32), (2, 2)).tolist()
    [[[1.0, 1.0], [1.0, 1.0]]]
    """
    evidence = np.maximum(np.einsum("nk,nkhw->nhw", weights, maps), 0).astype(np.float32)
    # Enlarging, Pillow's bilinear filter is torch's with align_corners=False.
    height, width = size
    grown = np.stack(
        [
            np.asarray(Image.fromarray(one).resize((width, height), Image.Resampling.BILINEAR))
            for one in evidence
        ]
    )
    return grown / np.maximum(grown.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
