"""The use cases of accounts: users, log-in, passwords, API keys."""

from holdfast.accounts.service.api_keys import delete_api_key, get_api_key, list_api_keys, make_api_key
from holdfast.accounts.service.passwords import ask_for_reset, change_password, make_reset_token, reset_password
from holdfast.accounts.service.sessions import TokenMaker, TokenPair, dummy_log_in, log_in, log_out, refresh, start_session
from holdfast.accounts.service.tidying import tidy
from holdfast.accounts.service.users import add_user, change_profile, change_user, get_user, list_users, register

__all__ = [
    "TokenMaker",
    "TokenPair",
    "add_user",
    "ask_for_reset",
    "change_password",
    "change_profile",
    "change_user",
    "delete_api_key",
    "dummy_log_in",
    "get_api_key",
    "get_user",
    "list_api_keys",
    "list_users",
    "log_in",
    "log_out",
    "make_api_key",
    "make_reset_token",
    "refresh",
    "register",
    "reset_password",
    "start_session",
    "tidy",
]
