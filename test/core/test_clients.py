"""What is kept, and told, of clients that are to stay joined."""

from crossbar_cluster.core.clients import QUIET_S, STILL_AWAY_S, Tally, Where

PROXY1, PROXY2 = "ws://proxy1:8080/ws", "ws://proxy2:8080/ws"
ON1, ON2 = Where(PROXY1, "router1"), Where(PROXY2, "router2")


def joined(count: int = 4) -> Tally:
    tally = Tally(count, 100.0)
    for client in range(count):
        assert tally.has_joined(client, (ON1, ON2)[client % 2], 100.5) is None
    return tally


def test_one_line_is_told_when_all_have_joined() -> None:
    tally = Tally(2, 100.0)
    tally.has_joined(0, ON1, 100.1)
    assert tally.news(100.1) == []
    tally.has_joined(1, ON2, 100.25)
    assert tally.news(100.25) == ["2 clients joined at 2 proxies within 0.25 s"]
    assert tally.news(200.0) == []


def test_while_not_all_have_joined_it_is_told_now_and_then_and_why() -> None:
    tally = Tally(2, 100.0)
    tally.has_joined(0, ON1, 100.1)
    tally.was_away(PROXY2, "Connection refused")
    assert tally.news(100.0 + STILL_AWAY_S - 0.1) == []
    line = f"1 of 2 clients have joined after 5 s ({PROXY2}: Connection refused)"
    assert tally.news(100.0 + STILL_AWAY_S) == [line]
    assert tally.news(100.0 + STILL_AWAY_S + 1) == []


def test_time_to_return_is_from_each_loss_to_the_next_join() -> None:
    tally = joined()
    assert tally.is_lost(0, "why", 200.0) == ON1
    assert tally.is_lost(2, "why", 201.0) == ON1
    assert tally.has_joined(2, ON2, 201.25) == 0.25
    assert tally.has_joined(0, ON2, 201.5) == 1.5
    assert (tally.losses, tally.joins, tally.slowest_s, tally.joined) == (2, 6, 1.5, 4)


def test_a_client_that_is_not_joined_cannot_be_lost() -> None:
    tally = joined()
    tally.is_lost(0, "why", 200.0)
    assert tally.is_lost(0, "again", 201.0) is None
    assert tally.losses == 1
    assert tally.has_joined(0, ON2, 202.0) == 2.0


def test_losses_are_told_together_once_all_are_back_and_it_is_quiet() -> None:
    tally = joined()
    tally.news(100.5)
    for client in (0, 2):
        tally.is_lost(client, "closed with 1012", 200.0)
    tally.has_joined(0, ON2, 200.03)
    assert tally.news(201.0) == []  # the other one is not back
    tally.has_joined(2, ON2, 201.0)
    assert tally.news(201.0 + QUIET_S / 2) == []
    assert tally.news(201.0 + QUIET_S) == [
        f"2 clients lost at {PROXY1} (router1): closed with 1012",
        "  all back after 0.03 to 1.00 s",
    ]
    assert tally.news(300.0) == []


def test_who_stays_away_is_told_of_again_and_again() -> None:
    tally = joined()
    tally.news(100.5)
    tally.is_lost(1, "dropped", 200.0)
    tally.was_away(PROXY1, "Connection refused")
    assert tally.news(200.0 + STILL_AWAY_S - 0.1) == []
    told = [f"1 client lost at {PROXY2} (router2): dropped", f"  1 not back after 5 s ({PROXY1}: Connection refused)"]
    assert tally.news(200.0 + STILL_AWAY_S) == told
    assert tally.news(200.1 + STILL_AWAY_S) == []
    assert tally.news(200.0 + 2 * STILL_AWAY_S)[-1].startswith("  1 not back after 10 s")


def test_failed_joins_are_told_at_once_and_then_together() -> None:
    tally = Tally(2, 100.0)
    tally.has_failed(PROXY1, "no_such_realm")
    assert tally.news(100.1) == [f"refused by {PROXY1}: no_such_realm"]
    tally.has_failed(PROXY1, "no_such_realm")
    tally.has_failed(PROXY1, "no_such_realm")
    assert tally.news(100.2) == []
    assert f"refused by {PROXY1}: no_such_realm (2 times)" in tally.news(100.1 + STILL_AWAY_S)


def test_all_is_good_while_proxies_were_away_and_all_are_joined() -> None:
    tally = joined()
    tally.was_away(PROXY1, "Connection refused")
    tally.is_lost(0, "why", 200.0)
    assert not tally.good
    tally.has_joined(0, ON2, 200.1)
    assert tally.good
    summary = tally.summary(201.0)
    assert (summary["failed_joins"], summary["away"], summary["good"]) == (0, {PROXY1: 1}, True)


def test_a_failed_join_or_an_unanswered_call_is_not_good() -> None:
    tally = joined()
    tally.has_failed(PROXY1, "no_such_realm")
    assert not tally.good
    assert tally.summary(101.0)["failures"] == [{"proxy": PROXY1, "reason": "no_such_realm", "count": 1}]
    tally = joined()
    tally.unanswered += 1
    assert not tally.good


def test_the_summary_is_one_line_for_people() -> None:
    tally = joined()
    tally.answered = 7
    tally.is_lost(0, "why", 200.0)
    tally.has_joined(0, ON2, 200.42)
    assert tally.summary_line(220.0) == (
        "4 of 4 clients are joined after 120 s; 1 loss, back after 0.42 s at most; no failed joins; 7 calls answered"
    )
    tally.is_lost(0, "why", 230.0)
    tally.gives_up(0, "ended")
    tally.has_failed(PROXY1, "no")
    tally.unanswered = 2
    assert tally.summary_line(240.0) == (
        "3 of 4 clients are joined after 140 s; 2 losses, back after 0.42 s at most; 1 failed join; "
        "1 given up (ended); 7 calls answered, 2 not"
    )
