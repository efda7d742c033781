"""How `seqpar.solve_recurrence` solves: one file for each method, and what they share."""
