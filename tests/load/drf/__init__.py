"""The blog in Django REST framework, as its tutorial writes it, on the tables of the service.

Set up in its favor:

- `DEBUG` is off, and of the middleware of `startproject` only the security and the common one run:
  sessions, CSRF, log-ins by cookie and messages, which an API does not need, are left out. So are
  the browsable API and throttling. The settings of Django that are not named are its defaults.
- Gunicorn serves it with threads and keep-alive. It starts three workers, as its documentation
  recommends for one core, with four threads each. That took less CPU time for a request than its
  default (workers without threads, which close each connection), and as much as one worker with
  eight threads. There is no access log.
- Each thread keeps its connection to Postgres (`CONN_MAX_AGE`), and does not check it first.
- A list joins its authors (`select_related`), a post and its counters change in one transaction,
  and the search uses a full-text index of Postgres (`SearchVectorField`), not `LIKE`.

It checks a token wherever the service does: on public routes, if there is one. It does less for a
request: it has no cache, conditional requests, cursors, scopes, rate limits, idempotency keys,
threads of comments, snippets of matches and mails. Counters are changed by `F()`, pages are
counted with `count(*)`. The triggers of the tables run for it too: they count posts, fill its index
of the search, and send notifications, which a service on the same database receives.
"""
