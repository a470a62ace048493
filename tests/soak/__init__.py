"""Live speech for minutes while workers are killed: `make soak`. Words exact, audio accounted for, memory flat.

speakers.py  who speaks: so many sessions at once, one after another on each line, in real time
watching.py  memory of each process, sample by sample, and how fast it grows
playing.py   the workers, the strikes, and what became of each session
picture.py   the curves of memory as an SVG
"""
