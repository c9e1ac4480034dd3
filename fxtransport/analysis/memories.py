"""Which values of a recording may lie in one place, so that writing one writes the other."""

from collections.abc import Collection
from functools import cached_property

from fxtransport.analysis.dataflow import VIEWS
from fxtransport.ir import ALIAS, Origins, Recording

_PERHAPS = frozenset({"clone", "_to_copy"})
"""What ``to``, ``contiguous`` and ``reshape`` do, and not for inputs of any dtype and layout."""


class Memories:
    """Where the values of a recording lie.

    Args:
        recording: The recording.
        origins: Which node ran each of its operations.
        copies: The nodes that copy whatever they are given, as ``clone`` does.
    """

    def __init__(
        self, recording: Recording, origins: Origins, copies: Collection[str] = ()
    ) -> None:
        self.recording = recording
        self.origins = origins
        self.out_of_place: set[int] = set()
        """The operations in place that a rewrite has made ones out of place."""
        self._perhaps = frozenset(
            i
            for i, op in enumerate(recording.ops)
            if op.base_name in _PERHAPS and origins.op_nodes[i] not in copies
        )

    def of(self, value: int) -> int:
        """The first value that may have lain where a value lies."""
        storages = self.recording.storages
        while (producer := self.recording.producer[value]) is not None:
            op = self.recording.ops[producer]
            shared = op.writes or op.name == ALIAS or op.base_name in VIEWS
            if not shared or producer in self.out_of_place:
                break
            if producer not in self._perhaps and storages[op.inputs[0]] != storages[value]:
                break
            value = op.inputs[0]
        return value

    def overwritten(self, value: int, start: int) -> bool:
        """Whether the memory of a value is written by an operation from ``start`` on.

        All operations that become ones out of place must be known.
        """
        memory = self.of(value)
        return any(op >= start and written == memory for op, written in self._writes)

    @cached_property
    def _writes(self) -> list[tuple[int, int]]:
        """The operations in place that are left, and what memory each writes."""
        ops = enumerate(self.recording.ops)
        left = ((i, op) for i, op in ops if op.writes and i not in self.out_of_place)
        return [(i, self.of(op.inputs[0])) for i, op in left]

    def read_by_another_name(self, op: int, name: str) -> bool:
        """Whether what an operation writes is read later as the value of a node but ``name``.

        An eval-mode dropout, say, returns what it is given: two nodes have one tensor. So do a
        tensor and what ``float()`` makes of it, where it is in single precision already.
        """
        recording = self.recording
        written = recording.ops[op].outputs[0]
        storage = recording.storages[written]
        later = range(op + 1, len(recording.ops))
        for i in later:
            if recording.ops[i].name == ALIAS and self._storage(i) == storage:
                return True
            pairs = zip(recording.ops[i].inputs, self.origins.operands[i], strict=False)
            if any(value == written and node not in (None, name) for value, node in pairs):
                return True
        if not self._perhaps:
            return False
        read = {v for i in later for v in recording.ops[i].inputs}.union(recording.outputs)
        memory = self.of(recording.ops[op].inputs[0])
        return any(recording.storages[v] != storage and self.of(v) == memory for v in read)

    def _storage(self, op: int) -> int:
        return self.recording.storages[self.recording.ops[op].inputs[0]]

    def is_kept(self, op: int, kept: Collection[str]) -> bool:
        """Whether one of some nodes has what an operation writes, or a view of it."""
        recording = self.recording
        written = recording.ops[op].inputs[0]
        pairs = zip(self.origins.op_nodes, recording.ops, strict=False)
        values = {v for name, each in pairs if name in kept for v in each.outputs}
        storage, memory = recording.storages[written], self.of(written)
        return any(recording.storages[v] == storage or self.of(v) == memory for v in values)
