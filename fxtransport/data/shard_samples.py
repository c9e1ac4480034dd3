"""Samples of tar shards in the order of timm's reader, each decoded as a file is, or refused.

timm's own reader leaves out what it cannot read: images, whole samples, and shards that are not
there.
"""

import io
import random
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from PIL import Image

from fxtransport.data.decode import BAD_IMAGE, decode
from fxtransport.errors import UsageError, first_line

PIXEL = b"P5\n1 1\n255\n\0"
"""An image of one pixel, in the place of a sample's own, by which timm reads its class alone."""


class RawSample(NamedTuple):
    """One sample as it lies in a shard."""

    name: str
    """Its shard and its key, for people."""
    data: bytes
    """The file of its image."""
    target: int
    """Its class; -1 where the set leaves it out."""


class NamedImage(NamedTuple):
    """A decoded image of a shard."""

    name: str
    image: Image.Image


def shard_files(reader: Any) -> list[str]:
    """The paths or addresses of the shards of a reader of timm.

    Raises:
        UsageError: one is a path, and is not there.
    """
    # a root may be an address
    root = f"{reader.root}/" if reader.root else ""
    found = [
        name if Path(name).is_absolute() else f"{root}{name}"
        for name in reader.split_info.filenames
    ]
    missing = [path for path in found if is_local(path) and not Path(path).is_file()]
    if missing:
        more = f", and {len(missing) - 1} more are missing" if len(missing) > 1 else ""
        raise UsageError(
            f"there is no shard {missing[0]}{more}: copy what is missing, or correct the names "
            "of shards in _info.json"
        )
    return found


def is_local(path: str) -> bool:
    """Whether a shard is a file, and not fetched from an address."""
    return "://" not in path and not path.startswith("pipe:")


def raw_samples(reader: Any) -> Iterator[RawSample]:
    """All samples of a reader of timm that does not shuffle, once each.

    Raises:
        UsageError: a shard cannot be read, or a sample has no image or no class.
    """
    prepare(reader, iter)
    yield from reader.ds


def decoded_samples(reader: Any, *, skip: bool) -> Iterator[tuple[NamedImage, int]]:
    """The images of a reader of timm and their classes, in its order.

    Args:
        reader: timm's.
        skip: Leave out what cannot be decoded. Otherwise it is an error.

    Raises:
        UsageError: a shard or an image cannot be read, or a sample has no image or no class.
    """
    prepare(reader, partial(_decoded, skip=skip))
    yield from reader


def prepare(reader: Any, read: Any) -> None:
    """Let a reader of timm give what ``read`` makes of the samples in its shards.

    Args:
        reader: timm's, of which nothing was read yet.
        read: A function of an iterator of :class:`RawSample`; for ``iter(reader)``, to one of
            tables of ``image`` and ``target``.
    """
    import webdataset as wds
    from timm.data.readers.reader_wds import detshuffle2

    # it finds out which worker this is, and its seed
    reader._lazy_init()
    refusing = wds.tarfile_to_samples(handler=partial(_refuse_shard, reader.root))
    raw = partial(_raw, reader=reader)
    stages = [wds.SimpleShardList(shard_files(reader))]
    if reader.is_training:
        stages += [
            detshuffle2(
                reader.shard_shuffle_size, seed=reader.common_seed, epoch=reader.epoch_count
            ),
            reader._split_by_node_and_worker,
            refusing,
            wds.shuffle(
                bufsize=reader.sample_shuffle_size,
                initial=reader.sample_initial_size,
                rng=random.Random(reader.worker_seed),
            ),
        ]
    else:
        stages += [reader._split_by_node_and_worker, refusing]
    reader.ds = wds.DataPipeline(*stages, raw, read)


def _raw(samples: Iterable[Mapping[str, Any]], *, reader: Any) -> Iterator[RawSample]:
    """The image's file and the class of each sample, as timm finds them."""
    from timm.data.readers.reader_wds import _decode

    keys = reader.input_key.split(";")
    label = reader.target_keys or reader.target_key
    options = {"target_key": label, "alt_label": reader.split_info.alt_label}
    for sample in samples:
        name = f"{sample['__url__']}: {sample['__key__']}"
        there = [key for key in keys if key in sample]
        if not there:
            held = ", ".join(key for key in sample if not key.startswith("__")) or "nothing"
            raise UsageError(
                f"{name}: it has no image: it holds {held}; input_key names what images are called"
            )
        try:
            found = _decode({**sample, there[0]: PIXEL}, there[0], "", **options)
        except KeyError as error:
            raise UsageError(
                f"{name}: it has no class: it lacks {first_line(error)}; target_key names its "
                "entry in .json"
            ) from error
        except (TypeError, ValueError) as error:
            raise UsageError(f"{name}: its class cannot be read: {first_line(error)}") from error
        # timm leaves out a class below 0 of an entry in .json
        if found is not None:
            yield RawSample(f"{name}.{there[0]}", sample[there[0]], int(found["target"]))


def _decoded(samples: Iterable[RawSample], *, skip: bool) -> Iterator[dict[str, Any]]:
    for sample in samples:
        try:
            image = decode(io.BytesIO(sample.data))
        except BAD_IMAGE as error:
            if skip:
                continue
            reason = first_line(error).partition(" <_io.BytesIO")[0]
            raise UsageError(
                f"{sample.name}: cannot be read as an image: {reason}; repair it and resume, or "
                "begin another run with on_bad_image='skip'"
            ) from error
        yield {"image": NamedImage(sample.name, image), "target": sample.target}


def _refuse_shard(root: str, error: Exception) -> NoReturn:
    """Raise a UsageError for what cannot be read of a shard."""
    if isinstance(error, UsageError):
        raise error
    # webdataset adds the address, after the stream that it opened
    where = next((each for each in reversed(error.args) if isinstance(each, str)), root)
    reason = str(error.args[0]).partition(" @ <")[0] if error.args else type(error).__name__
    raise UsageError(
        f"{where}: cannot be read as a shard: {reason}; make or copy it once more"
    ) from error
