"""Shows events while they happen: as lines anywhere, and on a terminal with a live display below them."""

from __future__ import annotations

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from crossbar_cluster.demo.events import (
    Back,
    Event,
    Killed,
    Milestone,
    Missed,
    Reached,
    Ready,
    RoundBegan,
    RoundEnded,
    RoundResult,
    SettingUp,
)

LABELS = {
    Milestone.AUTHENTICATED: "authenticated",
    Milestone.RECORD_REFRESHED: "record refreshed",
    Milestone.WORKER_LISTENING: "router worker listens",
    Milestone.PROXY_REPOINTED: "proxy re-pointed",
    Milestone.CLIENT_SERVED: "client served",
}


class LineView:
    """Every event is a line. What happens to a router is shown with the seconds since it is back."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __call__(self, event: Event) -> None:
        match event:
            case SettingUp(step, at_s):
                self._line(at_s, step)
            case Ready():
                self._ready(event)
            case RoundBegan(number, of, old, new):
                self._print()
                self._print(Text(f"Round {number} of {of}: router1 moves, {old} -> {new}", "bold"))
            case Killed(address):
                self._line(None, f"killed, at {address}", "red")
            case Back(address):
                self._line(0.0, f"back, at {address}")
            case Reached(milestone, seconds):
                self._line(seconds, LABELS[milestone], "green")
            case Missed(milestone, watched_s, remark):
                said = f" ({remark})" if remark else ""
                self._line(None, f"{LABELS[milestone]}: never (watched {watched_s:.0f} s){said}", "red")
            case RoundEnded(result):
                self._print(outcome(result))

    def tick(self) -> None:
        """Show that time passes."""

    def close(self) -> None:
        """Give the terminal back."""

    def _ready(self, ready: Ready) -> None:
        self._line(
            ready.took_s, f"ready: a client calls through {ready.url}, realm {ready.realm}, without pause", "green"
        )
        places = ", ".join(f"{name} {address}" for name, address in ready.addresses.items())
        self._print(Text(f"           {places}", "dim"))

    def _line(self, seconds: float | None, what: str, style: str = "") -> None:
        when = " " * 9 if seconds is None else f"{seconds:7.2f} s"
        self._print(Text.assemble((when, "cyan"), "  ", (what, style)))

    def _print(self, what: RenderableType = "") -> None:
        self._console.print(what, soft_wrap=True)


class LiveView(LineView):
    """Lines, and below them what is being waited for, ticking."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._spinner = Spinner("dots", style="cyan")
        self._began = time.monotonic()  #: what is under way
        self._doing = "starting"
        self._ready_event: Ready | None = None
        self._waiting: list[Milestone] = []
        self._live = Live(console=console, auto_refresh=False, transient=True)  # started by the first event

    def __call__(self, event: Event) -> None:
        self._live.start()
        super().__call__(event)
        match event:
            case SettingUp(step):
                self._now(step)
            case Ready():
                self._ready_event = event
                self._now("everything runs")
            case Killed():
                self._now("the router is gone")
            case Back(address):
                self._now(f"the router is back at {address}")
                self._waiting = list(Milestone)
            case Reached(milestone) | Missed(milestone):
                self._waiting.remove(milestone)
            case RoundEnded():
                self._now("the client goes on calling")
        self.tick()

    def tick(self) -> None:
        if self._live.is_started:
            self._live.update(self._render(), refresh=True)

    def close(self) -> None:
        self._live.stop()

    def _now(self, doing: str) -> None:
        self._doing, self._began = doing, time.monotonic()

    def _render(self) -> RenderableType:
        self._spinner.update(text=Text(f"{self._doing}, {time.monotonic() - self._began:.1f} s"))
        waiting = Table.grid(padding=(0, 2))
        for milestone in self._waiting:
            waiting.add_row("         ", Text(f"... {LABELS[milestone]}", "dim"))
        return Group(waiting, self._spinner, self._service())

    def _service(self) -> Text:
        if self._ready_event is None:
            return Text()
        client = self._ready_event.client
        silent_s = time.monotonic() - client.served_at[-1] if client.served_at else 0.0
        state = ("served", "bold green") if silent_s < 0.2 else (f"without service for {silent_s:.1f} s", "bold red")
        return Text.assemble("  client: ", state, f", {len(client.served_at)} calls answered")


def make_view(console: Console) -> LineView:
    """The view that suits where ``console`` writes to."""
    return LiveView(console) if console.is_terminal and not console.is_dumb_terminal else LineView(console)


def outcome(result: RoundResult) -> Text:
    """A round in one line."""
    if result.outage_s is None:
        return Text(
            f"           not recovered: the client was not served for {result.watched_s:g} s and more", "bold red"
        )
    return Text.assemble(
        ("           recovered", "bold green"),
        f": the client was without service for {result.outage_s:.2f} s; {result.calls_answered} calls answered",
    )
