"""The keys of the data: which may change when a run is resumed."""

from fxtransport.runs.keys.data import KEYS

BY_NAME = {key.path.removeprefix("data."): key for key in KEYS}


def test_where_the_data_is_may_change() -> None:
    changing = {name for name, key in BY_NAME.items() if key.may_change({"data.name": "digits"})}
    reading = {"allow_duplicates", "check_data", "on_bad_image"}
    assert changing == {*reading, "root", "download", "num_workers"}


def test_workers_decide_the_order_of_shards() -> None:
    assert not BY_NAME["num_workers"].may_change({"data.name": "wds/shards"})
