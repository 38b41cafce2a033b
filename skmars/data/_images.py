"""How an image of the catalogue is read, whatever it is given as."""

from __future__ import annotations

import os
import warnings
from contextlib import ExitStack
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image


class UnusableContent(ValueError):
    """Why the content of one item can't be encoded or shown."""


def load_image(value: Any, max_pixels: int | None = None) -> Image:
    """Read one image as RGB, upright, transparency on white.

    Parameters
    ----------
    value : str, Path, bytes, PIL.Image.Image or uint8 array of shape (H, W), (H, W, 3) or (H, W, 4)
    max_pixels : int, default=None
        More pixels are refused before they are decoded.

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
        with warnings.catch_warnings(), ExitStack() as stack:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", module=r"PIL\.")
            image: Image.Image
            if isinstance(value, Image.Image):
                image = value
            elif isinstance(value, np.ndarray):
                image = _from_array(value)
            elif isinstance(value, bytes | bytearray):
                image = Image.open(BytesIO(value))
            elif isinstance(value, str | os.PathLike):
                image = Image.open(stack.enter_context(open(value, "rb")))
            else:
                raise UnusableContent(f"{type(value).__name__} instead of an image")
            if max_pixels is not None and image.width * image.height > max_pixels:
                raise UnusableContent(
                    f"{image.width} x {image.height} pixels, more than max_image_pixels"
                )
            return _as_rgb(ImageOps.exif_transpose(image))
    except UnusableContent:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise UnusableContent(reason(error)) from error


def reason(error: Exception) -> str:
    """Say in one line why a content can't be read."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0].partition(" <_io")[0]


def _from_array(array: NDArray[Any]) -> Image:
    from PIL import Image

    gray = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 1)
    if array.dtype != np.uint8 or not (gray or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise UnusableContent(
            f"array of dtype {array.dtype} and shape {array.shape}; an image is uint8 of shape "
            "(H, W), (H, W, 3) or (H, W, 4)"
        )
    return Image.fromarray(array.reshape(array.shape[:2]) if gray else array)


def _as_rgb(image: Image) -> Image:
    from PIL import Image

    if image.mode == "RGB":
        image.load()
        return image
    if image.mode.startswith(("I", "F")):
        # 16-bit and floating-point gray, which `convert` would clip at 255.
        values = np.asarray(image, dtype=np.float32)
        scale = 255 / max(float(np.nanmax(values, initial=0)), 255)
        image = Image.fromarray(np.nan_to_num(values * scale).clip(0, 255).astype(np.uint8))
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        image = image.convert("RGBA")
        canvas = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(canvas, image)
    return image.convert("RGB")
