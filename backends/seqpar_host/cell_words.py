"""The words that the plan, the conductor and the crews of a cell's walk share, of 64 bits each; used as `w.TIME`.

A *sequence* is one row of the batch. *Positions* count its steps in the direction of the walk, so a walk backward begins at
position 0 too. A *chunk* is some neighbouring steps of a sequence; after every MARK steps of one its carry is kept, as a
*checkpoint*. Sequences that have their weights in common are a *model*.
"""

MARK = 16
HEIGHT = 4  # rows of a crew, and of the tallest tile there is

# A plan. The first three words are those that launch.py looks at.
_, CONDUCTOR, TASKS = range(3)
CREW, MODELLER, TILE_1, TILE_2, TILE_4 = range(3, 8)  # addresses of compiled functions
METHOD, CHUNK, BACKWARD, TIME = range(8, 12)
NANOSECONDS = 12  # that one step of one row takes, roughly
MODELS, SEQUENCES = 13, 14  # sequences of each model
CARRY, PACKED, REGION = range(15, 18)  # bytes of a carry, of packed weights, of a crew's own memory
# In that memory, beside the job, which comes first: bytes to the crew's rows, their carries, the tile's scratch, states laid
# out as the slot "before", the results of a ghost.
AT_ROWS, AT_CARRIES, AT_SCRATCH, AT_PASTS, AT_GHOST = range(18, 23)
PAST, PAST_SHIFT = 23, 24  # bytes of such a state, and where in them its first number lies
JOB_HEADER, JOB_ROW = 25, 26  # words of a job, and of each row in it
SLOTS, BEFORE = 27, 28  # of a tile, and which of them is "before"
ITEMSIZE, PARTS, STATE, WEIGHTS = range(29, 33)  # numbers in a state, and in all weights
H0_UNIT, BEFORE_UNIT, SEED_UNIT, LAST_UNIT, WEIGHTS_UNIT = range(33, 38)  # bytes from one number to the next
MODEL_DIMS, SEQUENCE_DIMS = 38, 39
PART_TABLE, ENTRY_TABLE, SIZE_TABLE, JOB_TABLE, LAYOUT_TABLE = range(
    40, 45
)  # words from the plan to its tables
TALLEST = 45  # rows of the tallest tile that was compiled
WORTH = 46  # nanoseconds of work that a thread is worth
FULL = 47  # rows with which a tile is about as fast, for each, as it gets
EACH = 48  # rows that every thread gets where time is cut for that
PLAN_WORDS = 49
AUTO, IN_ORDER, IN_CHUNKS = range(3)  # methods

# A plan's table of entries: the slots of the tile, and then the start of a sequence, its weights, what the start of a ghost is
# made from, and what is left in the end (forward the number of sweeps, backward the gradient of the start).
ENTRY_H0, ENTRY_WEIGHTS, ENTRY_SEED, ENTRY_LAST = range(4)
# Which pointer of the call, or -1; bytes to the first step; bytes in a ghost's memory, or -1; bytes per index of each dim.
POINTER, OFFSET, GHOST, STRIDES = range(4)

# Orders to the crews of a phase.
PLAN, CALL, MODEL, READY_WEIGHTS, THREADS, REGIONS = range(6)
KIND, COUNTER, ITEMS, LIST, ABREAST, CREWS = range(6, 12)
LEDGER, FRONTS, CHUNKS, MARKS, STARTS, CHECKPOINTS, LIMIT = range(12, 19)
ORDER_WORDS = 19
WALK, PROBE, SWEEP, CORRECT, IN_TURN = range(5)  # kinds of phases

# A row at work: its sequence and chunk (-1: none), its position, the next mark and the end, and addresses.
SEQUENCE, NUMBER, AT, NEXT, END, ROW_CARRY, ROW_PAST, ROW_SLOTS = range(8)
ROW_WORDS = 16

# The ledger, of each sequence: position of its first chunk, steps of a chunk, chunks (0: the rest goes in one), sweeps.
FIRST, LENGTH, COUNT, SWEEPS = range(4)
LEDGER_WORDS = 4
