"""Starts Patroni with two changes, without which tests can't wait for what it does."""

import sys


def allow_short_times():
    """Newer versions raise a `ttl` below 20 s: a long time in a test."""
    from patroni.config import Config

    Config._validate_and_adjust_timeouts = lambda *_: None


def keep_the_successors_key():
    """Before 3.0.3 a leader that wakes up may overwrite the key of its successor, depending on
    which of its threads runs first (https://github.com/patroni/patroni/pull/2689). The cluster
    then falls back to the older timeline, and a standby that has seen the newer one is stuck.
    """
    from patroni.version import __version__

    if tuple(int(part) for part in __version__.split(".")[:3]) >= (3, 0, 3):
        return
    from patroni.dcs.etcd3 import Etcd3, base64_encode

    update_leader = Etcd3._update_leader

    def careful_update_leader(self):
        plain_put = self._client.put
        answers = [True]

        def put(key, value, lease=None, *rest, **more):
            if key != self.leader_path:
                return plain_put(key, value, lease, *rest, **more)
            fields = {"key": base64_encode(key), "value": base64_encode(value), "lease": lease}
            for compare in (
                {"target": "VALUE", "value": fields["value"]},
                {"target": "CREATE", "create_revision": 0},
            ):
                compare["key"] = fields["key"]
                if self._client.txn(compare, {"request_put": fields}, more.get("retry")):
                    return True
            answers.append(False)
            return False

        self._client.put = put
        try:
            return update_leader(self) and all(answers)
        finally:
            del self._client.put

    Etcd3._update_leader = careful_update_leader


# Patroni's own child processes import this file again.
if __name__ == "__main__":
    allow_short_times()
    keep_the_successors_key()
    from patroni.__main__ import main

    sys.exit(main())
