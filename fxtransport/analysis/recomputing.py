"""What a training step of a part holds that computes only its first residual blocks again."""

from bisect import bisect_left
from collections.abc import Sequence

from fxtransport.analysis.ranges import Ranges, head_of
from fxtransport.ir import TrainingMemory


class Recomputing:
    """The steps of all ranges whose first blocks are computed again.

    A step that computes every block again and one that computes none have the same stretches. A
    part takes its first ones from the first of the two, and the rest from the other. In the
    backward pass the rest comes first: meanwhile the first ones hold the inputs of their blocks.

    Args:
        again: The step of the whole in which every block is computed again.
        plain: That in which none is, whose points are those of the other and perhaps more.
        before: How many blocks end before each point of the first of the two.
    """

    def __init__(
        self,
        again: TrainingMemory,
        plain: TrainingMemory,
        before: Sequence[int],
    ) -> None:
        self._again, self._plain = Ranges(again), Ranges(plain)
        number = {after: k + 1 for k, after in enumerate(plain.ends)}
        self._points = [0, *(number[after] for after in again.ends), len(plain.ends) + 1]
        self.before = before

    def blocks(self, i: int, j: int) -> int:
        """How many blocks the part from point i to point j has."""
        return self.before[j] - self.before[i]

    def peak(self, i: int, j: int, count: int) -> int:
        """The peak of the part from point i to point j, in bytes beside what is held all along.

        Args:
            i: Where the part begins.
            j: Where it ends.
            count: How many blocks are computed again. Where one of them and the next have no
                point between them, they count as one that is not.
        """
        if count >= self.blocks(i, j):
            return self._again.peak(i, j).size
        m = self._end(i, j, count)
        if m == i:
            return self._plain.peak(self._points[i], self._points[j]).size
        again, head = self._again, head_of(self._again.memory, i, j)
        return max(
            self._rest(i, m, j),
            again.forward(i, m).size,
            again.backward(i, j, head, start=m).size,
            again.optimizer(i, j, head).size,
        )

    def _end(self, i: int, j: int, count: int) -> int:
        """The first point at which a number of blocks have ended, or the last where fewer have."""
        ended = self.before[i] + count
        m = bisect_left(self.before, ended, i, j)
        while m > i and self.before[m] > ended:
            m -= 1
        return m

    def _rest(self, i: int, m: int, j: int) -> int:
        """The peak while what is computed once runs: the stretches after point m."""
        first, last = self._points[m], self._points[j]
        head = head_of(self._again.memory, i, j)
        moments = (
            self._plain.forward(first, last),
            self._plain.at_head(first, last, head),
            self._plain.backward(first, last, head, inside=m > i),
        )
        kept = self._again.left_by(i, m) if m > i else 0
        return kept + max(moment.size for moment in moments)

    def fewest(self, i: int, j: int, limit: int) -> int | None:
        """The fewest blocks with which a part's peak is within a limit; None if there are none.

        The more blocks are computed again, the less is held while the rest runs, and the more, if
        anything, while they are.
        """
        every = self.blocks(i, j)
        found = bisect_left(
            range(every), True, key=lambda n: self._rest(i, self._end(i, j, n), j) <= limit
        )
        return found if self.peak(i, j, found) <= limit else None
