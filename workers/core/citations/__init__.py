"""Cited answers without IO: what is shown to the model, what form it must keep to, and what its answer is worth. Pure.

writing      what a sentence and a marker are made of, said once
tokens       how many tokens a text has, at most
passages     sources to numbered passages that fit a budget
form         the form of the answer: its grammar, and the words that ask for it
plan         all that follows from a request: passages, forms, prompt
speech       the answer apart from the thought before it, while it comes
sentences    the sentences of an answer and the markers that belong to each
quotes       whether quoted words stand in a source
check        faults, citations, verdicts, coverage
references   the list of references, numbered as in the text
state        the fold over the journal
result       how it adds up
answering    the machine
"""
