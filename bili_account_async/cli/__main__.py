"""`python -m bili_account_async.cli` is `bili-account`."""

from . import main

main()
