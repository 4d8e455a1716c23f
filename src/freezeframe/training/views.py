"""From (image, view) to what the network sees: the prepared pixels, augmented and normalised."""

import json
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b

import numpy as np

from freezeframe.imaging import augment
from freezeframe.imaging.preprocess import Preprocessing
from freezeframe.stores.pixels import Pixels

Place = tuple[int, int]
REMEMBERED = 200_000  # views whose parameters and keys are kept: some 300 bytes each


class Views:
    """All views of the images of a data set.

    Parameters
    ----------
    pixels : Pixels
        The prepared images.
    preprocessing : Preprocessing
        With the mean and standard deviation of the backbone's own weights.
    keys : sequence of str
        Content key of each image; a place is (index into these, view).
    partners : sequence of str
        Content keys of the training images, which mixup and cutmix draw from.
    policy : Policy
        The augmentation.
    seed : int
        The recipe's seed.
    """

    def __init__(
        self,
        pixels: Pixels,
        preprocessing: Preprocessing,
        keys: Sequence[str],
        partners: Sequence[str] = (),
        policy: augment.Policy | None = None,
        seed: int = 0,
    ) -> None:
        self.pixels, self.preprocessing, self.keys = pixels, preprocessing, list(keys)
        self.partners = sorted(partners)
        self.policy, self.seed = policy or augment.Policy(), seed
        self.parameters = lru_cache(maxsize=REMEMBERED)(self._parameters)
        self.record_key = lru_cache(maxsize=REMEMBERED)(self._record_key)

    def _parameters(self, place: Place) -> augment.Parameters:
        index, view = place
        return augment.draw(self.policy, self.seed, self.keys[index], view, self.partners)

    def _record_key(self, place: Place) -> str:
        """Return the content key of a view: equal for views that are the same picture, in any run or study."""
        parameters = self.parameters(place)
        key = self.keys[place[0]]
        if not parameters:
            return key
        text = json.dumps([key, parameters], sort_keys=True)
        return blake2b(text.encode(), digest_size=20).hexdigest()

    def partner(self, place: Place) -> tuple[str, float] | None:
        """Return the content key of the image that is mixed into a view and its share, or None."""
        return augment.partner_of(self.parameters(place))

    def batch(self, places: Sequence[Place]) -> np.ndarray:
        """Make the network's input for some views.

        Parameters
        ----------
        places : sequence of (index, view)
            Length N.

        Returns
        -------
        (N, 3, H, W) float32 array
        """
        batch = np.empty((len(places), 3, self.preprocessing.height, self.preprocessing.width), np.float32)
        for row, place in enumerate(places):
            image = self.pixels.read(self.keys[place[0]])
            parameters = self.parameters(place)
            if parameters:
                mixed = augment.partner_of(parameters)
                partner = self.pixels.read(mixed[0]) if mixed else None
                image = augment.apply(image, parameters, partner).transpose(1, 2, 0)
                image = image[..., 0] if image.shape[-1] == 1 else image
            batch[row] = self.preprocessing.normalise(image[None])[0]
        return batch
