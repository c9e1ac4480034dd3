"""The keys of the section ``data``: which set, how it is split, and how batches are made."""

from fxtransport.runs.keys.key import Key, always, by_method

KEYS = (
    Key(
        "data.name",
        str,
        "--data",
        "digits, mnist5k, patches, circles, moons; a folder of images; or a set as timm names it: "
        "torch/cifar10.",
        "digits",
        metavar="NAME",
        basic=True,
    ),
    Key(
        "data.root",
        str,
        "--data-dir",
        "The folder of the set.",
        metavar="DIR",
        may_change=always,
        basic=True,
    ),
    Key(
        "data.download",
        bool,
        "--download",
        "Fetch the set if it is not there.",
        False,
        may_change=always,
    ),
    Key(
        "data.batch_size",
        int,
        "--batch-size/-b",
        "Samples in a training batch.",
        by_method(64, 128),
        least=1,
        metavar="B",
        basic=True,
    ),
    Key(
        "data.eval_batch_size",
        int,
        "--eval-batch-size",
        "Samples in other batches; as in training by default.",
        least=1,
        metavar="B",
    ),
    Key(
        "data.validation",
        float,
        "--validation",
        "The share of training samples to validate on, if the set has no such split.",
        0.1,
        least=0,
    ),
    Key(
        "data.test",
        float,
        "--test",
        "The share of all samples to test on, if the set has no such split.",
        0.2,
        least=0,
    ),
    Key(
        "data.train_samples",
        int,
        "--train-samples",
        "Train on this many samples only.",
        least=1,
    ),
    Key("data.drop_last", bool, "--drop-last", "Drop the last batch if it is smaller.", False),
    Key(
        "data.num_workers",
        int,
        "--workers",
        "Processes that prepare batches; except for wds/ sets the batches are the same.",
        0,
        least=0,
        # each process shuffles the shards that it reads, so their number decides the order
        may_change=lambda values: not values["data.name"].startswith("wds/"),
    ),
    Key("data.options", dict, "--data-arg", "An option of the set, such as noise=0.1."),
    Key(
        "data.transform",
        dict,
        "--transform",
        "An option of timm's transforms of all splits, such as interpolation=bicubic.",
    ),
    Key(
        "data.augmentation",
        dict,
        "--augment",
        "An option of timm's transforms of training images, such as hflip=0.5 or padding=4.",
    ),
    Key(
        "data.mixup",
        dict,
        "--mixup",
        "An option of timm's mixup, such as mixup_alpha=0.2 or cutmix_alpha=1.",
    ),
)
