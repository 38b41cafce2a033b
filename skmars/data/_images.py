"""Read images of the catalogue, given as paths, bytes, arrays or PIL images."""

from __future__ import annotations

import os
import warnings
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skmars.data._content import open_file
from skmars.data._digest import exif_of, reason

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow refuses images beyond twice this size by itself.
MAX_IMAGE_PIXELS = 89_478_485


class UnusableContent(ValueError):
    """The content of an item can't be encoded or shown; the message says why."""


def load_image(value: Any, max_pixels: int = MAX_IMAGE_PIXELS) -> Image:
    """Read one image as RGB, upright, transparency on white.

    Parameters
    ----------
    value : str, Path, bytes, PIL.Image.Image or uint8 array of shape (H, W), (H, W, 3) or (H, W, 4)
    max_pixels : int, default=89_478_485
        Larger images are refused before they are decoded, see also `max_bytes`.

    Returns
    -------
    PIL.Image.Image of mode "RGB"

    Raises
    ------
    UnusableContent
        If it can't be read, is cut off, or is too large.
    """
    from PIL import Image, ImageOps

    try:
        # Pillow warns about sizes and palettes of files that are handled here.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", module=r"PIL\.")
            if isinstance(value, Image.Image):
                image = value
            elif isinstance(value, np.ndarray):
                image = _from_array(value)
            else:
                image = Image.open(BytesIO(image_bytes(value, max_pixels)))
            check_image(image, max_pixels)
            image.load()
            check_image(image, max_pixels)  # of several images in a file, `load` chose one
            exif_of(image)
            image = _as_rgb(ImageOps.exif_transpose(image))
            image.info = {}  # metadata of the file
            return image
    except UnusableContent:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise UnusableContent(reason(error)) from error


def max_bytes(max_pixels: int) -> int:
    """Return the largest size of a file with so many pixels: that of four 16-bit channels."""
    return 8 * max_pixels + 2**20


def image_bytes(value: Any, max_pixels: int) -> bytes:
    """Return the encoded image that `value` holds or names; UnusableContent if there is none."""
    limit = max_bytes(max_pixels)
    if isinstance(value, str | os.PathLike):
        try:
            with open_file(value, limit) as file:
                return file.read(limit) or b""  # None: nothing yet, as of a log of the kernel
        except (OSError, ValueError) as error:
            raise UnusableContent(f"{os.fspath(value)}: {reason(error)}") from error
    if not isinstance(value, bytes | bytearray):
        raise UnusableContent(f"{type(value).__name__} instead of an image")
    if len(value) > limit:
        raise UnusableContent(f"{len(value):,} bytes, more than the {limit:,} that are read")
    return bytes(value)


def check_image(image: Image, max_pixels: int) -> None:
    """Raise UnusableContent if an image must not be decoded."""
    if image.format == "EPS":
        raise UnusableContent("EPS, which is a program and not run")
    if image.width * image.height == 0:
        raise UnusableContent(f"{image.width} x {image.height} pixels, an image without any")
    if image.width * image.height > max_pixels:
        raise UnusableContent(f"{image.width} x {image.height} pixels, more than max_image_pixels")


def check_array(array: NDArray[Any]) -> None:
    """Raise UnusableContent if an array is no image."""
    if array.dtype != np.uint8 or array.ndim < 2 or array.shape[2:] not in [(), (1,), (3,), (4,)]:
        raise UnusableContent(
            f"array of dtype {array.dtype} and shape {array.shape}; an image is uint8 of shape "
            "(H, W), (H, W, 3) or (H, W, 4)"
        )


def _from_array(array: NDArray[Any]) -> Image:
    from PIL import Image

    check_array(array)
    gray = array.ndim == 2 or array.shape[2] == 1
    return Image.fromarray(np.asarray(array.reshape(array.shape[:2]) if gray else array))


def _as_rgb(image: Image) -> Image:
    from PIL import Image

    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith(("I", "F")):
        # 16-bit and floating-point gray, which `convert` would clip at 255.
        with np.errstate(invalid="ignore"):  # signalling NaN
            values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0, neginf=0)
        highest = 1 if image.mode == "F" and values.max() <= 1 else 255
        values = values * (255 / max(values.max(), highest))
        image = Image.fromarray(values.clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        canvas = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(canvas, image)
    return image.convert("RGB")
