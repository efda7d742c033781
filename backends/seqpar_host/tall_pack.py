"""Rows of a matrix into a block of scratch, and back: tiles are turned in registers, since scratch lies by columns."""

from seqpar_host.simd import Int, Lanes, Mask, Variable, turn, turn_back
from seqpar_host.tall_code import TallCode
from seqpar_host.tall_job import (
    BLOCK,
    COLUMN_STEP,
    COLUMNS,
    LARGEST,
    PANEL,
    ROW_STEP,
    ROWS,
    SOURCE,
)
from seqpar_host.tall_scale import larger

TURNED = 32  # bytes of a column that are turned at once: AMD's cores do two shuffles of 256 bits a cycle, one of 512


class Pack(TallCode):
    """PACK: rows and columns up to a multiple of PANEL become zeros."""

    def write(self) -> None:
        builder, item = self.builder, self.item
        height = TURNED // item
        rows, columns, step = self.word(ROWS), self.word(COLUMNS), self.word(ROW_STEP)
        source, block, apart = self.word(SOURCE), self.word(BLOCK), self.word(COLUMN_STEP)
        held = self.room(height * PANEL)
        tiles = (rows + (PANEL - 1)) // PANEL * (PANEL // height)
        packed = apart.equals(self.number_bytes)
        with self.loop((columns + (PANEL - 1)) // PANEL) as panel:
            first = panel * PANEL
            some = (columns - first).min(PANEL)
            mask = some.first(PANEL)
            largest = Variable(self.constant(0.0, PANEL))
            across = source + first * apart
            target = block + first * self.lead
            with self.loop(tiles) as tile:
                begin = across + tile * height * step
                left = rows - tile * height
                whole = builder.and_(packed, builder.not_(left.less(height)))
                with builder.if_then(builder.not_(whole)):
                    self.copy(begin, step, apart, left, some, held)
                here = begin.where(whole, held)
                down = step.where(whole, Int(builder, step.value.type(self.row_bytes)))
                lines = [self.columns(here + down * row, PANEL, mask) for row in range(height)]
                found = largest.get()
                for line in lines:
                    found = larger(found, line)
                largest.set(found)
                at = target + tile * (height * item)
                for column, value in enumerate(turn(lines)):
                    self.set_rows(value, at + column * self.lead)
            self.store(largest.get(), self.word(LARGEST) + first * item)

    def copy(self, begin: Int, step: Int, apart: Int, left: Int, some: Int, held: Int) -> None:
        """A tile that lies otherwise, number by number; rows that are not there are zeros."""
        height = TURNED // self.item
        for line in range(height):
            self.set_columns(self.zeros(PANEL), held + line * self.row_bytes)
        with self.loop(left.min(height)) as row, self.loop(some) as column:
            value = self.columns(begin + row * step + column * apart, 1)
            self.set_columns(value, held + row * self.row_bytes + column * self.number_bytes)


class Unpack(TallCode):
    """UNPACK: rows and columns of a block into memory where the numbers of a row lie without gaps."""

    def write(self) -> None:
        item = self.number_bytes
        height = TURNED // self.item
        rows, columns, step = self.word(ROWS), self.word(COLUMNS), self.word(ROW_STEP)
        target, block = self.word(SOURCE), self.word(BLOCK)
        with self.loop((columns + (PANEL - 1)) // PANEL) as panel:
            first = panel * PANEL
            mask = (columns - first).first(PANEL)
            here = block + first * self.lead
            whole = rows // height
            with self.loop(whole) as tile:
                self.tile(here, target + first * item, tile, step, mask, None)
            with self.loop((rows - whole * height).min(1)) as tile:
                self.tile(here, target + first * item, whole + tile, step, mask, rows - whole * height)

    def tile(self, here: Int, target: Int, tile: Int, step: Int, mask: Mask, rows: Int | None) -> None:
        height = TURNED // self.item
        at = here + tile * (height * self.item)
        columns: list[Lanes] = [self.rows(at + c * self.lead, height) for c in range(PANEL)]
        for row, line in enumerate(turn_back(columns)):
            place = target + (tile * height + row) * step
            if rows is None:
                self.set_columns(line, place, mask)
            else:
                with self.builder.if_then(Int(self.builder, rows.value.type(row)).less(rows)):
                    self.set_columns(line, place, mask)
