"""Whoever keeps subscriptions or registrations can be told when one of them changes, and finds nobody who has left."""

from crossbar_cluster.overlay import Record

MAP = "crossbar.router.observation:UriObservationMap"

OBSERVATIONS = Record(
    target=MAP,
    kind="subclass",
    members=("add_observer", "drop_observer"),
    why="The release tells of new and ended registrations by meta events, and of those only: of a procedure that "
    "several clients share, another router hears when the first of all comes and the last of all goes, whichever "
    "router they are on. What it forwards gets out of step, and what has no meta event (patterns) is left out. And "
    "who has a registration taken from it (force_reregister) keeps it in the list of what it has.",
    retire="When the released links follow who of a router's own clients has what.",
    relies_on=(f"{MAP}.get_observation",),
)

LEAVING = Record(
    target=MAP,
    kind="subclass",
    members=("get_observation", "get_observation_by_id", "best_matching_observation", "delete_observation"),
    why="When a client leaves, the release takes off all that it has subscribed and registered in one go, in which "
    "nobody else is served. When that is done in slices, what is left for the next one must not be found.",
    retire="When a released router takes off what a client has in slices.",
    relies_on=("crossbar.router.broker:Broker.detach", "crossbar.router.dealer:Dealer.detach"),
)

ORDERED = Record(
    target="crossbar.router.observation:OrderedSet",
    kind="subclass",
    members=("__iter__",),
    why="Who takes a shared procedure over (force_reregister) is not answered, and takes it from every other callee "
    "only: they are taken from a list while it is walked through.",
    retire="When the released dealer evicts all callees of a procedure that is taken over.",
    relies_on=("crossbar.router.dealer:Dealer.processRegister",),
)


@OBSERVATIONS
class WatchedObservations:
    """Tells ``watcher``, a function that is given the observation.

    ``owners`` is what each session has; ``members`` is how many there are, counting each observer of each observation.
    """

    watcher = owners = None
    members = 0

    def add_observer(self, observer, uri, match="exact", extra=None, observer_extra=None):
        added = super().add_observer(observer, uri, match, extra, observer_extra)
        if not added[1]:
            self.members += 1
            if self.watcher is not None:
                self.watcher(added[0])
        return added

    def drop_observer(self, observer, observation):
        dropped = super().drop_observer(observer, observation)
        if dropped[0]:
            self.members -= 1
            if self.owners is not None and (owned := self.owners.get(observer)) is not None:
                owned.discard(observation)
            if self.watcher is not None:
                self.watcher(observation)
        return dropped


@LEAVING
class WithoutLeaving:
    """``leaving`` are the sessions that are being taken off; ``purge`` takes what is found from them, at once.

    ``ended`` is told the id of an observation that is deleted. See `crossbar_cluster.router.leaving`.
    """

    leaving = ()
    purge = ended = None

    def get_observation(self, uri, match="exact"):
        found = super().get_observation(uri, match)
        if found is not None and self.leaving:
            self.purge(found)
            found = super().get_observation(uri, match)
        return found

    def get_observation_by_id(self, id):
        found = super().get_observation_by_id(id)
        if found is not None and self.leaving:
            self.purge(found)
            found = super().get_observation_by_id(id)
        return found

    def best_matching_observation(self, uri):
        found = super().best_matching_observation(uri)
        if self.leaving:
            purged = None
            while found is not None and found is not purged:
                self.purge(found)
                found, purged = super().best_matching_observation(uri), found
        return found

    def delete_observation(self, observation):
        super().delete_observation(observation)
        if self.ended is not None:
            self.ended(observation.id)


@ORDERED
class SteadyOrder:
    """Is walked through as it was, whatever becomes of it meanwhile."""

    def __iter__(self):
        return iter(list(super().__iter__()))
