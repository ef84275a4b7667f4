"""An HTTP server that answers every request at once: what is measured in front of it is the client."""

import socket

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


def main() -> None:
    """Print the port, then serve one connection after the other until killed; a request is one read."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            connection, _ = listening.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while connection.recv(65536):
                    connection.sendall(_ANSWER)


if __name__ == "__main__":
    main()
