"""The heartbeat logs are purged by age, a few at a time, from a real database with the release's schema."""

import uuid

import numpy as np
import pytest
import txaio
import zlmdb
from cfxdb.log import MNodeLog, MWorkerLog
from cfxdb.mrealmschema import MrealmSchema

from crossbar_cluster.control.heartbeat_logs import KEEP, HeartbeatLogs

SECOND = 10**9
HOUR = 3600 * SECOND
NOW = 1_795_000_000 * SECOND
MREALM = uuid.uuid4()
NODES = [uuid.UUID(int=0), uuid.uuid4(), uuid.UUID(int=2**128 - 1)]


class Database:
    """A management realm's database, and how many write transactions it has begun."""

    def __init__(self, db) -> None:
        self.db = db
        self.schema = MrealmSchema.attach(db)
        self.writes = 0

    def begin(self, write=False):
        self.writes += write
        return self.db.begin(write=write)

    def stats(self):
        return self.db.stats()

    def add(self, *ages_s, nodes=NODES, workers=("router1", "")):
        with self.db.begin(write=True) as txn:
            for age_s in ages_s:
                at = NOW - round(age_s * SECOND)
                for node in nodes:
                    log = MNodeLog.parse(MREALM, node, {"timestamp": at})
                    log.timestamp = np.datetime64(at, "ns")
                    self.schema.mnode_logs[txn, (log.timestamp, log.node_id)] = log
                    for worker in workers:
                        log = MWorkerLog.parse(MREALM, node, worker, {"timestamp": at, "seq": 1, "type": "router"})
                        log.timestamp = np.datetime64(at, "ns")
                        self.schema.mworker_logs[txn, (log.timestamp, log.node_id, log.worker_id)] = log

    def ages_s(self, table):
        with self.db.begin() as txn:
            return [(NOW - int(key[0])) / SECOND for key in table.select(txn, return_values=False)]

    def logs(self):
        return self.ages_s(self.schema.mnode_logs), self.ages_s(self.schema.mworker_logs)


@pytest.fixture
def database(tmp_path):
    with zlmdb.Database(dbpath=str(tmp_path / "db"), maxsize=2**26, context=object()) as db:
        yield Database(db)


def purge_all(database, keep_s, at_most=500, now_ns=NOW):
    logs = HeartbeatLogs(database, database.schema, keep_s)
    counts = []
    while count := logs.purge_some(now_ns, at_most):
        counts.append(count)
    return counts


def test_what_is_older_goes_and_the_rest_stays(database):
    database.add(100, 61, 60.000000001, 60, 59.999999999, 1, 0, -5)
    purge_all(database, 60)
    kept = [60, 59.999999999, 1, 0, -5]
    for ages, each in zip(database.logs(), (3, 6), strict=True):
        assert ages == pytest.approx([age for age in kept for _ in range(each)], abs=1e-6)


def test_nothing_too_old_begins_no_write_transaction(database):
    database.add(10, 20)
    assert purge_all(database, 60) == []
    assert database.writes == 0
    assert [len(ages) for ages in database.logs()] == [6, 12]


def test_an_empty_database_is_no_error(database):
    assert purge_all(database, 0) == []
    assert database.writes == 0


def test_at_most_so_many_go_in_one_write_transaction_the_oldest_of_a_table_first(database):
    database.add(*range(100, 110))  # 30 entries of nodes, 60 of workers
    logs = HeartbeatLogs(database, database.schema, 60)
    assert logs.purge_some(NOW, 20) == 20
    assert database.writes == 1
    nodes, workers = database.logs()
    assert len(nodes) == 10 and max(nodes) < 104  # 6 whole seconds of 3 entries each, and two of the next
    assert len(workers) == 60
    assert purge_all(database, 60, 20) == [20, 20, 20, 10]
    assert database.writes == 5
    assert database.logs() == ([], [])


def test_other_tables_are_left_alone(database):
    """The tables stand in one key space, one behind the other."""
    database.add(*range(100, 110))
    with database.db.begin(write=True) as txn:
        every = txn._txn.stat()["entries"]
    assert sum(purge_all(database, 0)) == 90
    with database.db.begin() as txn:
        assert txn._txn.stat()["entries"] == every - 90


@pytest.mark.parametrize("keep_s", [NOW / SECOND, 1e12])
def test_keeping_longer_than_time_has_lasted_keeps_all(database, keep_s):
    database.add(100, NOW / SECOND - 1)
    assert purge_all(database, keep_s) == []
    assert [len(ages) for ages in database.logs()] == [6, 12]


