"""Cuts a stream of rows into shards, by rows and by bytes. The same rows in the same order: the same shards."""

from api_contracts.batch import ShardPlan


class Cutter:
    """Deals out rows, in order, to shards numbered from `first` on. Holds a few numbers for each shard."""

    def __init__(self, most_rows: int, most_bytes: int, first: int = 1) -> None:
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._first = first
        self._rows: list[int] = []
        self._bytes: list[int] = []

    def place(self, size: int) -> int:
        """Return the shard of the next row, whose line has `size` bytes. A row larger than a shard has one alone."""
        if not self._rows or self._is_full(size):
            self._rows.append(0)
            self._bytes.append(0)
        self._rows[-1] += 1
        self._bytes[-1] += size
        return self._first + len(self._rows) - 1

    def take_back(self, shard: int, size: int) -> None:
        """Forget a row that was placed, and then set aside."""
        self._rows[shard - self._first] -= 1
        self._bytes[shard - self._first] -= size

    def plan(self) -> list[ShardPlan]:
        """Return the shards that have rows."""
        cut = enumerate(zip(self._rows, self._bytes, strict=True), self._first)
        return [ShardPlan(shard=shard, rows=rows, bytes=size) for shard, (rows, size) in cut if rows]

    def _is_full(self, size: int) -> bool:
        return self._rows[-1] >= self._most_rows or (self._rows[-1] > 0 and self._bytes[-1] + size > self._most_bytes)


class Halver(Cutter):
    """Deals `rows` rows out to two shards, the first half to the first: to find the row that spoils them."""

    def __init__(self, rows: int, first: int) -> None:
        super().__init__((rows + 1) // 2, 1 << 62, first)
