"""The keys of the section ``schedule``: which parts train when."""

from fxtransport.runs.keys.key import DefaultBy, Key, always, by_method

SCHEDULES = ("end-to-end", "parallel", "sequential", "multi-lap")

KEYS = (
    Key(
        "schedule.name",
        str,
        "--schedule",
        "Which parts train when.",
        by_method("parallel", "end-to-end"),
        choices=SCHEDULES,
        basic=True,
    ),
    Key(
        "schedule.epochs",
        int,
        "--epochs/-n",
        "Epochs; where parts train one after the other, those of the first part in each lap.",
        10,
        least=1,
        basic=True,
        continues=always,
    ),
    Key(
        "schedule.steps",
        int,
        "--steps",
        "Train for this many steps, in whole epochs, in place of --epochs.",
        least=1,
        continues=always,
    ),
    Key(
        "schedule.images",
        int,
        "--images",
        "Train on this many images, in whole epochs, in place of --epochs.",
        least=1,
        continues=always,
    ),
    Key(
        "schedule.growth",
        int,
        "--growth",
        "How many epochs more each next part trains.",
        DefaultBy("schedule.name", {"sequential": 0, "multi-lap": 0}),
        least=0,
    ),
    Key(
        "schedule.laps",
        int,
        "--laps",
        "How often to go from the first part to the last.",
        DefaultBy("schedule.name", {"multi-lap": 5}),
        least=1,
        most=10_000,
        metavar="R",
        continues=always,
    ),
)
