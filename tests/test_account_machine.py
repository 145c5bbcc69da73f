"""Compare accounts, sessions and mailed codes with a plain model of them, by random requests."""

from functools import partial

import anyio.to_thread
from fastapi import FastAPI
from hypothesis import seed
from hypothesis.stateful import run_state_machine_as_test

from tests.support.account_machine import AccountMachine
from tests.support.clients import client_of
from tests.support.mailbox import Mailbox
from tests.test_state_machine import RUNS, SETTINGS

# A seed with which the few runs reach most kinds of requests.
SEED = 4


async def test_accounts_behave_like_a_plain_model_of_them(empty_app: FastAPI, mailbox: Mailbox):
    async with client_of(empty_app) as shared_client:

        class AccountMachineOfApp(AccountMachine):
            app = empty_app
            client = shared_client

        AccountMachineOfApp.mailbox = mailbox
        if not RUNS:
            seed(SEED)(AccountMachineOfApp)
        run = partial(run_state_machine_as_test, AccountMachineOfApp, settings=SETTINGS)
        await anyio.to_thread.run_sync(run)
