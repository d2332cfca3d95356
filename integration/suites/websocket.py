"""As much of RFC 6455 as the streaming server of a CRI implementation needs: binary messages, the first byte of
which is the channel (0 stdin, 1 stdout, 2 stderr, 3 the result, 4 the terminal's size)."""
import base64
import os
import socket
import struct


class WebSocket:
    def __init__(self, host, port, path, protocol, timeout=30):
        self.socket = socket.create_connection((host, port), timeout)
        self.file = self.socket.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                             f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
                             f"Sec-WebSocket-Protocol: {protocol}\r\nOrigin: http://{host}\r\n\r\n").encode())
        status = self.file.readline().decode().strip()
        while self.file.readline().strip():
            pass
        if " 101 " not in status:
            raise AssertionError(f"no WebSocket: {status}: {self.file.read(300)!r}")

    def send(self, channel, data=b""):
        payload, mask = bytes([channel]) + data, os.urandom(4)
        size = struct.pack("!BB", 0x82, 0x80 | len(payload)) if len(payload) < 126 else \
            struct.pack("!BBH", 0x82, 0x80 | 126, len(payload))
        self.socket.sendall(size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload)))

    def receive(self):
        """(channel, data), or None at the end."""
        while True:
            head = self.file.read(2)
            if len(head) < 2 or head[0] & 15 == 8:
                return None
            size = head[1] & 127
            if size >= 126:
                size = struct.unpack("!H", self.file.read(2))[0] if size == 126 else struct.unpack("!Q", self.file.read(8))[0]
            payload = self.file.read(size)
            if head[0] & 15 <= 2 and payload:
                return payload[0], payload[1:]

    def collect(self, until=None):
        """{channel: data} to the end, or until stdout holds these bytes."""
        found = {1: b"", 2: b"", 3: b""}
        while until is None or until not in found[1]:
            message = self.receive()
            if message is None:
                if until is not None:
                    raise AssertionError(f"the end before {until!r}: {found}")
                break
            found[message[0]] = found.get(message[0], b"") + message[1]
        return found

    def close(self):
        self.file.close()
        self.socket.close()
