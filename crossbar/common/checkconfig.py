"""A web service can say how much one of its clients may have and do."""

from crossbar_cluster.overlay import Record

LIMITS = Record(
    target="crossbar.common.checkconfig:check_web_path_service_websocket",
    kind="wrap",
    members=("check_web_path_service_websocket",),
    why="What one client may have and do has limits, which operators set for a web service; the release refuses keys "
    "that it does not know.",
    retire="When a released web service has limits for its clients.",
    reason="A module function, which tables of checks refer to.",
    relies_on=("crossbar.master.cluster.webcluster:WebClusterManager._WEB_SERVICE_CHECKERS",),
)


@LIMITS
def check_web_path_service_websocket(wrapped, instance, args, kwargs):
    from crossbar.common.checkconfig import InvalidConfigException
    from crossbar_cluster.core.limits import ClientLimits, InvalidLimit

    personality, config = args
    try:
        ClientLimits.from_config(config.get("limits"))
    except InvalidLimit as e:
        raise InvalidConfigException(str(e)) from None
    return wrapped(personality, {key: value for key, value in config.items() if key != "limits"}, **kwargs)
