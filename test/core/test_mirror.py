"""What a router shows to another one is what its clients have, whatever order answers come in."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from crossbar_cluster.core.mirror import Key, Kind, Mirror, Offer, Picture, Withdraw

TOPIC = Key(Kind.SUBSCRIPTION, "a.topic", "exact")
PROCEDURE = Key(Kind.REGISTRATION, "a.procedure", "exact")


@dataclass
class OtherRouter:
    """Answers requests one by one, when it is told to."""

    requests: list[tuple[int, Offer | Withdraw]] = field(default_factory=list)
    holds: dict[int, tuple[Key, str]] = field(default_factory=dict)
    taken: set[Key] = field(default_factory=set)  #: names that its own clients have
    numbers: int = 0

    def send(self, request: Offer | Withdraw) -> int:
        self.numbers += 1
        self.requests.append((self.numbers, request))
        return self.numbers

    def answer(self, mirror: Mirror) -> None:
        number, request = self.requests.pop(0)
        match request:
            case Withdraw(_, held_id):
                del self.holds[held_id]
                mirror.ended(number)
            case Offer(key) if key in self.taken:
                mirror.ended(number)
            case Offer(key, invoke):
                assert key not in {held for held, _ in self.holds.values()}, "offered twice"
                self.numbers += 1
                self.holds[self.numbers] = (key, invoke)
                mirror.accepted(number, self.numbers)

    def answer_all(self, mirror: Mirror) -> None:
        while self.requests:
            self.answer(mirror)

    @property
    def held(self) -> dict[Key, str]:
        return dict(self.holds.values())


def test_what_is_wanted_is_held_until_it_is_not() -> None:
    other = OtherRouter()
    mirror = Mirror(other.send)
    mirror.want(TOPIC, "")
    mirror.want(TOPIC, "")
    mirror.want(PROCEDURE, "single")
    assert [request for _, request in other.requests] == [Offer(TOPIC, ""), Offer(PROCEDURE, "single")]
    assert not mirror.is_settled
    other.answer_all(mirror)
    assert mirror.is_settled and other.held == {TOPIC: "", PROCEDURE: "single"}
    for held_id, (key, _) in other.holds.items():
        assert mirror.key_of(key.kind, held_id) == key
    mirror.want(TOPIC, None)
    other.answer_all(mirror)
    assert other.held == {PROCEDURE: "single"}


def test_what_changes_before_the_answer_is_seen_to_after_it() -> None:
    other = OtherRouter()
    mirror = Mirror(other.send)
    mirror.want(PROCEDURE, "single")
    mirror.want(PROCEDURE, None)
    mirror.want(PROCEDURE, "roundrobin")
    assert len(other.requests) == 1
    other.answer(mirror)
    assert isinstance(other.requests[0][1], Withdraw)
    assert mirror.key_of(Kind.REGISTRATION, next(iter(other.holds))) == PROCEDURE, "calls may come until it is answered"
    other.answer_all(mirror)
    assert other.held == {PROCEDURE: "roundrobin"}


def test_a_name_that_is_taken_is_asked_for_again() -> None:
    other = OtherRouter(taken={PROCEDURE})
    mirror = Mirror(other.send)
    mirror.want(PROCEDURE, "single")
    other.answer_all(mirror)
    assert mirror.is_settled and mirror.refused == [PROCEDURE]
    mirror.retry()
    other.answer_all(mirror)
    assert mirror.refused == [PROCEDURE]
    other.taken.clear()
    assert not other.requests, "nobody asks without being told to"
    mirror.retry()
    other.answer_all(mirror)
    assert other.held == {PROCEDURE: "single"} and not mirror.refused


def test_a_name_that_is_refused_and_not_wanted_any_more_is_forgotten() -> None:
    other = OtherRouter(taken={PROCEDURE})
    mirror = Mirror(other.send)
    mirror.want(PROCEDURE, "single")
    other.answer_all(mirror)
    mirror.want(PROCEDURE, None)
    mirror.retry()
    assert not other.requests and not mirror.refused
    mirror.want(PROCEDURE, "first")  # another policy may be welcome
    assert [request for _, request in other.requests] == [Offer(PROCEDURE, "first")]


def test_what_somebody_there_has_taken_over_is_not_asked_for_again() -> None:
    other = OtherRouter()
    mirror = Mirror(other.send)
    mirror.want(PROCEDURE, "single")
    other.answer_all(mirror)
    held_id = next(iter(other.holds))
    assert mirror.expelled(Kind.REGISTRATION, held_id) == PROCEDURE
    other.holds.clear()
    mirror.retry()
    assert not other.requests and mirror.key_of(Kind.REGISTRATION, held_id) is None
    assert mirror.expelled(Kind.REGISTRATION, held_id) is None
    mirror.want(PROCEDURE, "single")  # a client of this router has registered it anew
    other.answer_all(mirror)
    assert other.held == {PROCEDURE: "single"}


def test_answers_to_nothing_are_passed_over() -> None:
    mirror = Mirror(OtherRouter().send)
    mirror.accepted(7, 8)
    mirror.ended(7)
    assert mirror.is_settled and mirror.expelled(Kind.SUBSCRIPTION, 8) is None


keys = st.sampled_from([TOPIC, PROCEDURE, Key(Kind.REGISTRATION, "a.procedure", "prefix")])
events = st.one_of(
    st.tuples(st.just("want"), keys, st.sampled_from([None, "", "single", "roundrobin"])),
    st.tuples(st.just("answer")),
    st.tuples(st.just("retry")),
    st.tuples(st.just("take"), keys),
    st.tuples(st.just("leave"), keys),
)


def test_a_few_requests_are_under_way_at_a_time_and_registrations_are_first() -> None:
    other = OtherRouter()
    mirror = Mirror(other.send, window=3)
    topics = [Key(Kind.SUBSCRIPTION, f"a.topic{number}", "exact") for number in range(10)]
    for topic in topics:
        mirror.want(topic, "")
    mirror.want(PROCEDURE, "single")
    mirror.want(topics[9], None)
    assert [request.key for _, request in other.requests] == topics[:3]
    other.answer(mirror)
    assert [request.key for _, request in other.requests] == [*topics[1:3], PROCEDURE]
    while other.requests:
        assert not mirror.is_settled
        other.answer(mirror)
        assert len(other.requests) <= 3
    assert mirror.is_settled and set(other.held) == {PROCEDURE, *topics[:9]}


def test_what_was_refused_is_asked_for_anew_in_turn() -> None:
    taken = [Key(Kind.REGISTRATION, f"a.procedure{number}", "exact") for number in range(5)]
    other = OtherRouter(taken=set(taken))
    mirror = Mirror(other.send)
    for key in taken:
        mirror.want(key, "single")
    other.answer_all(mirror)
    assert mirror.retry(at_most=3) == taken[:3]
    other.answer_all(mirror)
    assert mirror.retry(at_most=3) == [*taken[3:], taken[0]]


def test_pictures_agree_whatever_the_order_and_differ_by_one_name() -> None:
    mine, theirs = Picture(), Picture()
    for key in (TOPIC, PROCEDURE):
        mine.add(key)
    for key in (PROCEDURE, TOPIC):
        theirs.add(key)
    assert mine.to_wire() == theirs.to_wire()
    theirs.add(TOPIC, -1)
    theirs.add(Key(Kind.SUBSCRIPTION, TOPIC.uri, "prefix"))
    assert mine.count == theirs.count and mine.to_wire() != theirs.to_wire()


@given(st.lists(events, max_size=40), st.sampled_from([1, 2, 100]))
def test_in_the_end_is_held_what_is_wanted(happening: list[tuple[object, ...]], window: int) -> None:
    other = OtherRouter()
    mirror = Mirror(other.send, window)
    wanted: dict[Key, str] = {}
    for event in happening:
        match event:
            case ("want", Key() as key, None):
                wanted.pop(key, None)
                mirror.want(key, None)
            case ("want", Key() as key, str(invoke)):
                wanted[key] = invoke
                mirror.want(key, invoke)
            case ("answer",) if other.requests:
                other.answer(mirror)
            case ("retry",):
                mirror.retry()
            case ("take", Key() as key):
                other.taken.add(key)
            case ("leave", Key() as key):
                other.taken.discard(key)
        underway = [request.key for _, request in other.requests]
        assert len(underway) == len(set(underway)), "one request for each key at most"
    other.taken.clear()
    other.answer_all(mirror)
    mirror.retry()
    other.answer_all(mirror)
    assert other.held == wanted and mirror.is_settled
    picture = Picture()
    for key in wanted:
        picture.add(key)
    assert mirror.picture == picture
