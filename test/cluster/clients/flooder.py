"""A client that sends small messages as fast as its connection takes them. Run as a process: host, port, realm, s.

Says "joined" when it has a session, and "sent N" at its end, or "lost" when its connection ends before.
"""

import socket
import sys
import time

UPGRADE = (
    "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: wamp.2.json\r\n\r\n"
)
AT_ONCE = 1000


def frame(payload: bytes) -> bytes:
    length = bytes([0x80 | len(payload)]) if len(payload) < 126 else bytes([0xFE]) + len(payload).to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + payload


def main(host: str, port: str, realm: str, seconds: str) -> None:
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(UPGRADE.encode())
        connection.recv(65536)
        hello = f'[1,"{realm}",{{"roles":{{"publisher":{{}}}},"authmethods":["anonymous"]}}]'
        connection.sendall(frame(hello.encode()))
        if b"[2," not in connection.recv(65536):
            sys.exit("no WELCOME")
        print("joined", flush=True)
        sent, until = 0, time.monotonic() + float(seconds)
        try:
            while time.monotonic() < until:
                connection.sendall(
                    b"".join(frame(b'[16,%d,{},"test.many"]' % n) for n in range(sent + 1, sent + 1 + AT_ONCE))
                )
                sent += AT_ONCE
        except OSError:
            print("lost", flush=True)
        print(f"sent {sent}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
