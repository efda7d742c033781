"""The words of a plan of tall-skinny QR and of its calls: what the routines of tall_conductor.py read.

A matrix is cut into parts of rows, and a part into blocks; both by the shapes alone. Each part has an area:

    R (later the part of Q that stands for it)    sizes, powers and signs of columns    records of its blocks, and of its merge
    the reflections that merge its R into that of the first part
"""

# Of a plan; the first three are those that launch.py reads.
KERNEL, WORKER, TASKS, CREW, ITEMSIZE, LANES, MATRICES, DIMS, SIZE_TABLE, SLOT_TABLE = range(10)
ROWS, WIDTH, PANELS, FROM_A, FROM_B, SEED_ROWS, RESULT_ROWS = range(10, 17)
BLOCKS, PARTS, BLOCK, HEAD, EXPLICIT, RAN_CODE = range(17, 23)
R_BYTES, LINE_BYTES, RECORDS, RECORDS_BYTES, AREA_BYTES, SCRATCH_BYTES, REGION_BYTES = range(23, 30)
# Whether reflections are kept, and in how many phases the threads work; of a product with Q, columns of a strip, how many strips,
# all columns, and whether it is with Q^H.
KEEPS, PHASES, STRIP, STRIPS, ACROSS, ADJOINT = range(30, 36)
# Bytes of a real number: of the numbers, or of their parts.
REAL = 36
# Columns of Q.
DEEP = 37
PLAN_WORDS = 38
# Operands and results: which pointer of the call (-1: absent), bytes per row and per column, and per index of each dim.
# Q stands for the reflections too, T for their records.
A, B, WEIGHTS, SEED, Q, R, RAN, T, SIGNS, X, Y = range(11)
SLOTS = 11
POINTER, ROW_STEP, COLUMN_STEP, STRIDES = range(4)
# Of a call: plan, pointers, areas, counters of parts that are done, regions, counters of tasks and regions, the phase.
PLAN, CALL, AREAS, COUNTERS, REGIONS, NEXT_TASK, NEXT_REGION, PHASE = range(8)
ORDER_WORDS = 8
# Of a thread: the orders, the words of its steps, where its part's area lies; its scratch: reflections, what they turn, weights,
# sizes of columns; of the part its matrix, which one it is, its first row, its rows, and whether columns have powers; of a
# product its strip.
ORDERS, JOB, AREA, FACTORED, TURNED, WEIGHED, SIZES, MATRIX, INDEX, START, COUNT, POWERED, WHICH = range(13)
THREAD_WORDS = 13
FORWARD_PHASE, BACKWARD_PHASE = range(2)
OUT_OF_MEMORY = 1
