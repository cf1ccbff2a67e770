"""The master's databases, for those who want a management controller on them."""

import pytest


@pytest.fixture
def master(tmp_path, monkeypatch, request):
    import zlmdb

    from .master_world import Master

    size = getattr(request, "param", 2**26)
    with (
        zlmdb.Database(dbpath=str(tmp_path / "global"), maxsize=2**26, context=object()) as gdb,
        zlmdb.Database(dbpath=str(tmp_path / "mrealm"), maxsize=size, context=object()) as db,
    ):
        it = Master(gdb, db, monkeypatch)
        yield it
        it.plane.stop()
