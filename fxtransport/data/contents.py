"""What images contain, as hashes: by them images are split, compared and known again."""

import hashlib
from typing import Any

import numpy as np
from PIL import Image

from fxtransport.data.checked import DIGEST
from fxtransport.data.fingerprints import combined
from fxtransport.data.reader_images import ReaderImages
from fxtransport.data.sets import Images, classes_of


def content_hashes(images: Images) -> tuple[bytes, ...] | None:
    """A hash of each image's file, which is read once; None where images are not known by them.

    Raises:
        UsageError: a file cannot be read.
    """
    if isinstance(images, ReaderImages) and images.by_content:
        return images.hashes
    return None


def row_hashes(images: Images) -> tuple[bytes, ...] | None:
    """A hash of the pixels of each image that is held in memory; None of others."""
    if isinstance(images, list):
        pixels = (f"{image.mode} {image.size} ".encode() + image.tobytes() for image, _ in images)
        return tuple(hashlib.blake2b(each, digest_size=DIGEST).digest() for each in pixels)
    held: Any = getattr(images, "data", None)
    if held is None or isinstance(held, Image.Image) or len(held) != len(images):
        return None
    rows = np.ascontiguousarray(held)
    return tuple(hashlib.blake2b(row.data, digest_size=DIGEST).digest() for row in rows)


def images_hash(images: Images) -> str | None:
    """A hash of images and their classes, in order; None where nothing tells it.

    Of a set of torchvision that keeps its images in files, it is of their names in it alone.
    """
    hashes = content_hashes(images)
    if hashes is not None:
        return combined(hashlib.sha256(b"".join(hashes)).hexdigest(), classes_of(images))
    if isinstance(images, ReaderImages):
        return combined(*images.names, classes_of(images))
    digest = hashlib.sha256()
    if isinstance(images, list):
        for image, target in images:
            digest.update(f"{image.mode} {image.size} {target}\0".encode() + image.tobytes())
        return digest.hexdigest()
    held: Any = getattr(images, "data", None)
    if held is not None and not isinstance(held, Image.Image):
        array = np.ascontiguousarray(held)
        digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
        return combined(digest.hexdigest(), classes_of(images))
    return None
