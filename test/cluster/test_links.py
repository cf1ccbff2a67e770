"""Several routers serve one realm: whoever is on one of them reaches everybody on the others, once.

With CROSSBAR_CLUSTER=off no client of such a realm is ever served.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import pytest
import pytest_asyncio
from autobahn.wamp import message
from autobahn.wamp.exception import ApplicationError
from autobahn.wamp.interfaces import IPayloadCodec
from autobahn.wamp.types import CallOptions, EncodedPayload, PublishOptions, RegisterOptions, SubscribeOptions

from crossbar_cluster.lab.client import Client
from crossbar_cluster.lab.cluster import PROXY_PORT, Cluster, Node, Realm, loopback_cluster
from crossbar_cluster.lab.raw_client import RawClient, Rejected, anonymous

ACKNOWLEDGED = PublishOptions(acknowledge=True)
WITHIN_S = 20.0
#: What clients may do under "open." is told to those that they do it to.
DISCLOSED = "open."


@dataclass
class Group:
    """A realm on several routers."""

    cluster: Cluster
    proxies: tuple[Node, Node]
    realm: Realm
    joined: list[Client] = field(default_factory=list)

    async def clients(self, count: int) -> list[Client]:
        """A client on each of ``count`` routers; all of them can call each other."""
        on: dict[str, Client] = {}
        async with asyncio.timeout(60):
            while len(on) < count:
                client = await self.cluster.client(self.realm.name, self.proxies[0], timeout_s=15)
                if on.setdefault(router_of(client), client) is not client:
                    await client.close()
        clients = self.joined = [*on.values()]
        for client in clients:
            await client.register(lambda: True, f"lab.linked.{client.session_id}")
        for caller, callee in permutations(clients, 2):
            await eventually(lambda a=caller, b=callee: a.call(f"lab.linked.{b.session_id}"))
        return clients

    async def close(self) -> None:
        joined, self.joined = self.joined, []
        await asyncio.gather(*(client.close() for client in joined))


def router_of(client: Client) -> str:
    extra = client.joined.result().authextra
    return f"{extra['x_cb_node']} {extra['x_cb_worker']}"


@pytest_asyncio.fixture(scope="module")
async def groups(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[int, Group]]:
    async with loopback_cluster(tmp_path_factory.mktemp("links")) as (cluster, network):
        routers = [cluster.add_node(f"router{n}", network.host()) for n in (1, 2, 3)]
        proxies = (cluster.add_node("proxy1", network.host()), cluster.add_node("proxy2", network.host()))
        await cluster.boot()
        await cluster.start_webcluster(*proxies)
        found = {}
        for scale in (2, 3, 5):
            realm = await cluster.start_realm(f"realm{scale}", *routers[:scale], scale=scale)
            found[scale] = Group(cluster, proxies, realm)
        for group in found.values():
            for proxy in proxies:
                await cluster.served(group.realm.name, proxy)
        role = await cluster.manage("arealm.get_role_by_name", "anonymous")
        allow = {f"allow_{verb}": True for verb in ("call", "register", "publish", "subscribe")}
        disclose = {"disclose_caller": True, "disclose_publisher": True}
        await cluster.manage(
            "arealm.add_role_permission", role["oid"], DISCLOSED, {"match": "prefix", **allow, **disclose}
        )
        yield found
        for node in (*routers, *proxies):  # NumPy has one as well, which is of no matter
            wrong = [
                line.text for line in node.running.lines if "Traceback" in line.text or "INTERNAL ERROR" in line.text
            ]
            assert len(wrong) <= sum("_ARRAY_API" in line.text for line in node.running.lines), (node.name, wrong)


@pytest_asyncio.fixture
async def three(groups: dict[int, Group]) -> AsyncIterator[list[Client]]:
    """A client on each of three routers."""
    yield await groups[3].clients(3)
    await groups[3].close()


async def eventually(attempt: Callable[[], Awaitable[Any]], expected: Any = True, within_s: float = WITHIN_S) -> None:
    """Wait until an attempt gives what is expected: what one router knows reaches the others soon, not at once."""
    last: Any = None
    try:
        async with asyncio.timeout(within_s):
            while True:
                try:
                    last = await attempt()
                except ApplicationError as e:
                    last = e
                if last == expected:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {within_s:g} s: {last!r} instead of {expected!r}") from None


async def holds(condition: Callable[[], bool]) -> None:
    async def attempt() -> bool:
        return condition()

    await eventually(attempt)


async def known(clients: list[Client], uri: str, match: str = "exact", kind: str = "registration") -> None:
    """Wait until a registration, or subscription, is known on the routers of all these clients."""

    async def looked_up(client: Client) -> bool:
        return await client.call(f"wamp.{kind}.lookup", uri, {"match": match}) is not None

    for client in clients:
        await eventually(lambda client=client: looked_up(client))


async def unknown(clients: list[Client], uri: str) -> None:
    for client in clients:
        await eventually(lambda client=client: client.call("wamp.registration.lookup", uri), None)


async def collect(client: Client, uri: str, others: list[Client], match: str = "exact") -> list[Any]:
    """Subscribe, and wait until the others' routers know. :returns: will hold (arguments, details) of each event."""
    events: list[Any] = []
    options = SubscribeOptions(match=match, details_arg="details")
    await client.subscribe(lambda *args, details: events.append((args, details)), uri, options=options)
    await known(others, uri, match, "subscription")
    return events


