"""The process `flower`: Flower on our configuration, behind a password, without content, and with a true Terminate.

serving     the process: options, listening, stopping
pages       Flower's application and the endpoints that we replace
discretion  what is taken out of events and of workers' answers before Flower keeps them; pure
"""
