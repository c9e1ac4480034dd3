"""Files that were damaged at random: each use gives the same numbers, or one error of ours.

The same as ``benchmarks/fuzz_files.py`` with fewer damages.
"""

from collections import Counter

from tests.fuzzing.damages import DAMAGES
from tests.fuzzing.files import RIGHT, verdicts

COUNT = 240


def test_damaged_files_are_as_before_or_refused() -> None:
    found = list(verdicts(0, COUNT, workers=2))
    assert len(found) == COUNT
    wrong = [v for v in found if v.verdict not in RIGHT]
    assert wrong == [], "\n".join(f"{v}"[:300] for v in wrong)
    counts = Counter(v.verdict for v in found)
    # the damages are noticed, and not all of them matter
    assert counts["refused"] > COUNT / 3
    assert counts["same"] > COUNT / 20
    assert len({v.damage for v in found}) == len({*DAMAGES})
    assert len({v.subject for v in found}) == 8