@pytest.mark.parametrize("count", [2, 3, 5])
async def test_every_event_arrives_once_and_every_call_is_answered_once(groups: dict[int, Group], count: int) -> None:
    group, each = groups[count], 40
    clients = await group.clients(count)
    patterns = {"exact": "lab.news.today", "prefix": "lab.news", "wildcard": "lab..today"}
    received = {
        (client, match): await collect(client, uri, clients, match)
        for client in clients
        for match, uri in patterns.items()
    }
    for publisher in clients:
        for number in range(each):
            publisher.publish("lab.news.today", publisher.session_id, number)
    await holds(lambda: all(len(events) >= each * (count - 1) for events in received.values()))
    for (client, match), events in received.items():
        for other in clients:  # each in the order in which they were published
            numbers = [number for (publisher, number), _ in events if publisher == other.session_id]
            assert numbers == ([] if other is client else [*range(each)]), (match, router_of(client), router_of(other))

    called: Counter[tuple[int, int]] = Counter()
    for callee in clients:

        def answer(caller: int, number: int, callee: int = callee.session_id) -> list[int]:
            called[caller, callee] += 1
            return [caller, number, callee]

        await callee.register(answer, f"lab.answer.{callee.session_id}")
    for callee in clients:
        await known(clients, f"lab.answer.{callee.session_id}")
    answers = await asyncio.gather(
        *(
            caller.call(f"lab.answer.{callee.session_id}", caller.session_id, number)
            for caller, callee in permutations(clients, 2)
            for number in range(each)
        )
    )
    assert Counter(map(tuple, answers)) == Counter(
        (caller.session_id, number, callee.session_id)
        for caller, callee in permutations(clients, 2)
        for number in range(each)
    )
    assert set(called.values()) == {each}
    await group.close()


async def test_clients_are_spread_evenly_over_the_routers(groups: dict[int, Group]) -> None:
    group = groups[3]
    await group.clients(3)
    await group.close()
    for proxy in group.proxies:
        group.joined = [await group.cluster.client(group.realm.name, proxy) for _ in range(12)]
        assert set(Counter(map(router_of, group.joined)).values()) == {4}
        await group.close()


async def test_a_thousand_calls_and_ten_thousand_events_across(three: list[Client]) -> None:
    one, other, _ = three
    await other.register(lambda x: x + 1, "lab.more.increment")
    await known(three, "lab.more.increment")
    answers = []
    for begin in range(0, 1000, 100):
        answers += await asyncio.gather(*(one.call("lab.more.increment", begin + n) for n in range(100)))
    assert answers == [*range(1, 1001)]
    events = await collect(other, "lab.more.events", three)
    for begin in range(0, 10_000, 500):
        for number in range(499):
            one.publish("lab.more.events", begin + number)
        await one.publish("lab.more.events", begin + 499, options=ACKNOWLEDGED)
    await holds(lambda: len(events) >= 10_000)
    assert [number for (number,), _ in events] == [*range(10_000)]


