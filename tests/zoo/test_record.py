"""Records are lines of JSON, and come back as they were."""

from fxtransport.zoo.record import Record, Refusal, Verified

NO = Refusal("TraceError", "raised KeyError", "blocks.0 (Block) raised KeyError: 'a'")


def test_a_record_comes_back_from_its_line() -> None:
    verified = Verified(((3, 8, 8), (3, 8, 8)), {"train": None, "eval": 0.0}, 1.5)
    for record in (
        Record("timm:a", "timm:as", 1.0, refusal=NO),
        Record("timm:a", "timm:as", 1.0, submodule="backbone", whole=NO, verified=verified),
        Record("timm:a", "timm:as", 1.0, residuals={"identity": 2}, imbalances={"2": None}),
    ):
        line = record.to_json()
        assert "\n" not in line
        assert Record.from_json(line) == record


def test_refusals_are_counted_by_their_kind() -> None:
    assert NO.kind == "TraceError: raised KeyError"
