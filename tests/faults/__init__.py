"""Real processes under real faults: `make faults`. One table of faults, one mix of runs, one verdict.

faults.py    the table: what is done to whom
proxy.py     the network between the workers and their servers
world.py     the processes and servers
mix.py       the runs, and what each must come to
playing.py   strikes while they run
driver.py    submits, speaks, cancels, and sees who has ended
verdict.py   what the journals, SQL and the counters outside say
"""
