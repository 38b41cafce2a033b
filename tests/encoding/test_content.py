"""Raw content: what identifies it, and how images are read."""

from __future__ import annotations

import os
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from skmars import ItemCatalog, MultimodalEncoder
from skmars.encoding import ImageStatisticsEncoder
from skmars.encoding._content import BATCH_PIXELS, Items, UnusableContent, digest, load_image

ARRAY = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_path_bytes_array_and_image_are_the_same_picture(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.fromarray(ARRAY)))
    for value in (path, str(path), path.read_bytes(), ARRAY, Image.fromarray(ARRAY)):
        image = load_image(value)
        assert image.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(image), ARRAY)


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "LA", "PA", "RGBA", "CMYK", "YCbCr", "HSV", "I;16"]
)
def test_every_mode_becomes_rgb(mode):
    image = load_image(
        Image.fromarray(ARRAY).convert("L" if mode == "I;16" else "RGB").convert(mode)
    )
    assert image.mode == "RGB"
    assert image.size == (9, 6)


def test_transparency_is_white():
    clear = np.zeros((2, 2, 4), dtype=np.uint8)
    assert np.asarray(load_image(clear)).min() == 255
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([0, 0, 0])
    assert np.asarray(load_image(encoded(palette, transparency=0))).min() == 255


def test_sixteen_bit_gray_keeps_its_gradient():
    ramp = np.linspace(0, 65535, 16).astype(np.uint16).reshape(4, 4)
    gray = np.asarray(load_image(encoded(Image.fromarray(ramp))))[..., 0].ravel()
    assert (np.diff(gray.astype(int)) > 0).all()
    assert gray[0] == 0
    assert gray[-1] == 255


def test_photos_are_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    assert load_image(encoded(Image.fromarray(ARRAY), "JPEG", exif=exif)).size == (6, 9)


@given(
    npst.arrays(np.uint8, npst.array_shapes(min_dims=2, max_dims=2, max_side=6)),
    st.sampled_from([(), (1,), (3,), (4,)]),
)
def test_arrays_of_all_legal_shapes(gray, channels):
    array = np.broadcast_to(gray.reshape(*gray.shape, *[1] * len(channels)), gray.shape + channels)
    image = load_image(np.ascontiguousarray(array))
    assert image.mode == "RGB"
    assert image.size == gray.shape[::-1]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("nowhere.png", "No such file or directory"),
        (os.curdir, "Is a directory|Permission denied"),
        (b"", "cannot identify image file"),
        (b"GIF89a", "."),
        (encoded(Image.fromarray(ARRAY))[:-80], "."),
        (np.zeros((3, 3)), "dtype float64 and shape .3, 3.; an image is uint8"),
        (np.zeros((3, 5, 5), dtype=np.uint8), "shape .3, 5, 5.; an image is uint8"),
        (12, "int instead of an image"),
        (np.zeros((50, 50, 3), dtype=np.uint8), "50 x 50 pixels, more than max_image_pixels"),
        (encoded(Image.new("L", (60, 50))), "60 x 50 pixels, more than max_image_pixels"),
    ],
)
def test_what_is_no_image_says_why(value, reason):
    with pytest.raises(UnusableContent, match=reason):
        load_image(value, 2000)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(data):
    with suppress(UnusableContent):
        load_image(data, 10_000)


def test_a_decompression_bomb_is_masked_before_it_is_decoded(tmp_path):
    bomb = encoded(Image.new("1", (20_000, 20_000)))
    assert len(bomb) < 100_000
    catalog = ItemCatalog([1, 2], content={"image": [ARRAY, bomb]})
    with pytest.warns(UserWarning, match="1 of 2 items .2: .*decompression bomb"):
        encoder = MultimodalEncoder().fit(catalog)
    assert encoder.missing_["image"].tolist() == [2]
    catalog = ItemCatalog([1, 2], content={"image": [ARRAY, encoded(Image.new("L", (60, 50)))]})
    with pytest.warns(UserWarning, match="1 of 2 items .2: 60 x 50 pixels"):
        MultimodalEncoder(max_image_pixels=2000).fit(catalog)


def test_a_picture_is_known_by_its_content_not_by_its_path(tmp_path):
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    a.write_bytes(encoded(Image.fromarray(ARRAY)))
    b.write_bytes(a.read_bytes())
    assert digest(a, "image") == digest(str(b), "image")
    b.write_bytes(encoded(Image.fromarray(ARRAY[::-1])))
    os.utime(b, ns=(1, 1))
    assert digest(a, "image") != digest(b, "image")
    content = {"image": [a, str(a), a.read_bytes(), b]}
    encoder = MultimodalEncoder().fit(ItemCatalog(range(4), content=content))
    assert encoder.n_encoded_["image"] == 3


@given(st.text(min_size=1), st.text(min_size=1))
def test_texts_are_the_same_if_they_are_equal(a, b):
    if a.strip() and b.strip():
        assert (digest(a, "text") == digest(b, "text")) == (a == b)


@pytest.mark.parametrize("value", [None, "", " \n", float("nan"), np.float64("nan")])
def test_nothing_is_nothing(value):
    for kind in ("text", "image", "raw"):
        with pytest.raises(UnusableContent, match="no content"):
            digest(value, kind)


def test_a_text_that_is_none_is_masked_with_its_type():
    catalog = ItemCatalog([1, 2], content={"text": ["a", ["b"]]})
    with pytest.warns(UserWarning, match="2: list instead of a text"):
        assert MultimodalEncoder().fit(catalog).missing_["text"].tolist() == [2]


def test_few_large_images_are_in_memory_at_once():
    side = int((BATCH_PIXELS / 2) ** 0.5) + 1
    large = Image.new("L", (side, side))
    values = np.empty(5, dtype=object)
    values[:] = [large, ARRAY, ARRAY, large, ARRAY]
    items = Items(values, "image", side * side)
    assert [found for found, _ in items.load(range(5))] == [[0, 1, 2], [3, 4]]


def test_statistics_tell_colours_and_orientations_apart():
    red, blue = (np.full((8, 8, 3), color, dtype=np.uint8) for color in [(255, 0, 0), (0, 0, 255)])
    stripes = np.zeros((64, 64), dtype=np.uint8)
    stripes[::8] = 255
    encoder = ImageStatisticsEncoder()
    vectors = encoder.fit_transform([red, blue, stripes, stripes.T.copy(), red])
    assert vectors.shape == (5, len(encoder.get_feature_names_out()))
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    gram = vectors @ vectors.T
    assert gram[0, 4] == gram[0, 0]
    assert gram[0, 1] < 0.1 * gram[0, 0]
    assert gram[2, 3] < gram[2, 2] - 0.9  # the same colours, other orientations
