"""The fireworks-ai SDK with datasets and a batch job, unchanged but for its base URL: `fireworks_batch.py URL`."""

import json
import sys
import urllib.request

from fireworks import Fireworks
from saying import MODEL, passed

client = Fireworks(api_key="fw_anything", account_id="tests", base_url=sys.argv[1], max_retries=0)
ROWS = [
    {"custom_id": f"row-{number}", "body": {"messages": [{"role": "user", "content": f"Say {number}"}]}}
    for number in range(3)
]
INPUT, OUTPUT, JOB = "clients-in", "clients-out", "clients-job"


def datasets() -> None:
    client.datasets.create(dataset_id=INPUT, dataset={"example_count": str(len(ROWS)), "user_uploaded": {}})
    text = "".join(f"{json.dumps(row)}\n" for row in ROWS).encode()
    client.datasets.upload(INPUT, file=("rows.jsonl", text))
    assert client.datasets.get(INPUT).state == "READY"
    assert any(each.name.endswith(INPUT) for each in client.datasets.list())


def job() -> None:
    made = client.batch_inference_jobs.create(
        batch_inference_job_id=JOB, model=MODEL, input_dataset_id=f"accounts/tests/datasets/{INPUT}",
        output_dataset_id=f"accounts/tests/datasets/{OUTPUT}", inference_parameters={"max_tokens": 20},
    )  # fmt: skip
    assert made.name.endswith(JOB)
    asked = urllib.request.Request(
        f"{sys.argv[1]}/_emulator/clock",
        json.dumps({"advance_s": 86_400}).encode(),
        {"Content-Type": "application/json"},
    )
    urllib.request.urlopen(asked, timeout=60).close()  # its time is virtual
    assert client.batch_inference_jobs.get(JOB).state == "JOB_STATE_COMPLETED"
    assert any(each.name.endswith(JOB) for each in client.batch_inference_jobs.list())


def results() -> None:
    urls = client.datasets.get_download_endpoint(OUTPUT).filename_to_signed_urls
    lines = []
    for url in urls.values():
        with urllib.request.urlopen(url, timeout=60) as answer:
            lines += [json.loads(line) for line in answer.read().splitlines() if line]
    assert {line["custom_id"] for line in lines} == {row["custom_id"] for row in ROWS}


CHECKS = (datasets, job, results)
for check in CHECKS:
    check()
passed("fireworks-ai", *(check.__name__ for check in CHECKS))
