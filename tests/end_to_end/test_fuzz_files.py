"""Files that were damaged at random: each use gives the same numbers, or one error of ours.

The same as ``benchmarks/fuzz_files.py`` with fewer damages.
"""

from collections import Counter
from pathlib import Path

from tests.fuzzing.files import MUTATIONS, RIGHT, run

DAMAGES = 72


def test_damaged_files_are_as_before_or_refused(tmp_path: Path) -> None:
    found = list(run(tmp_path, range(DAMAGES)))
    assert len(found) == DAMAGES
    failed = [f"{v.seed} {v.subject}, {v.mutation}: {v.verdict} {v.message}"[:300] for v in found]
    wrong = [line for line, v in zip(failed, found, strict=True) if v.verdict not in RIGHT]
    assert wrong == [], "\n".join(wrong)
    counts = Counter(v.verdict for v in found)
    # the damages are noticed, and not all of them matter
    assert counts["refused"] > DAMAGES / 3
    assert counts["same"] > DAMAGES / 20
    assert len({v.mutation.partition(":")[0] for v in found}) == len({*MUTATIONS})