async def test_errors_come_back_as_they_are(three: list[Client]) -> None:
    one, other, _ = three

    def fail() -> None:
        raise ApplicationError("lab.error.broken", "all of it", 17, part="engine")

    await other.register(fail, "lab.error")
    await known(three, "lab.error")
    with pytest.raises(ApplicationError) as failed:
        await one.call("lab.error")
    assert (failed.value.error, failed.value.args, failed.value.kwargs) == (
        "lab.error.broken", ("all of it", 17), {"part": "engine"},
    )  # fmt: skip


async def test_patterns_are_called_across_with_the_name_that_was_called(three: list[Client]) -> None:
    _, other, third = three
    details = RegisterOptions(match="prefix", details_arg="details")
    await other.register(lambda details: ["prefix", details.procedure], "lab.match", options=details)
    details = RegisterOptions(match="wildcard", details_arg="details")
    await third.register(lambda details: ["wildcard", details.procedure], "pat..lab", options=details)
    await known(three, "lab.match", "prefix")
    await known(three, "pat..lab", "wildcard")
    for caller in three:
        assert await caller.call("lab.match.this") == ["prefix", "lab.match.this"]
        assert await caller.call("pat.any.lab") == ["wildcard", "pat.any.lab"]


async def test_shared_procedures_are_shared_by_all_routers(three: list[Client]) -> None:
    shared = RegisterOptions(invoke="roundrobin")
    registered = [
        await client.register(lambda n=name: n, "lab.shared", options=shared)
        for client, name in zip(three, ("one", "other", "third"), strict=True)
    ]

    async def answering(caller: Client) -> set[str]:
        return {await caller.call("lab.shared") for _ in range(6)}

    for caller in three:
        await eventually(lambda caller=caller: answering(caller), {"one", "other", "third"})
    await registered[0].unregister()  # the one that was there first
    for caller in three:
        await eventually(lambda caller=caller: answering(caller), {"other", "third"})
    await registered[2].unregister()
    for caller in three:
        await eventually(lambda caller=caller: answering(caller), {"other"})
    await registered[1].unregister()
    await unknown(three, "lab.shared")


@pytest.mark.parametrize("invoke", ["first", "last", "random"])
async def test_other_policies_reach_a_callee_on_whichever_router(three: list[Client], invoke: str) -> None:
    uri, options = f"lab.policy.{invoke}", RegisterOptions(invoke=invoke)
    for number, client in enumerate(three):
        await client.register(lambda number=number: number, uri, options=options)
        await known(three, uri)
    for caller in three:
        answers = {await caller.call(uri) for _ in range(30)}
        assert answers and answers <= {0, 1, 2}
        if invoke == "first":
            assert answers == {0}


async def test_a_name_is_taken_for_the_whole_realm(three: list[Client]) -> None:
    one, other, _ = three
    await one.register(lambda: "one", "lab.taken")
    await known(three, "lab.taken")
    with pytest.raises(ApplicationError) as refused:
        await other.register(lambda: "other", "lab.taken")
    assert refused.value.error == "wamp.error.procedure_already_exists"
    with pytest.raises(ApplicationError) as refused:
        await other.register(lambda: "other", "lab.taken", options=RegisterOptions(invoke="roundrobin"))
    assert refused.value.error == "wamp.error.procedure_already_exists"
    assert [await client.call("lab.taken") for client in three] == ["one"] * 3

    await other.register(lambda: "other", "lab.taken", options=RegisterOptions(force_reregister=True))
    for client in three:
        await eventually(lambda client=client: client.call("lab.taken"), "other")


async def test_a_shared_procedure_is_taken_over_from_all_on_all_routers(three: list[Client]) -> None:
    shared, calls = RegisterOptions(invoke="roundrobin"), range(12)
    for client, name in zip(three, ("one", "other", "third"), strict=True):
        await client.register(lambda n=name: n, "lab.over", options=shared)
    for client in three:
        await known([client], "lab.over")
    heir = three[1]
    taken = RegisterOptions(invoke="roundrobin", force_reregister=True)
    async with asyncio.timeout(WITHIN_S):
        await heir.register(lambda: "heir", "lab.over", options=taken)

    async def answering(caller: Client) -> set[str]:
        return {await caller.call("lab.over") for _ in calls}

    for caller in three:
        await eventually(lambda caller=caller: answering(caller), {"heir"})


