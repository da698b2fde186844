"""A cache in memory of what was used last, bounded in bytes."""
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar('Value')


class ByteCache(Generic[Value]):
    """Keeps the values used last, as long as their sizes add up to no more than a limit.

    Args:
        limit: Bytes; a value that is larger is not kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.bytes = 0
        self._kept: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, key: Hashable) -> Value:
        self._kept.move_to_end(key)
        return self._kept[key][0]

    def keep(self, key: Hashable, value: Value, size: int) -> None:
        """Keep a value of some bytes, and drop what was used longest ago until all fits."""
        if key in self._kept or size > self.limit:
            return
        self._kept[key] = value, size
        self.bytes += size
        while self.bytes > self.limit:
            self.bytes -= self._kept.popitem(last=False)[1][1]
