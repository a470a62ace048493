"""A speech session without IO: where every sample is, what was said, what is final, what must be sent again.

timeline     the session's samples, and the stream entries that they came from
frames       bytes to frames of 100 ms
messages     what the provider says, read without trust
segments     the segment map of one connection: words with their places on the timeline
finality     which words are final, and where one ends and the next begins
hearing      from words to the events that tell of them
connection   one connection: what it was sent, what it has heard, where its clock lies on the timeline
link         when to connect again, when to give up
wire         one connection after another
transcript   what is final, packed
state        the fold over the journal
meters, result    how it adds up
ledger       what is settled, what may be trimmed, the close
waiting      how long to wait for what
session      the machine
"""
