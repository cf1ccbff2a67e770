"""Whoever keeps subscriptions or registrations can be told when one of them changes."""

from crossbar_cluster.overlay import Record

OBSERVATIONS = Record(
    target="crossbar.router.observation:UriObservationMap",
    kind="subclass",
    members=("add_observer", "drop_observer"),
    why="The release tells of new and ended registrations by meta events, and of those only: of a procedure that "
    "several clients share, another router hears when the first of all comes and the last of all goes, whichever "
    "router they are on. What it forwards gets out of step, and what has no meta event (patterns) is left out.",
    retire="When the released links follow who of a router's own clients has what.",
    relies_on=("crossbar.router.observation:UriObservationMap.get_observation",),
)


@OBSERVATIONS
class WatchedObservations:
    """Tells ``watcher``, a function that is given the observation."""

    watcher = None

    def add_observer(self, observer, uri, match="exact", extra=None, observer_extra=None):
        added = super().add_observer(observer, uri, match, extra, observer_extra)
        if self.watcher is not None and not added[1]:
            self.watcher(added[0])
        return added

    def drop_observer(self, observer, observation):
        dropped = super().drop_observer(observer, observation)
        if self.watcher is not None and dropped[0]:
            self.watcher(observation)
        return dropped
