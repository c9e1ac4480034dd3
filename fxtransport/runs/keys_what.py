"""The keys that say what is trained: model, program, data."""

from fxtransport.runs.keys import By, Key, always, by_method

KEYS = (
    # model
    Key("model.name", str, "", "What is trained."),
    Key("model.pretrained", bool, "--pretrained", "Start from fetched weights.", False),
    Key(
        "model.image_size",
        int,
        "--image-size",
        "Height and width of the input; the model's own by default.",
        least=1,
    ),
    Key(
        "model.init",
        str,
        "--init",
        "Draw the weights anew; otherwise they are as the library draws them.",
        choices=("orthogonal", "kaiming", "normal"),
    ),
    Key(
        "model.gain",
        float,
        "--gain",
        "Of --init.",
        By("model.init", {"orthogonal": by_method(0.1, 0.01), "kaiming": 1.0, "normal": 0.05}),
    ),
    Key(
        "model.options",
        dict,
        "--model-arg",
        "For the model's constructor, such as drop_path_rate=0.1.",
    ),
    # program
    Key(
        "program.modules",
        int,
        "--modules/-k",
        "The number of modules.",
        By("schedule.name", {"end-to-end": 1, "parallel": 4, "sequential": 4, "multi-lap": 4}),
        least=1,
        metavar="K",
    ),
    Key("program.blockwise", bool, "--blockwise", "As many modules as can be.", False),
    Key(
        "program.balance",
        str,
        "",
        "What is even among the modules.",
        "depth",
        choices=("depth", "weight"),
        alone={
            "--equal-depth": ("depth", "As many residuals each (default)."),
            "--equal-weight": ("weight", "As much --weight each."),
        },
    ),
    Key(
        "program.weight",
        str,
        "--weight",
        "What --equal-weight balances; activations are bytes saved for backward.",
        By("program.balance", {"weight": "activations"}),
        choices=("activations", "parameters", "flops"),
    ),
    Key(
        "program.cuts",
        list,
        "--cut",
        "Cut behind this module or node; may be repeated.",
        metavar="PATH",
    ),
    Key(
        "program.head",
        str,
        "--head",
        "Auxiliary heads of all modules but the last.",
        "auto",
        choices=("auto", "conv", "token"),
    ),
    Key(
        "program.verify",
        bool,
        "--verify/--no-verify",
        "Compare the program with the model.",
        True,
        later=always,
    ),
    # data
    Key(
        "data.name",
        str,
        "--data",
        "digits, circles, moons; a folder of images; a set as timm names it: torch/cifar10.",
        "digits",
        metavar="NAME",
    ),
    Key("data.root", str, "--data-dir", "The folder that holds it.", metavar="DIR", later=always),
    Key("data.download", bool, "--download", "Fetch it if it is not there.", False, later=always),
    Key(
        "data.batch_size",
        int,
        "--batch-size/-b",
        "Inputs in a training batch.",
        by_method(64, 128),
        least=1,
        metavar="B",
    ),
    Key(
        "data.eval_batch_size",
        int,
        "--eval-batch-size",
        "Inputs in other batches; as in training by default.",
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
        "data.train_samples", int, "--train-samples", "How many training samples to keep.", least=1
    ),
    Key("data.drop_last", bool, "--drop-last", "Leave out a smaller last batch.", False),
    Key(
        "data.num_workers",
        int,
        "--workers",
        "Processes that prepare batches; but for wds/ sets the batches are the same.",
        0,
        least=0,
        # each process shuffles the shards that it reads, so their order follows from how many
        later=lambda values: not values["data.name"].startswith("wds/"),
    ),
    Key("data.options", dict, "--data-arg", "Of the set, such as noise=0.1."),
    Key(
        "data.transform",
        dict,
        "--transform",
        "Of timm's transforms of all splits, such as interpolation=bicubic.",
    ),
    Key(
        "data.augmentation",
        dict,
        "--augment",
        "Of timm's transforms of training images, such as hflip=0.5 or padding=4.",
    ),
    Key(
        "data.mixup", dict, "--mixup", "Of timm's mixup, such as mixup_alpha=0.2 or cutmix_alpha=1."
    ),
)