async def test_a_request_id_in_flight_is_refused_and_others_are_served_on(
    groups: dict[int, Group], three: list[Client]
) -> None:
    _, other, _ = three
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.sleep(3600)

    await other.register(hang, "lab.again")
    await other.register(lambda: "there", "lab.again.other")
    await known(three, "lab.again")
    await known(three, "lab.again.other")
    client = await RawClient.connect(groups[3].proxies[0].host.address, PROXY_PORT, websocket=True)
    await client.join(anonymous(groups[3].realm.name))
    client.send(message.Call(1, "lab.again"))
    async with asyncio.timeout(WITHIN_S):
        await begun.wait()
    refused = await client.ask(message.Call(1, "lab.again"))
    assert isinstance(refused, message.Abort) and refused.reason == "wamp.error.protocol_violation"
    with pytest.raises((Rejected, EOFError)):
        while True:
            await client.ask(message.Publish(2, "lab.nothing"))
    client.close()
    for caller in three:
        assert await caller.call("lab.again.other") == "there"


async def test_progressive_results_come_across(three: list[Client]) -> None:
    one, other, _ = three

    async def count(details: Any) -> str:
        for number in range(5):
            details.progress(number)
        return "done"

    await other.register(count, "lab.progress", options=RegisterOptions(details_arg="details"))
    await known(three, "lab.progress")
    progress: list[int] = []
    assert await one.call("lab.progress", options=CallOptions(on_progress=progress.append)) == "done"
    assert progress == [0, 1, 2, 3, 4]


async def test_a_call_that_is_given_up_is_given_up_across(three: list[Client]) -> None:
    one, other, _ = three
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    await other.register(hang, "lab.hang")
    await known(three, "lab.hang")
    call = super(Client, one).call("lab.hang")  # the lab's clients do not cancel calls when they are not waited for
    async with asyncio.timeout(WITHIN_S):
        await begun.wait()
        call.cancel()
        await ended.wait()

    begun.clear()
    ended.clear()
    abandoned = one.call("lab.hang")
    async with asyncio.timeout(WITHIN_S):
        await begun.wait()
        await one.close()  # a caller that leaves gives up as well
        await ended.wait()
    abandoned.cancel()


async def test_a_callee_that_ends_fails_the_calls_that_it_has(three: list[Client]) -> None:
    one, other, _ = three
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.sleep(3600)

    await other.register(hang, "lab.ends")
    await known(three, "lab.ends")
    call = asyncio.ensure_future(one.call("lab.ends"))
    async with asyncio.timeout(WITHIN_S):
        await begun.wait()
        await other.close()
        with pytest.raises(ApplicationError) as failed:
            await call
    assert failed.value.error == "wamp.error.canceled"
    await unknown([one], "lab.ends")


class Sealed(IPayloadCodec):
    """Carries what no router can look into."""

    def encode(self, is_originating: bool, uri: str, args: Any = None, kwargs: Any = None) -> EncodedPayload:
        return EncodedPayload(repr((args, kwargs)).encode(), "x_lab", "x_repr", "x_key")

    def decode(self, is_originating: bool, uri: str, encoded_payload: EncodedPayload) -> tuple[str, list[Any], Any]:
        assert (encoded_payload.enc_algo, encoded_payload.enc_serializer) == ("x_lab", "x_repr")
        args, kwargs = eval(encoded_payload.payload)
        return uri, args, kwargs


async def test_payloads_that_no_router_reads_come_across(three: list[Client]) -> None:
    one, other, _ = three
    for client in (one, other):
        client.set_payload_codec(Sealed())
    events: list[Any] = []
    await other.subscribe(lambda *args, **kwargs: events.append((args, kwargs)), "sealed.event")
    await other.register(lambda x, y: x - y, "sealed.call")
    await known([three[2]], "sealed.call")
    await known([three[2]], "sealed.event", kind="subscription")
    one.set_payload_codec(None)
    await known([one], "sealed.call")
    one.set_payload_codec(Sealed())
    assert await one.call("sealed.call", 7, y=2) == 5
    one.publish("sealed.event", b"\x00", "é", deep={"a": [1]})
    await holds(lambda: events == [((b"\x00", "é"), {"deep": {"a": [1]}})])


