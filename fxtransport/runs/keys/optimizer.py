"""The keys of the section ``optimizer``: the optimizer and learning rate schedule of each part."""

from fxtransport.runs.keys.key import Entry, Key, always, by_method

KEYS = (
    Key(
        "optimizer.name",
        str,
        "--opt",
        "The optimizer, as timm.optim names it; timm's sgd is Nesterov's.",
        "momentum",
        metavar="NAME",
        basic=True,
    ),
    Key(
        "optimizer.lr",
        float,
        "--lr",
        "Learning rate.",
        by_method(0.002, 0.01),
        least=0,
        continues=always,
        basic=True,
    ),
    Key(
        "optimizer.weight_decay",
        float,
        "--weight-decay",
        "Weight decay, except of biases and norms.",
        by_method(2e-4, 1e-4),
        least=0,
        continues=always,
        basic=True,
    ),
    Key(
        "optimizer.momentum",
        float,
        "--momentum",
        "Momentum, or the first beta of Adam.",
        0.9,
        least=0,
        continues=always,
    ),
    Key(
        "optimizer.options",
        dict,
        "--opt-arg",
        "Another argument for timm.optim, such as nesterov=true.",
        entries={
            "--layer-decay": Entry(
                "layer_decay",
                "The learning rate of each layer of timm's model over the next one's.",
            ),
        },
        continues=always,
    ),
    Key(
        "optimizer.scheduler",
        str,
        "--sched",
        "The learning rate schedule, as timm.scheduler names it: cosine, multistep, ….",
        "none",
        metavar="NAME",
        basic=True,
        continues=always,
    ),
    Key(
        "optimizer.scheduler_options",
        dict,
        "--sched-arg",
        "Another argument for timm.scheduler, such as decay_rate=0.1.",
        entries={
            "--warmup-epochs": Entry("warmup_epochs", "Epochs of a rising rate, first.", int),
            "--min-lr": Entry("min_lr", "The lowest rate of a schedule that falls."),
        },
        continues=always,
    ),
)
