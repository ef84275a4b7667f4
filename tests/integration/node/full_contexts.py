"""Asks for a long completion in every slot at once, as a program for a pod that has Python alone.

Arguments: host, port, key, how many at once, the tokens of each prompt. Who is refused or out of time asks again. It ends
when everybody has been answered, and says so.
"""

import http.client
import json
import sys
import threading
import time

host, port, key = sys.argv[1], int(sys.argv[2]), sys.argv[3]
askers, length = int(sys.argv[4]), int(sys.argv[5])
headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}


def ask(index: int) -> bool:
    # No two have a beginning in common, so that nothing of one is of use to another.
    prompt = [300 + (7 * index + place * (index + 1)) % 1700 for place in range(length)]
    body = json.dumps({"prompt": prompt, "max_tokens": 4, "temperature": 0})
    try:
        connection = http.client.HTTPConnection(host, port, timeout=300)
        connection.request("POST", "/v1/completions", body, headers)
        answer = connection.getresponse()
        document = json.loads(answer.read())
        connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        document = {"error": repr(error)}
    if "choices" not in document:
        sys.stdout.write(f"{document}\n")
        return False
    return document["usage"]["prompt_tokens"] == length


def until_answered(index: int) -> None:
    while not ask(index):
        time.sleep(1)


threads = [threading.Thread(target=until_answered, args=(index,)) for index in range(askers)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.stdout.write("all answered\n")
