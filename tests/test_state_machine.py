"""Compare the service with plain models of it, by random requests."""

import os
from functools import partial

import anyio.to_thread
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.support.account_machine import AccountMachine
from tests.support.blog_machine import BlogMachine
from tests.support.clients import ChangeSettings, client_of
from tests.support.mailbox import Mailbox

# By default a few short runs, always the same; with `MODEL_RUNS=100`, that many long random ones.
RUNS = int(os.environ.get("MODEL_RUNS", "0"))
# Seeds with which the few runs reach most kinds of requests.
SEED = 4
ACCOUNTS_SEED = 2
SETTINGS = settings(
    max_examples=RUNS or 6,
    stateful_step_count=40 if RUNS else 20,
    deadline=None,
    database=None,
    report_multiple_bugs=False,
    phases=(Phase.generate, Phase.shrink),
    # Each step sends several requests.
    suppress_health_check=[HealthCheck.too_slow],
)


async def test_the_service_behaves_like_a_plain_model_of_it(
    empty_app: FastAPI, change_settings: ChangeSettings
):
    # The machine changes settings, which the fixture restores.
    change_settings()
    async with client_of(empty_app) as shared_client:

        class BlogMachineOfApp(BlogMachine):
            app = empty_app
            client = shared_client
            is_thorough = bool(RUNS)

        if not RUNS:
            seed(SEED)(BlogMachineOfApp)
        run = partial(run_state_machine_as_test, BlogMachineOfApp, settings=SETTINGS)
        await anyio.to_thread.run_sync(run)


async def test_accounts_behave_like_a_plain_model_of_them(empty_app: FastAPI, mailbox: Mailbox):
    async with client_of(empty_app) as shared_client:

        class AccountMachineOfApp(AccountMachine):
            app = empty_app
            client = shared_client

        AccountMachineOfApp.mailbox = mailbox
        if not RUNS:
            seed(ACCOUNTS_SEED)(AccountMachineOfApp)
        run = partial(run_state_machine_as_test, AccountMachineOfApp, settings=SETTINGS)
        await anyio.to_thread.run_sync(run)
