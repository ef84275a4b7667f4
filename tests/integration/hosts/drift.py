"""What somebody does to hosts by hand, and which tasks of the next run mend it."""

# By host: something of each kind that a run looks at, changed by hand: files, modes, units, environments, and what steps
# leave when they are complete; and the tasks that mend it.
_VENVS = "/opt/ai-assist/releases/*/venvs"
BY_HAND: dict[str, tuple[str, set[str]]] = {
    "gw1": (
        "chmod 777 /etc/ai-assist/tls && rm /etc/logrotate.d/ai-assist && systemctl stop ai-assist-nginx"
        " && echo '# mine' >>/etc/ai-assist/redis/cache.conf && chmod 644 /etc/ai-assist/keys/keys.json"
        " && rm /var/lib/ai-assist/models/*/*/tokenizer.json",
        {
            "base : Base | Create the users and folders and limit the logs",
            "nginx : Nginx | Run the configuration",
            "gateway : Gateway | Write the tokenizer",
            "gateway : Gateway | Serve",
            "redis : Redis | Run the cache and the queue",
        },
    ),
    "gpu1": (
        "chmod 777 /var/lib/ai-assist/models && systemctl disable --now ai-assist-worker@0"
        f" && rm {_VENVS}/serving/triton.joined {_VENVS}/tools/bootstrap.stamp",
        {
            "base : Base | Create the users and folders and limit the logs",
            "queue_worker : Worker | Process jobs from the queue",
            "release : Release | Install the package installer",
            "release : Release | Connect Triton with its Python backend",
        },
    ),
    "gpu2": (
        f"rm {_VENVS}/serving/libpython.found && rm -r /var/lib/ai-assist/models/*/*"
        f" && rm -r {_VENVS}/gateway/lib/*/site-packages/idna-*.dist-info",
        {
            "model_store : Model | Fetch, convert and publish the model",
            "runtime_venvs : Environments | Install libpython if the system lacks it",
            "runtime_venvs : Environments | Install the locked packages",
        },
    ),
}
