"""A client of Autobahn's ApplicationRunner as its users write it. Arguments: URL and realm."""

import os
import sys

from autobahn.twisted.util import sleep
from autobahn.twisted.wamp import ApplicationRunner, ApplicationSession
from twisted.internet.defer import inlineCallbacks


def say(text):
    os.write(1, f"{text}\n".encode())  # what is printed goes to Autobahn's log


class Session(ApplicationSession):
    @inlineCallbacks
    def onJoin(self, details):
        procedure = f"runner.{details.session}"
        yield self.register(lambda: "answer", procedure)
        while self.is_attached():
            try:
                yield self.call(procedure)
            except Exception as error:
                say(f"failed {error}")
                return
            say("answered")
            yield sleep(0.05)

    def onLeave(self, details):
        say(f"closed {details.reason}")
        self.disconnect()


url, realm = sys.argv[1:]
runner = ApplicationRunner(url, realm, max_retries=-1, initial_retry_delay=0.1, max_retry_delay=1)
runner.run(Session, auto_reconnect=True, log_level="error")
