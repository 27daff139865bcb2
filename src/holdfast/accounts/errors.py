"""Refusals of accounts."""

from holdfast.core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated


class EmailTaken(Invalid):
    """An account has this e-mail, in whatever case (400 by the room contract)."""

    message = "An account with this e-mail exists already: log in, or use another e-mail."


class AdminNotOffered(Forbidden):
    """The role admin was chosen at /register in production."""

    message = "Admins are made with the command line: holdfast create-admin."


class WrongCredentials(Unauthenticated):
    """Unknown account, wrong password or no password at all: all alike."""

    message = "E-mail or password is wrong."


class AccountSuspended(Forbidden):
    """The credentials are right, and the account is suspended."""

    message = "This account is suspended: ask an admin."


class RefreshTokenUnknown(Unauthenticated):
    """Never made, over, or of an ended session."""

    message = "This refresh token is not valid any more: log in again."


class RefreshTokenReused(Unauthenticated):
    """Used a second time: either this caller or an earlier one stole it, so the session is over for both."""

    code = "TOKEN_REUSED"
    message = "This refresh token was used before; the session is ended for safety: log in again."


class UserNotFound(NotFound):
    """No such user, or a deleted one."""

    code = "USER_NOT_FOUND"
    message = "There is no such user."


class PasswordWrong(Forbidden):
    """The current password, asked for a change, is wrong."""

    message = "The current password is wrong."


class OwnAccount(Conflict):
    """An admin would take away their own role or suspend themselves."""

    code = "OWN_ACCOUNT"
    message = "You cannot suspend yourself or change your own role: another admin must do it."


class ResetTokenInvalid(Invalid):
    """Never made, used, over, replaced by a newer one, or its user is gone or suspended: all alike."""

    code = "RESET_TOKEN_INVALID"
    message = "This token is not valid any more: ask for a new mail with POST /auth/password-reset."


class ApiKeyNotFound(NotFound):
    """No such key, or not the caller's own: whether others have one is nobody's business."""

    code = "API_KEY_NOT_FOUND"
    message = "You have no such API key."


class ExpiryInPast(Invalid):
    """The key would be over before it is made."""

    message = "expiresAt must be in the future."


class TooManyApiKeys(Conflict):
    """The user has as many keys as one may have."""

    code = "TOO_MANY_API_KEYS"
    message = "You have too many API keys: delete those that you do not need."
