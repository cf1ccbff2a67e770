"""A client of Autobahn's Component as its users write it. Arguments: URL and realm."""

import os
import sys

from autobahn.twisted.component import Component, run
from autobahn.twisted.util import sleep
from twisted.internet.defer import inlineCallbacks


def say(text):
    os.write(1, f"{text}\n".encode())  # what is printed goes to Autobahn's log


url, realm = sys.argv[1:]
component = Component(
    transports=[{"url": url, "max_retries": -1, "initial_retry_delay": 0.1, "retry_delay_growth": 1.1}], realm=realm
)


@component.on_join
@inlineCallbacks
def joined(session, details):
    procedure = f"component.{details.session}"
    yield session.register(lambda: "answer", procedure)
    while session.is_attached():
        try:
            yield session.call(procedure)
        except Exception as error:
            say(f"failed {error}")
            return
        say("answered")
        yield sleep(0.05)


@component.on_leave
def left(session, details):
    say(f"closed {details.reason}")


run(component, log_level="error")
