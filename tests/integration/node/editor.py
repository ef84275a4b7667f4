"""What an editor does, as a program for a pod that has Python alone: ask, read, ask again.

Arguments: host, port, key, how many at once, the seconds each rests between two questions, and what they do: complete,
stream (complete, as a stream), chat, or only look which models there are. It ends when /tmp/stop appears and tells what
it got as JSON.
"""

import http.client
import json
import sys
import threading
import time
from pathlib import Path

host, port, key, editors = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
rest_s, doing = float(sys.argv[5]), sys.argv[6]
looking, streaming, chatting = (doing == what for what in ("look", "stream", "chat"))
path = "/v1/chat/completions" if chatting else "/v1/completions"
# No model is named: there is one, whichever it is.
asked = {"max_tokens": 8, "temperature": 0, "stream": streaming}
said = {"messages": [{"role": "user", "content": "def main("}]} if chatting else {"prompt": "def main("}
body = json.dumps(asked | said)
headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
answers, failed = [], []


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def read(text: str) -> str:
    """Return what the answer says: a model's name, or a completion, whose stream must have come to its end."""
    if streaming:
        *events, end = [line.removeprefix("data: ") for line in text.splitlines() if line]
        if end != "[DONE]" or len(events) < 2:
            raise ValueError(f"no whole stream: {text}")
        return "".join(json.loads(event)["choices"][0]["text"] for event in events)
    document = json.loads(text)
    if chatting:
        return document["choices"][0]["message"]["content"]
    return document["data"][0]["id"] if looking else document["choices"][0]["text"]


def ask(connection: http.client.HTTPConnection) -> bool:
    """Ask once over this connection; False closes it."""
    try:
        if looking:
            connection.request("GET", "/v1/models", headers=headers)
        else:
            connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise ValueError(f"{answer.status} {text}")
        answers.append(read(text))
        return True
    except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
        failed.append(f"{time.strftime('%T')} {error!r}"[:300])
        connection.close()
        return False


def edit() -> None:
    # A new connection each time is balanced anew. Who never rests keeps one for a second: a port stays in use for a
    # minute after its connection, and a fast machine would use up all of the pod's.
    kept_s = 0 if rest_s else 1
    while not Path("/tmp/stop").exists():
        connection = http.client.HTTPConnection(host, port, timeout=60)
        end = time.monotonic() + kept_s
        while ask(connection) and time.monotonic() < end:
            pass
        connection.close()
        time.sleep(rest_s)


threads = [threading.Thread(target=edit) for _ in range(editors)]
for thread in threads:
    thread.start()
while len(answers) < 5 and not Path("/tmp/stop").exists():
    time.sleep(0.1)
say("answered")
for thread in threads:
    thread.join()
say(json.dumps({"answered": len(answers), "failed": failed, "texts": sorted(set(answers))}))