async def test_who_calls_and_publishes_is_told_where_the_role_says_so_and_nowhere_else(three: list[Client]) -> None:
    one, other, _ = three
    me = one.joined.result()
    expected = (me.session, me.authid, me.authrole)
    options = RegisterOptions(details_arg="details")
    for prefix, who in ((DISCLOSED, expected), ("lab.", (None, None, None))):
        uri = f"{prefix}who"
        await other.register(
            lambda details: [details.caller, details.caller_authid, details.caller_authrole], uri, options
        )
        await known(three, uri)
        # somebody who says that he calls for another is not believed
        for forward_for in (None, [{"session": 1, "authid": "admin", "authrole": "admin"}]):
            assert tuple(await one.call(uri, options=CallOptions(forward_for=forward_for))) == who
        events = await collect(other, f"{prefix}news", three)
        here = await collect(one, f"{prefix}news", three)
        for forward_for in (None, [{"session": 1, "authid": "admin", "authrole": "admin"}]):
            one.publish(f"{prefix}news", options=PublishOptions(forward_for=forward_for, exclude_me=False))
        await holds(lambda events=events, here=here: len(events) == len(here) == 2)
        for _, details in (*events, *here):
            assert (details.publisher, details.publisher_authid, details.publisher_authrole) == who
            assert details.forward_for is None


async def test_whom_a_publication_is_for_is_heeded_across(three: list[Client]) -> None:
    one, other, third = three
    events = {client: await collect(client, "lab.for", three) for client in three}
    sessions = [client.session_id for client in three]
    authids = [client.joined.result().authid for client in three]
    options = {
        "other only": (PublishOptions(eligible=[sessions[1]]), {other}),
        "not other": (PublishOptions(exclude=[sessions[1]]), {third}),
        "authid of third only": (PublishOptions(eligible_authid=[authids[2]]), {third}),
        "not authid of third": (PublishOptions(exclude_authid=[authids[2]]), {other}),
        "no role": (PublishOptions(eligible_authrole=["nobody"]), set()),
        "not anonymous": (PublishOptions(exclude_authrole=["anonymous"]), set()),
        "me, too": (PublishOptions(exclude_me=False), {one, other, third}),
    }
    for what, (option, _) in options.items():
        one.publish("lab.for", what, options=option)
    one.publish("lab.for", "end")
    await holds(lambda: all(events[client] and events[client][-1][0] == ("end",) for client in (other, third)))
    for client in three:
        received = [args[0] for args, _ in events[client] if args[0] != "end"]
        assert received == [what for what, (_, who) in options.items() if client in who], router_of(client)


async def test_sessions_are_those_of_the_whole_realm(three: list[Client]) -> None:
    one, other, third = three
    mine = {client.session_id for client in three}

    async def listed(client: Client) -> set[int]:
        return set(await client.call("wamp.session.list"))

    for client in three:
        await eventually(lambda client=client: listed(client), mine)  # others may be on their way out; and no links
        assert await client.call("wamp.session.count") == 3
        assert await client.call("wamp.session.count", ["nobody"]) == 0
        assert set(await client.call("wamp.session.list", ["anonymous"])) == mine
        for session_id in mine:
            assert (await client.call("wamp.session.get", session_id))["session"] == session_id
        for procedure in ("get", "kill"):
            with pytest.raises(ApplicationError) as unknown_session:
                await client.call(f"wamp.session.{procedure}", 1)
            assert unknown_session.value.error == "wamp.error.no_such_session"
    await one.call("wamp.session.kill", other.session_id, "lab.kill.reason", "enough")
    async with asyncio.timeout(WITHIN_S):
        await other.gone
    await eventually(lambda: one.call("wamp.session.count"), 2)
    third_id = third.session_id
    assert await one.call("wamp.session.kill_by_authid", third.joined.result().authid) == [third_id]
    async with asyncio.timeout(WITHIN_S):
        await third.gone


