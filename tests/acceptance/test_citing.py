"""Cited answers as processes: nothing is cited that does not exist, whoever dies."""

from collections.abc import Iterator

import pytest

from api_contracts.citations import CiteResult, Source
from tests.acceptance.cluster import MODEL, Cluster
from tests.acceptance.conftest import NewCluster
from tests.acceptance.journal import is_right, lives, of_type
from tests.servers import embedded_valkey
from tests.waiting import eventually

SOURCES = [
    Source(id="a", content="The lighthouse was built in 1874 from grey granite.", metadata={"title": "Lights"}),
    Source(id="b", content="The lamp burned oil until 1931.", metadata={"title": "Lamps"}),
]
WORKERS = ("chat-1", "chat-2")


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, new_cluster: NewCluster) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("citing")
    with embedded_valkey(folder / "valkey") as valkey:
        made = new_cluster(folder, valkey, FW_LEASE_S="2", FW_SWEEP_S="0.5")
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def cluster(lasting: Cluster) -> Cluster:
    lasting.keep(lasting.worker, *WORKERS)
    return lasting


def ask(cluster: Cluster, name: str, question: str, **fields: object) -> CiteResult:
    cluster.client.cite.submit(model=MODEL, question=question, sources=SOURCES, run_id=name, **fields)
    assert is_right(list(cluster.client.follow(name, timeout_s=60)))
    return cluster.client.cite.result(name)


@pytest.mark.requirement("CITE-03", "CITE-04", "CITE-06", "CITE-13")
def test_an_answer_cites_its_sources_and_its_quotes_are_verbatim(cluster: Cluster, name: str) -> None:
    result = ask(cluster, name, "cite well")
    assert result.status == "completed"
    assert {number for citation in result.citations for number in citation.numbers} <= {1, 2}
    quotes = [verdict for citation in result.citations for verdict in citation.verdicts if verdict.tier == "verbatim"]
    assert [verdict.verdict for verdict in quotes] == ["verbatim"]
    (quote,) = quotes
    assert quote.quote is not None
    said = result.text[quote.quote.start : quote.quote.end]
    assert said == "built in 1874" == SOURCES[0].content[quote.source_start : quote.source_end]
    assert [reference.source_id for reference in result.references] == ["a", "b"]
    assert not result.uncited


@pytest.mark.requirement("CITE-03", "EMU-03")
@pytest.mark.parametrize("policy", ["required", "auto"])
def test_a_model_that_would_cite_what_does_not_exist_cannot(cluster: Cluster, name: str, policy: str) -> None:
    result = ask(cluster, name, "cite badly", policy=policy)
    assert result.status == "completed", result.failure
    assert "99" not in result.text
    assert {number for citation in result.citations for number in citation.numbers} <= {1, 2}


@pytest.mark.requirement("CITE-11")
def test_without_sources_nothing_is_enqueued(cluster: Cluster) -> None:
    with pytest.raises(ValueError, match="sources"):
        cluster.client.cite.submit(model=MODEL, question="?", sources=[])


@pytest.mark.requirement("RUN-04", "CITE-05")
def test_a_worker_killed_in_mid_answer_and_another_one_answers(cluster: Cluster, name: str) -> None:
    cluster.client.cite.submit(model=MODEL, question="cite slowly", sources=SOURCES, run_id=name)
    eventually(lambda: len(of_type(cluster.client.events(name), "chat.delta")) >= 3, within=60)
    killed = cluster.holder(name).kill()
    events = list(cluster.client.follow(name, timeout_s=60))
    assert is_right(events)
    assert lives(events)[0] == killed.pid != lives(events)[1]
    result = cluster.client.cite.result(name)
    assert result.status == "completed"
    assert result.citations


@pytest.mark.requirement("RUN-13")
def test_any_celery_producer_can_ask(cluster: Cluster, name: str) -> None:
    request = {
        "model": MODEL, "question": "cite well", "sources": [source.model_dump(mode="json") for source in SOURCES],
    }  # fmt: skip
    with cluster.foreign_app() as app:
        app.send_task("fireworks.cite.answer", kwargs={"request": request}, task_id=name, queue="fireworks.chat")
        assert app.AsyncResult(name).get(timeout=120)["citations"]
