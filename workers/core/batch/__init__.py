"""Batches, decided: pure. `submission` owns the way of a run; most other files read, check, cut and judge rows.

    lines -> rows -> cutter        what comes in: lines of JSONL, checked rows, shards
    lines -> outputs -> harvest    what comes back: output lines, what they say of rows, how the files add up
    jobs, pace                     what a job's state means; when to look at it, when to try again

No file is ever held as a whole. What is known of single rows lives in SQL; the machine sees counts.
"""
