import sys

sys.path.insert(0, "/tmp/h-a")

import tests.db.test_faults as t

orig = t.Battery.is_settled
state = {"n": 0}


async def is_settled(self):
    r = await orig(self)
    state["n"] += 1
    if not r and state["n"] % 50 == 49:
        rows = await self.saved._connection.fetch(
            "SELECT state, query FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        print(
            self.checked_out(),
            len(self.database._reading_connections),
            [tuple(x) for x in rows],
            file=sys.stderr,
        )
    return r


t.Battery.is_settled = is_settled
