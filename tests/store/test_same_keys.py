"""The same month, with its artifacts in a folder and in a bucket: the same keys, the same bytes."""

from dataclasses import replace
from pathlib import Path

from tests.lineage.house import House, plain
from theta_ml.settings import Settings
from theta_ml.store import address


def test_where_the_artifacts_are_is_in_no_key(tmp_path: Path, database_url: str, bucket: str) -> None:
    made: list[tuple[str, str, str, dict[str, bytes]]] = []
    for name, root in (("folder", None), ("bucket", f"{bucket}/artifacts")):
        (tmp_path / name).mkdir()
        house = House(Settings(home=tmp_path / name, database_url=database_url, artifacts_url=root))  # type: ignore[arg-type]
        if not made:
            house.land(plain("2026-01", 60))
        snapshot = house.snapshot("2026-01", "r1")
        corpus = house.prepare(snapshot.uri, "2026-01")
        champion = replace(house.train(corpus, "2026-01"), version=1, key="0" * 32, uri=address("train", "0" * 32))
        with house.store.writing("train", champion.key) as path:
            house.store.open(corpus.uri)
            (path / "artifact.json").write_text('{"value": {"preset": "tiny"}, "inputs": {}}')
            _copy(house.store.open(corpus.uri).path / "tokenizer", path / "model")
        second = house.prepare(snapshot.uri, "2026-01", champion)
        files = house.store.open(corpus.uri).path
        made.append((snapshot.key, corpus.key, second.key, {p.name: p.read_bytes() for p in files.glob("*.npy")}))
    assert made[0][:3] == made[1][:3]
    assert made[0][3] == made[1][3]


def _copy(folder: Path, to: Path) -> None:
    to.mkdir()
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    (to / "config.json").write_text('{"max_position_embeddings": 256}')