async def test_who_comes_and_goes_is_told_to_the_whole_realm(groups: dict[int, Group], three: list[Client]) -> None:
    group = groups[3]
    told = {topic: {client: [] for client in three} for topic in ("on_join", "on_leave")}
    for topic, of_client in told.items():
        for client, events in of_client.items():
            await client.subscribe(events.append, f"wamp.session.{topic}")
    came: set[int] = set()

    async def everybody_was_told_of_one() -> bool:
        client = await group.cluster.client(group.realm.name, group.proxies[0])
        session_id = client.session_id
        came.add(session_id)
        await client.close()
        await asyncio.sleep(0.1)
        joined = ({details["session"] for details in events} for events in told["on_join"].values())
        return all(session_id in sessions for sessions in (*joined, *map(set, told["on_leave"].values())))

    await eventually(everybody_was_told_of_one)
    for client in three:
        joined = [details["session"] for details in told["on_join"][client]]
        assert set(joined) <= came and len(joined) == len(set(joined))  # once, and of no links
        assert all(details["authrole"] == "anonymous" for details in told["on_join"][client])


async def test_who_has_something_is_looked_up_on_all_routers(three: list[Client]) -> None:
    shared = RegisterOptions(invoke="roundrobin")
    for client in three[:2]:
        await client.register(lambda: None, "lab.had", options=shared)
        await client.subscribe(lambda: None, "lab.heard")
    await known(three, "lab.had")
    await known(three, "lab.heard", kind="subscription")
    having = {client.session_id for client in three[:2]}

    async def observers(client: Client, listed: str, uri: str) -> set[int]:
        kind = listed.partition(".")[0]
        return set(await client.call(f"wamp.{listed}", await client.call(f"wamp.{kind}.lookup", uri)))

    for client in three:
        for listed, uri in (("registration.list_callees", "lab.had"), ("subscription.list_subscribers", "lab.heard")):
            await eventually(lambda c=client, args=(listed, uri): observers(c, *args), having)
        registration = await client.call("wamp.registration.match", "lab.had")
        assert await client.call("wamp.registration.count_callees", registration) == 2
        assert (await client.call("wamp.registration.get", registration))["uri"] == "lab.had"
        with pytest.raises(ApplicationError) as refused:
            await client.call("wamp.cluster.list_observers", "registration", "lab.had", "exact")
        assert refused.value.error == "wamp.error.not_authorized"


async def test_a_testament_is_read_on_all_routers(three: list[Client]) -> None:
    one, other, third = three
    events = await collect(other, "lab.testament", three)
    await one.call("wamp.session.add_testament", "lab.testament", ["all to", third.session_id], {})
    one._transport.abort() if hasattr(one._transport, "abort") else one.disconnect()
    await holds(lambda: [args for args, _ in events] == [("all to", third.session_id)])


async def test_retained_events_are_kept_by_the_router_that_they_were_published_on(three: list[Client]) -> None:
    one, other, _ = three
    await one.publish("lab.retained", 17, options=PublishOptions(acknowledge=True, retain=True))
    events: dict[Client, list[Any]] = {one: [], other: []}
    for client in events:
        options = SubscribeOptions(get_retained=True)
        await client.subscribe(events[client].append, "lab.retained", options=options)
    await holds(lambda: events[one] == [17])
    # a link shows in turn what is subscribed: the router of one knows of the other's subscription when it knows of this
    await collect(other, "lab.retained.known", [one])
    one.publish("lab.retained", "end", options=PublishOptions(exclude_me=False))
    await holds(lambda: bool(events[other]))
    assert events[other] == ["end"]


async def test_a_realm_stops_and_starts_on_routers_that_run_others(groups: dict[int, Group]) -> None:
    group = groups[2]
    cluster, workergroup = group.cluster, group.realm.workergroup
    realm = await cluster.start_realm_on("realm2b", workergroup)
    again = Group(cluster, group.proxies, realm)

    async def status() -> str:
        return str((await cluster.manage("arealm.get_arealm", realm.oid))["status"])

    for _ in range(2):
        await cluster.served(realm.name, group.proxies[0])
        await again.clients(2)
        await cluster.manage("arealm.stop_arealm", realm.oid)
        async with asyncio.timeout(WITHIN_S):
            for client in again.joined:
                await client.gone
        await eventually(status, "STOPPED")
        await cluster.manage("arealm.start_arealm", realm.oid, workergroup, cluster.webcluster)