def test_a_full_database_can_be_purged(tmp_path):
    """That is when it matters: every other write fails then."""
    with zlmdb.Database(dbpath=str(tmp_path / "db"), maxsize=2**20, context=object()) as db:
        database = Database(db)
        with pytest.raises(Exception, match="MDB_MAP_FULL"):
            for age in range(10**5, 0, -1):
                database.add(age)
        before = len(database.logs()[0])
        assert sum(purge_all(database, 3600)) > before > 100
        database.add(1)


def fill(database, until, nodes=200):
    """Entries as many nodes write them, all of them young, until so much of the database is used."""
    from crossbar_cluster.control.databases import used

    many, age_s = [uuid.UUID(int=number + 1) for number in range(nodes)], 3000.0
    while used(database) < until:
        age_s -= 10
        database.add(age_s, nodes=many, workers=("w",))


def test_entries_leave_half_of_the_database_to_others_whatever_their_age(tmp_path):
    from crossbar_cluster.control.databases import used

    with zlmdb.Database(dbpath=str(tmp_path / "db"), maxsize=2**23, context=object()) as db:
        database = Database(db)
        fill(database, 0.7)
        oldest, youngest = max(database.logs()[1]), min(database.logs()[1])
        assert sum(purge_all(database, 24 * 3600)) > 1000
        assert 0.4 < used(db) <= 0.5
        assert max(database.logs()[1]) < oldest, "the oldest have gone"
        assert min(database.logs()[1]) == youngest
        database.writes = 0
        assert purge_all(database, 24 * 3600) == [] and database.writes == 0


def test_a_database_that_young_entries_have_filled_to_its_last_page_heals(tmp_path):
    with zlmdb.Database(dbpath=str(tmp_path / "db"), maxsize=2**22, context=object()) as db:
        database = Database(db)
        with pytest.raises(zlmdb.lmdb.MapFullError):
            fill(database, 2.0)
        with pytest.raises(zlmdb.lmdb.MapFullError):
            database.add(1, nodes=[uuid.uuid4() for _ in range(200)])
        purge_all(database, 24 * 3600)
        database.add(1, nodes=[uuid.uuid4() for _ in range(200)])


def test_a_purge_that_is_too_large_for_a_full_database_takes_smaller_steps(database, monkeypatch):
    database.add(*range(100, 110))
    begin, refused = database.begin, []

    def begin_or_refuse(write=False):
        if write and len(refused) < 2:
            refused.append(1)
            raise zlmdb.lmdb.MapFullError("full")
        return begin(write)

    monkeypatch.setattr(database, "begin", begin_or_refuse)
    logs = HeartbeatLogs(database, database.schema, 60)
    assert logs.purge_some(NOW, 30) == 1, "the last of three tries"
    assert logs.purge_some(NOW, 30) == 30


def test_a_purge_of_few_entries_takes_a_smaller_step_that_is_one(database, monkeypatch):
    database.add(100, nodes=NODES[:1], workers=("w",))
    begin, refused = database.begin, []

    def begin_or_refuse(write=False):
        if write and not refused:
            refused.append(1)
            raise zlmdb.lmdb.MapFullError("full")
        return begin(write)

    monkeypatch.setattr(database, "begin", begin_or_refuse)
    logs = HeartbeatLogs(database, database.schema, 60)
    assert logs.purge_some(NOW, 30) == 1, "0 would say that nothing is left"


@pytest.mark.parametrize(
    ("value", "hours"), [(None, 24), ("", 24), (" ", 24), ("24", 24), ("0.5", 0.5), (" 1 ", 1), ("0", 0), ("1e3", 1000)]
)
def test_how_long_they_are_kept(value, hours):
    assert KEEP.seconds({} if value is None else {KEEP.variable: value}) == hours * 3600


@pytest.mark.parametrize("value", ["-1", "a day", "nan", "inf", "24h", "1,5", "{x}"])
def test_a_value_that_is_no_number_of_hours_is_named_and_the_default_counts(value, monkeypatch):
    lines = []

    class Log:
        def error(self, text, **fields):
            lines.append(text.format(**fields))

    monkeypatch.setattr(txaio, "make_logger", Log)
    assert KEEP.seconds({KEEP.variable: value}) == 24 * 3600
    assert len(lines) == 1
    assert KEEP.variable in lines[0] and repr(value) in lines[0] and "24 hours" in lines[0]
