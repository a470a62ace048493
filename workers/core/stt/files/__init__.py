"""Prerecorded speech in the core: one file, one question, one answer.

acts            what the machine does, and what comes of it
state           what it knows: a fold over its journal
transcription   the machine
form            the request as the provider's form
answer          the provider's answer, in each of its formats
captions        subtitles of segments
result          what the run came to
"""
