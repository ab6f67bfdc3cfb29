"""Tables of text."""

from __future__ import annotations

from collections.abc import Sequence


def format_table(rows: Sequence[dict[str, int | str | None]]) -> str:
    """Return rows with the same keys as aligned text, numbers to the right, ``None`` as blank."""
    columns = list(rows[0])

    def text(value: int | str | None) -> str:
        return "" if value is None else f"{value:,}" if isinstance(value, int) else value

    cells = [[text(row[column]) for column in columns] for row in rows]
    widths = [max(len(c), *(len(line[i]) for line in cells)) for i, c in enumerate(columns)]
    right = [any(isinstance(row[c], int) for row in rows) for c in columns]

    def line(values: Sequence[str]) -> str:
        padded = (
            value.rjust(width) if to_right else value.ljust(width)
            for value, width, to_right in zip(values, widths, right, strict=True)
        )
        return "  ".join(padded).rstrip()

    return "\n".join([line(columns), *map(line, cells)])
