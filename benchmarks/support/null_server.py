"""An HTTP server that responds to every request at once, to measure the client alone."""

import socket

_RESPONSE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


def main() -> None:
    """Print the port, then serve connections one after another until killed; one read is one request."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            connection, _ = listening.accept()
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while connection.recv(65536):
                    connection.sendall(_RESPONSE)


if __name__ == "__main__":
    main()
