import io

import numpy as np
from PIL import Image

from freezeframe.report import pictures


def test_sixteen_bits_are_scaled_and_grey_is_repeated():
    small = pictures.thumbnail(np.full((300, 300), 65535, np.uint16))
    assert small.shape == (224, 224, 3)
    assert small.dtype == np.uint8
    assert small.min() == 255


def test_where_nothing_speaks_for_the_class_the_image_stays_as_it_is_but_grey():
    image = np.full((224, 224, 3), (200, 100, 50), np.uint8)
    laid = pictures.overlay(image, np.zeros((224, 224), np.float32))
    assert (laid == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)).all()


def test_the_hottest_place_is_brighter_and_coloured():
    heat = np.zeros((224, 224), np.float32)
    heat[100:120, 100:120] = 1
    laid = pictures.overlay(np.zeros((224, 224, 3), np.uint8), heat)
    assert laid[110, 110].max() > 100
    assert laid[0, 0].max() == 0


def test_a_jpeg_is_small_and_carries_no_metadata():
    content = pictures.jpeg(np.zeros((224, 224, 3), np.uint8))
    assert Image.open(io.BytesIO(content)).size == (224, 224)
    assert not Image.open(io.BytesIO(content)).getexif()
    assert len(content) < 3000
