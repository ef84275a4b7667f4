"""What somebody does to hosts by hand, and which tasks of the next run mend it."""

# By host: something of each kind that a run looks at, changed by hand: files, modes, units, environments, and what steps
# leave when they are complete; and the tasks that mend it.
_VENVS = "/opt/ai-assist/releases/*/venvs"
BY_HAND: dict[str, tuple[str, set[str]]] = {
    "gw1": (
        "chmod 777 /etc/ai-assist/tls && rm /etc/logrotate.d/ai-assist && systemctl stop ai-assist-front"
        " && echo '# mine' >>/etc/ai-assist/redis/cache.conf && chmod 644 /etc/ai-assist/keys/keys.json"
        " && rm /var/lib/ai-assist/models/*/*/tokenizer.json",
        {
            "base : Base | users, folders, how long logs are kept",
            "front : Front | serve",
            "gateway : Gateway | keep the vocabulary",
            "gateway : Gateway | serve",
            "redis : Redis | run the cache and the queue",
        },
    ),
    "gpu1": (
        "chmod 777 /var/lib/ai-assist/models && systemctl disable --now ai-assist-worker@0"
        f" && rm {_VENVS}/serving/triton.joined {_VENVS}/tools/bootstrap.stamp",
        {
            "base : Base | users, folders, how long logs are kept",
            "queue_worker : Worker | take jobs off the queue",
            "release : Release | an installer for its packages",
            "release : Release | join Triton and its Python backend",
        },
    ),
    "gpu2": (
        f"rm {_VENVS}/serving/libpython.found && rm -r /var/lib/ai-assist/models/*/*"
        f" && rm -r {_VENVS}/gateway/lib/*/site-packages/idna-*.dist-info",
        {
            "model_store : Model | fetch, convert and publish",
            "runtime_venvs : Environments | bring libpython along where the system has none",
            "runtime_venvs : Environments | install the locked packages",
        },
    ),
}
