"""Software that we did not write against ours: official clients against the emulator, our worker against llama.cpp.

Only `make clients` plays it: each client has an environment of its own below `.cache/clients`, made by pip on the first
run, and is skipped loudly where that fails. docs/clients.md says what passed, with versions.
"""
